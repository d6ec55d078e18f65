"""`predict` reads any image file as people see it, and gives every output a different name."""

import numpy as np
import pytest
from absl.testing import flagsaver
from command_line import flags_of
from photos import drawing, rotated, save
from PIL import Image

from fcn_jax import predict
from fcn_jax.errors import UserError

# Reading.


def test_an_rgb_image_is_read_exactly(tmp_path):
  image = drawing(11, 17)
  for name, options in (('a.png', {}), ('a.webp', {'lossless': True})):
    assert np.array_equal(predict.read(save(tmp_path / name, image, **options)), image)
  smooth = np.broadcast_to(np.linspace(0, 255, 40).astype(np.uint8)[:, None, None], (40, 60, 3))
  for name in ('a.jpg', 'b.JPEG'):
    found = predict.read(save(tmp_path / name, smooth, quality=95))
    assert np.abs(found.astype(int) - smooth).max() < 8


def test_gray_of_8_and_16_bits_and_of_one_bit(tmp_path):
  gray = np.arange(256, dtype=np.uint8).reshape(8, 32)
  expected = np.broadcast_to(gray[..., None], (8, 32, 3))
  assert np.array_equal(predict.read(save(tmp_path / 'gray.png', gray)), expected)
  deep = save(tmp_path / 'deep.png', gray.astype(np.uint16) * 256 + 255 - gray)
  with Image.open(deep) as image:
    assert image.mode.startswith('I')
  assert np.array_equal(predict.read(deep), expected)
  bits = save(tmp_path / 'bits.png', Image.fromarray(gray > 100))
  assert np.array_equal(predict.read(bits), np.where(expected > 100, 255, 0))


def test_transparent_pixels_are_over_white(tmp_path):
  image, alpha = drawing(6, 9), np.zeros((6, 9), np.uint8)
  alpha[:, 3:6], alpha[:, 6:] = 128, 255
  share = alpha[..., None] / 255
  expected = image * share + 255 * (1 - share)
  rgba = save(tmp_path / 'rgba.png', np.dstack([image, alpha]))
  assert np.abs(predict.read(rgba) - expected).max() <= 1
  webp = save(tmp_path / 'rgba.webp', np.dstack([image, alpha]), lossless=True, exact=True)
  assert np.abs(predict.read(webp) - expected).max() <= 1
  gray = image[..., :1]
  la = save(tmp_path / 'la.png', Image.fromarray(np.dstack([gray, alpha]), 'LA'))
  assert np.abs(predict.read(la) - (gray * share + 255 * (1 - share))).max() <= 1


@pytest.mark.parametrize('transparent', [None, 7, b'\xff' * 7 + b'\0'], ids=['opaque', 'a number', 'one per color'])
def test_a_palette_image_is_read_as_colors(tmp_path, transparent):
  numbers, colors = np.arange(60, dtype=np.uint8).reshape(6, 10), drawing(256, 1)[:, 0]
  image = Image.fromarray(numbers)
  image.putpalette(colors.tobytes())
  path = save(tmp_path / 'p.png', image, **({'transparency': transparent} if transparent else {}))
  with Image.open(path) as opened:
    assert opened.mode == 'P'
  expected = colors[numbers]
  if transparent:
    expected[numbers == 7] = 255
  assert np.array_equal(predict.read(path), expected)


def test_cmyk_is_read_as_rgb(tmp_path):
  ink = np.zeros((16, 16, 4), np.uint8)
  ink[:, 8:, 1:3] = 255  # white paper, and magenta and yellow: red
  path = save(tmp_path / 'cmyk.jpg', Image.fromarray(ink, 'CMYK'), quality=95)
  found = predict.read(path).astype(int)
  assert np.abs(found[:, :6] - 255).max() < 10 and np.abs(found[:, 10:] - [255, 0, 0]).max() < 10


@pytest.mark.parametrize('orientation', [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_the_exif_orientation_is_applied_to_the_image_and_its_size(tmp_path, orientation):
  """0 and 9 are not valid orientations and change nothing."""
  image = drawing(5, 8)
  turn = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
  }.get(orientation, lambda x: x)
  for name, options in (('a.png', {}), ('a.webp', {'lossless': True})):
    path = save(tmp_path / name, image, exif=rotated(orientation), **options)
    found = predict.read(path)
    assert np.array_equal(found, turn(image))
    assert predict.size_of(path) == found.shape[:2]


# Names of outputs.


@pytest.fixture
def files(tmp_path):
  for name in ('a.jpg', 'b.c.PNG', 'sub/a.webp', 'sub/deep/x.jpeg', 'note.txt', 'a.png.txt'):
    path = tmp_path / 'photos' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  (tmp_path / 'photos' / 'folder.jpg').mkdir()
  return tmp_path / 'photos'


def test_images_below_a_folder_keep_their_relative_paths(files):
  expected = {'a.jpg': 'a', 'b.c.PNG': 'b.c', 'sub/a.webp': 'sub/a', 'sub/deep/x.jpeg': 'sub/deep/x'}
  expected = {files / path: name for path, name in expected.items()}
  assert predict.output_names([str(files)], files.parent / 'out') == expected
  (files / 'out').mkdir()
  (files / 'out' / 'a.png').touch()  # of an earlier prediction
  assert predict.output_names([str(files)], files / 'out') == expected


def test_a_file_keeps_its_stem(files):
  arguments = [str(files / 'sub' / 'a.webp'), str(files / 'sub' / 'deep'), str(files / 'note.txt')]
  assert list(predict.output_names(arguments, files.parent / 'out').values()) == ['a', 'x', 'note']
  twice = [str(files / 'a.jpg')] * 2
  assert list(predict.output_names(twice, files.parent / 'out').values()) == ['a']


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['photos/a.jpg', 'photos/sub/a.webp'], ['photos/a.jpg and photos/sub/a.webp would both be written to a.png']),
    (['photos', 'photos/sub/deep/x.jpeg', 'photos/sub/a.webp'], ['would both be written to a.png']),
    (['photos/a.jpg', 'more/a.overlay.jpg'], ['would both be written to a.overlay.png']),
    (['more', '--out=more'], ['more/b.png would be overwritten']),
    (['more/b.png', '--out=more/.'], ['more/b.png would be overwritten']),
    (['photos/nothing.jpg'], ['there is no file or folder photos/nothing.jpg']),
    (['empty'], ['there is no image in empty', '.webp']),
    ([], ['no images', 'photo.jpg folder/']),
  ],
  ids=str,
)
def test_outputs_that_would_overwrite_each_other_or_an_input_are_an_error(files, monkeypatch, arguments, words):
  monkeypatch.chdir(files.parent)
  save(files.parent / 'more' / 'b.png', drawing(2, 2))
  save(files.parent / 'more' / 'a.overlay.jpg', drawing(2, 2))
  (files.parent / 'empty').mkdir()
  before = sorted(files.parent.rglob('*'))
  out = [argument.removeprefix('--out=') for argument in arguments if argument.startswith('--out=')]
  given = [argument for argument in arguments if not argument.startswith('--out=')]
  with (
    flags_of(predict),
    flagsaver.flagsaver(workdir='run', out=(out or ['out'])[0]),
    pytest.raises(UserError) as caught,
  ):
    predict.main(given)
  assert all(word in str(caught.value) for word in words), caught.value
  assert sorted(files.parent.rglob('*')) == before
