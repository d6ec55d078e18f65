"""Masks are read exactly or refused with the reason: one by one, and as the folder of `bounds --masks`."""

import logging

import numpy as np
import pytest
from image_contents import SAVED, encoded, png, tiff
from ordinary_user import without_root
from PIL import Image

from fcn_jax import bounds, image_files, images
from fcn_jax.errors import UserError

LABEL = np.random.default_rng(0).integers(0, 3, (5, 6), np.uint8)


def of_palette(colors: int, bits: int) -> bytes:
  """The mask with a palette of few colors, which some programs write with few bits."""
  image = Image.fromarray(LABEL)
  image.putpalette([10, 20, 30] * colors)
  return encoded(image, 'PNG', bits=bits)


def test_gray_and_palette_masks_are_read_exactly():
  palette = [(0, 0, 0), (255, 255, 255), (1, 2, 3)]
  contents = [encoded(LABEL, 'PNG'), images.indexed(LABEL, palette), of_palette(3, 2), of_palette(16, 4)]
  contents.append(encoded(Image.fromarray(LABEL), 'PNG', transparency=1))
  for content in contents:
    found = image_files.read_mask(content)
    assert found.dtype == np.uint8 and np.array_equal(found, LABEL)


REFUSED = {
  'JPEG': (encoded(LABEL, 'JPEG'), 'its content is JPEG; expected PNG'),
  'GIF': (encoded(LABEL, 'GIF'), 'its content is GIF; expected PNG'),
  'lossy WebP': (encoded(np.dstack([LABEL] * 3), 'WEBP'), 'its content is WEBP; expected PNG'),
  'TIFF': (tiff(3, 8, bytes(3)), 'its content is TIFF; expected PNG'),
  'RGB': (encoded(np.dstack([LABEL] * 3), 'PNG'), 'its color mode is RGB; expected class numbers, as 8-bit gray'),
  'RGBA': (encoded(np.dstack([LABEL] * 4), 'PNG'), 'its color mode is RGBA'),
  'gray and alpha': (encoded(Image.fromarray(LABEL).convert('LA'), 'PNG'), 'its color mode is LA'),
  '16 bits': (encoded(LABEL.astype(np.uint16), 'PNG'), 'its color mode is I;16'),
  'bool': (encoded(LABEL > 0, 'PNG'), 'its color mode is 1'),
  '2 bits': (png(4, 1, 2, 0, b'\0\x1b'), 'gray with less than 8 bits'),
  '4 bits': (png(2, 1, 4, 0, b'\0\x12'), 'gray with less than 8 bits'),
  'cut': (encoded(np.tile(LABEL, (50, 50)), 'PNG')[:-200], 'truncated'),
  'text': (b'no image', 'its content is unknown; expected PNG'),
  'empty': (b'', 'it is empty'),
}


@pytest.mark.parametrize(('content', 'words'), REFUSED.values(), ids=REFUSED)
def test_what_may_not_be_exact_is_refused_by_content(tmp_path, content, words):
  (tmp_path / 'a.png').write_bytes(encoded(LABEL, 'PNG'))
  path = tmp_path / 'b.PNG'
  path.write_bytes(content)
  with pytest.raises(UserError) as caught:
    bounds.read_masks(tmp_path, 3)
  assert str(caught.value).startswith(f'cannot read {path}: ') and words in str(caught.value)


def test_hidden_files_are_no_masks_and_any_case_of_the_ending_is(tmp_path):
  for name in ('a.png', 'b.PNG', 'd[1].png'):
    (tmp_path / name).write_bytes(encoded(LABEL, 'PNG'))
  (tmp_path / '._a.png').write_bytes(b'of a Mac')
  (tmp_path / '.cache').mkdir()
  (tmp_path / '.cache' / 'a.png').write_bytes(b'a cache')
  (tmp_path / 'readme.txt').write_text('mine')
  found = bounds.read_masks(tmp_path, 3)
  assert len(found) == 3 and all(np.array_equal(label, LABEL) for label in found)


def test_masks_of_other_formats_are_named(tmp_path, caplog):
  (tmp_path / 'a.tif').write_bytes(encoded(LABEL, 'TIFF'))
  (tmp_path / 'b.bmp').write_bytes(encoded(LABEL, 'BMP', **SAVED['BMP']))
  with pytest.raises(UserError, match=f'there is no PNG mask in {tmp_path}; convert its .bmp, .tif files to PNG'):
    bounds.read_masks(tmp_path, 3)
  (tmp_path / 'c.png').write_bytes(encoded(LABEL, 'PNG'))
  with caplog.at_level(logging.WARNING):
    assert len(bounds.read_masks(tmp_path, 3)) == 1
  assert f'the .bmp, .tif files in {tmp_path} are left out' in caplog.text


def test_a_folder_that_cannot_be_read_is_named_with_the_reason(tmp_path):
  file, closed = tmp_path / 'masks.png', tmp_path / 'closed'
  file.write_bytes(encoded(LABEL, 'PNG'))
  closed.mkdir(mode=0)
  reasons = {tmp_path / 'none': 'No such file or directory', closed: 'Permission denied'}
  with without_root():
    for path, reason in reasons.items():
      with pytest.raises(UserError) as caught:
        bounds.read_masks(path, 3)
      assert str(caught.value) == f'cannot read {path}: {reason}'
  with pytest.raises(UserError, match=f'--masks={file} is a file; expected a folder with PNG masks'):
    bounds.read_masks(file, 3)
