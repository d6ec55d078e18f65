"""Image files that are refused: with the reason, at little cost, and without starting a program."""

import os
import socket
import struct
import threading
import time

import numpy as np
import pytest
from image_contents import SAVED, encoded, png, tiff
from ordinary_user import without_root
from photos import drawing
from PIL import Image

from fcn_jax import image_files
from fcn_jax.errors import UserError


def refused(source, reader=image_files.read) -> str:
  with pytest.raises(UserError) as caught:
    reader(source)
  return str(caught.value)


def test_content_never_starts_a_program(tmp_path, monkeypatch):
  program = tmp_path / 'gs'
  program.write_text(f'#!/bin/sh\ntouch {tmp_path}/started\n')
  program.chmod(0o755)
  monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
  path = tmp_path / 'photo.jpg'
  path.write_text('%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{} loop\n')
  for reader in (image_files.read, image_files.size_of, image_files.read_mask):
    for source in (path, path.read_bytes()):
      assert 'its content is unknown; expected ' in refused(source, reader)
  assert not (tmp_path / 'started').exists()


def test_what_is_no_plain_file_is_not_opened(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  os.mkfifo('pipe.png')  # opening it would wait for a writer
  os.mkdir('folder.png')
  with socket.socket(socket.AF_UNIX) as listening:
    listening.bind('socket.png')
    for path, words in {
      'pipe.png': 'pipe.png is a device or pipe; expected a file',
      'socket.png': 'socket.png is a device or pipe; expected a file',
      '/dev/zero': '/dev/zero is a device or pipe; expected a file',
      'folder.png': 'folder.png is a folder; expected a file',
      'none.png': 'cannot read none.png: No such file or directory',
    }.items():
      for reader in (image_files.read, image_files.size_of, image_files.read_mask):
        assert refused(path, reader) == words
  image = tmp_path / 'mine.png'
  image.write_bytes(encoded(drawing(2, 3), 'PNG'))
  image.chmod(0)
  with without_root():
    assert refused(image) == f'cannot read {image}: Permission denied'


@pytest.mark.parametrize('form', [*SAVED, 'JPEG', 'GIF'])
def test_a_file_that_is_cut_is_refused(tmp_path, form):
  content = encoded(drawing(60, 70), form, **SAVED.get(form, {}))
  path = tmp_path / 'a.png'
  for length in (0, 2, 11, 20, len(content) // 2, len(content) - len(content) // 9):
    path.write_bytes(content[:length])
    assert refused(path).startswith(f'cannot read {path}: ')
    assert len(refused(path)) > len(f'cannot read {path}: ') + 8


def with_size(content: bytes, size: int) -> bytes:
  """A JPEG whose header has another height and width."""
  place = max(content.find(marker) for marker in (b'\xff\xc0\0\x11', b'\xff\xc2\0\x11')) + 5
  return content[:place] + struct.pack('>HH', size, size) + content[place + 4 :]


@pytest.mark.parametrize('progressive', [False, True])
def test_a_jpeg_with_too_few_bytes_for_its_size_is_refused_by_its_header(progressive):
  """Without that, pillow shows what is missing as gray."""
  content = encoded(drawing(16, 16), 'JPEG', progressive=progressive)
  start = time.perf_counter()
  for reader in (image_files.read, image_files.size_of):
    words = f'its {len(content)} bytes are too few for the 9000x9000 pixels in its header'
    assert words in refused(with_size(content, 9000), reader)
  assert time.perf_counter() - start < 0.5  # seconds
  for mode in ('L', 'RGB'):
    black = encoded(Image.new(mode, (2000, 1500)), 'JPEG', progressive=progressive, optimize=True)
    assert image_files.size_of(black) == (1500, 2000)


def test_a_gif_whose_screen_is_much_larger_than_its_bytes_allow_is_refused_by_its_header():
  content = encoded(drawing(4, 4), 'GIF')
  large = content[:6] + struct.pack('<HH', 9000, 9000) + content[10:]
  for reader in (image_files.read, image_files.size_of):
    assert 'bytes are too few for the 9000x9000 pixels in its header' in refused(large, reader)
  for side in (1, 100, 3000):
    assert image_files.read(encoded(Image.new('P', (side, side)), 'GIF')).shape == (side, side, 3)


def test_a_tiff_without_all_its_rows_is_refused_by_its_header():
  """pillow leaves the missing rows black."""
  assert image_files.size_of(tiff(2, 8, b'ab')) == (1, 2)
  for reader in (image_files.read, image_files.size_of):
    assert 'no pixels for some of its 9000 rows' in refused(tiff(2, 8, b'ab', height=9000), reader)


@pytest.mark.parametrize('samples', [1, 3])
def test_deep_colors_in_planes_are_refused_and_those_of_8_bits_are_read(samples):
  """pillow takes the bytes of the deep ones in the wrong order."""
  colors = drawing(1, 5)[..., :samples]
  photometric = 2 if samples == 3 else 1
  found = image_files.read(tiff(5, 8, colors.tobytes(), samples=samples, photometric=photometric))
  assert np.array_equal(found, np.broadcast_to(colors, found.shape))
  deep = tiff(5, 16, bytes(10 * samples), samples=samples, photometric=photometric, planes=2)
  for reader in (image_files.read, image_files.size_of):
    assert 'more than 8 bits and a plane for each color; save it with' in refused(deep, reader)


def test_a_huge_size_costs_nothing_before_the_pixels_are_read(tmp_path):
  path = tmp_path / 'a.png'
  path.write_bytes(png(60000, 50000, 8, 2, bytes(100)))
  start = time.perf_counter()
  assert image_files.size_of(path) == (50000, 60000)
  assert time.perf_counter() - start < 0.5  # seconds


def test_pillows_limit_applies_to_contents_only_and_is_restored(tmp_path, monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 200)
  path = tmp_path / 'a.tif'
  path.write_bytes(encoded(drawing(30, 30), 'TIFF'))
  assert image_files.read(path).shape == (30, 30, 3) and image_files.size_of(path) == (30, 30)
  assert 'exceeds limit' in refused(path.read_bytes())
  inside, leave = threading.Barrier(2), threading.Event()

  def reads_longer():
    with image_files.opened(path):
      inside.wait(10)
      leave.wait(10)

  thread = threading.Thread(target=reads_longer)
  thread.start()
  with image_files.opened(path):
    inside.wait(10)
  assert image_files.read(path).shape == (30, 30, 3)
  leave.set()
  thread.join()
  assert Image.MAX_IMAGE_PIXELS == 200
