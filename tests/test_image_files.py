"""Image files are read as image viewers show them, or refused if viewers do not agree."""

import io
import struct

import numpy as np
import pytest
from image_contents import SAVED, chunk, encoded, png, tiff
from photos import drawing, rotated
from PIL import Image, ImageOps, PngImagePlugin

from fcn_jax import image_files
from fcn_jax.errors import UserError

BLOCKS = np.kron(drawing(2, 3), np.ones((16, 16, 1), np.uint8))  # a JPEG changes these little
TURNED = {
  1: lambda x: x,
  2: lambda x: x[:, ::-1],
  3: lambda x: x[::-1, ::-1],
  4: lambda x: x[::-1],
  5: lambda x: x.swapaxes(0, 1),
  6: lambda x: np.rot90(x, -1),
  7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
  8: lambda x: np.rot90(x),
}


def grays(source) -> list[int]:
  """The values of an image of one row, which must be gray."""
  (row,) = image_files.read(source)
  assert (row == row[:, :1]).all()
  return row[:, 0].tolist()


# Formats and orientations.


@pytest.mark.parametrize('form', SAVED)
def test_pixels_are_read_exactly(tmp_path, form):
  image = drawing(11, 17)
  content = encoded(image, form, **SAVED[form])
  path = tmp_path / 'named.jpg'  # the content counts
  path.write_bytes(content)
  assert np.array_equal(image_files.read(path), image) and np.array_equal(image_files.read(content), image)
  assert image_files.size_of(path) == (11, 17)


@pytest.mark.parametrize('orientation', TURNED)
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'TIFF, LZW', 'TIFF, two pages'])
def test_the_orientation_is_applied_to_the_image_and_its_size(form, orientation):
  content = encoded(BLOCKS, form, exif=rotated(orientation), **SAVED.get(form, {'subsampling': 0}))
  found, right = image_files.read(content), TURNED[orientation](BLOCKS)
  assert found.shape == right.shape == (*image_files.size_of(content), 3)
  assert np.abs(found.astype(int) - right).max() <= (4 if form == 'JPEG' else 0)
  with Image.open(io.BytesIO(content)) as image:
    assert np.array_equal(found, np.asarray(ImageOps.exif_transpose(image).convert('RGB')))


def test_the_orientation_is_found_where_programs_write_it():
  exif, xmp = rotated(6).tobytes(), '<tiff:Orientation>6</tiff:Orientation>'
  plain, text, profile = encoded(BLOCKS, 'PNG'), PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
  text.add_itxt('XML:com.adobe.xmp', xmp)
  profile.add_text('Raw profile type exif', f'\nexif\n{len(exif)}\n{exif.hex()}', zip=True)
  for content in (
    plain[:-12] + chunk(b'eXIf', exif[6:]) + plain[-12:],  # after the pixels
    encoded(BLOCKS, 'PNG', pnginfo=text),
    encoded(BLOCKS, 'PNG', pnginfo=profile),
    encoded(BLOCKS, 'TIFF', tiffinfo={700: xmp.encode()}),
    encoded(BLOCKS, 'WEBP', lossless=True, xmp=xmp.encode()),
  ):
    assert np.array_equal(image_files.read(content), TURNED[6](BLOCKS))
    assert image_files.size_of(content) == (48, 32)


@pytest.mark.filterwarnings('ignore:Corrupt EXIF')
@pytest.mark.parametrize(
  'exif', [b'junk', b'II*\0\xff\xff\xff\xff', rotated(0).tobytes()[6:], rotated(9).tobytes()[6:]]
)
def test_a_damaged_orientation_changes_nothing(exif):
  for form in ('JPEG', 'PNG', 'WEBP'):
    content = encoded(BLOCKS, form, exif=b'Exif\0\0' + exif, **SAVED.get(form, {'subsampling': 0}))
    assert np.abs(image_files.read(content).astype(int) - BLOCKS).max() <= 4
    assert image_files.size_of(content) == BLOCKS.shape[:2]


def test_the_first_frame_is_read():
  frames = [Image.new('RGB', (5, 4), color) for color in ('red', 'blue')]
  for form in ('GIF', 'PNG', 'TIFF', 'WEBP'):
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], **SAVED.get(form, {}))
    assert np.array_equal(image_files.read(content), np.asarray(frames[0]))


def test_each_ending_belongs_to_a_format():
  known = Image.registered_extensions()
  assert {known[ending] for ending in image_files.ENDINGS} == set(image_files.FORMATS)


# Kinds of pixels.


def test_gray_of_8_and_16_bits_and_of_few_bits():
  gray = np.arange(256, dtype=np.uint8).reshape(8, 32)
  expected = np.broadcast_to(gray[..., None], (8, 32, 3))
  deep = gray.astype(np.uint16) * 256 + 255 - gray
  for image, form in ((gray, 'PNG'), (gray, 'TIFF'), (deep, 'PNG'), (deep, 'TIFF'), (deep, 'PPM')):
    assert np.array_equal(image_files.read(encoded(image, form)), expected)
  for form in ('PNG', 'TIFF', 'BMP', 'PPM', 'GIF'):
    bits = encoded(Image.fromarray(gray > 100), form)
    assert np.array_equal(image_files.read(bits), np.where(expected > 100, 255, 0))
  colors = np.dstack([deep, deep // 2, deep // 4])
  content = png(32, 8, 16, 2, b''.join(b'\0' + row.astype('>u2').tobytes() for row in colors))
  assert np.array_equal(image_files.read(content), colors >> 8)
  assert grays(png(4, 1, 2, 0, b'\0\x1b')) == [0, 85, 170, 255]
  assert grays(tiff(2, 12, b'\x80\x0f\xff')) == [128, 255]
  assert grays(tiff(3, 16, struct.pack('<3H', 0, 32768, 65535), photometric=0)) == [255, 127, 0]  # 0 is white


def test_floats_from_0_to_1():
  assert grays(tiff(4, 32, struct.pack('<4f', 0, 0.25, 0.5, 1), sample=3)) == [0, 64, 128, 255]
  assert grays(tiff(3, 32, struct.pack('<3f', 0, 0.2, 1), sample=3, photometric=0)) == [255, 204, 0]
  assert grays(b'Pf\n2 1\n-1\n' + struct.pack('<2f', 0, 1)) == [0, 255]


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (tiff(2, 32, struct.pack('<2f', 0, 255), sample=3), 'float values from 0 to 255; expected 0 to 1'),
    (tiff(2, 32, struct.pack('<2f', -1, 1), sample=3), 'float values from -1 to 1'),
    (tiff(2, 32, struct.pack('<2f', 0, np.nan), sample=3), 'some of its values are NaN'),
    (tiff(2, 32, struct.pack('<2f', 0, 1e-3), sample=3), 'all would be black'),
    (tiff(2, 32, struct.pack('<2i', 0, 255), sample=2), '32-bit integer values from 0 to 255'),
    (tiff(2, 32, struct.pack('<2I', 0, 70000)), '32-bit integer values from 0 to 70000'),
    (tiff(2, 32, struct.pack('<2I', 0, 2**32 - 1)), '32-bit integer values from 0 to 4.29497e+09'),
    (tiff(2, 32, struct.pack('<2i', -1, 0), sample=2), '32-bit integer values from -1 to 0'),
    (tiff(2, 16, struct.pack('<2h', -5, 255), sample=2), '16-bit integer values from -5 to 255'),
    (tiff(2, 16, struct.pack('<2H', 0, 255)), 'all would be black'),
    (png(2, 1, 16, 0, b'\0' + struct.pack('>2H', 0, 4000)), 'all would be black'),
    (png(2, 1, 16, 2, b'\0' + struct.pack('>6H', *range(0, 4200, 700))), 'all would be black'),
    (tiff(2, 16, struct.pack('<6H', *range(6)), photometric=2, samples=3), 'all would be black'),
    (tiff(2, 32, struct.pack('<6f', *range(6)), sample=3, photometric=2, samples=3), 'a variant of TIFF'),
    (tiff(2, 64, struct.pack('<2d', 0, 1), sample=3), 'a variant of TIFF'),
  ],
  ids=lambda x: x if isinstance(x, str) else '',
)
def test_values_without_a_common_scale_are_refused(content, words):
  with pytest.raises(UserError) as caught:
    image_files.read(content)
  assert words in str(caught.value)


def test_transparent_pixels_are_over_white():
  image, alpha = drawing(6, 9), np.zeros((6, 9), np.uint8)
  alpha[:, 3:6], alpha[:, 6:] = 128, 255
  share = alpha[..., None] / 255
  both = np.dstack([image, alpha])
  for content in (encoded(both, 'PNG'), encoded(both, 'TIFF'), encoded(both, 'WEBP', lossless=True, exact=True)):
    assert np.abs(image_files.read(content) - (image * share + 255 * (1 - share))).max() <= 1
  for form in ('PNG', 'TIFF'):
    content = encoded(Image.fromarray(np.dstack([image[..., 0], alpha]), 'LA'), form)
    assert np.abs(image_files.read(content) - (image[..., :1] * share + 255 * (1 - share))).max() <= 1
  assert grays(png(2, 1, 8, 0, b'\0\x10\x20', chunk(b'tRNS', b'\0\x10'))) == [255, 32]
  assert grays(png(3, 1, 16, 0, b'\0\x10\0\x20\0\xff\0', chunk(b'tRNS', b'\x10\0'))) == [255, 32, 255]


@pytest.mark.parametrize('transparent', [None, 7, b'\xff' * 7 + b'\0'], ids=['opaque', 'a number', 'one per color'])
def test_a_palette_image_is_read_as_colors(transparent):
  numbers, colors = np.arange(60, dtype=np.uint8).reshape(6, 10), drawing(256, 1)[:, 0]
  image = Image.fromarray(numbers)
  image.putpalette(colors.tobytes())
  expected = colors[numbers]
  if transparent:
    expected[numbers == 7] = 255
  options = {'transparency': transparent} if transparent else {}
  for form in ('PNG', 'GIF') if isinstance(transparent, int) else ('PNG',):
    assert np.array_equal(image_files.read(encoded(image, form, **options)), expected)


def test_other_colors_become_rgb():
  ink = np.zeros((16, 16, 4), np.uint8)
  ink[:, 8:, 1:3] = 255  # white paper, and magenta and yellow: red
  red = np.full((16, 16, 3), (255, 0, 0), np.uint8)
  paper = np.where(np.arange(16)[:, None] < 8, 255, red)
  contents = [encoded(Image.fromarray(ink, 'CMYK'), 'JPEG', quality=95)]
  contents += [encoded(Image.fromarray(ink, 'CMYK'), 'TIFF')]
  for content in contents:
    assert np.abs(image_files.read(content)[:, [3, 12]].astype(int) - paper[:, [3, 12]]).max() < 10
  for mode, values in (('YCbCr', (76, 85, 255)), ('LAB', (138, 209, 198))):  # red
    content = encoded(Image.new(mode, (16, 16), values), 'TIFF')
    assert np.abs(image_files.read(content).astype(int) - red).max() < 10, mode
