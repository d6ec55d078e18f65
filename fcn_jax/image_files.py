"""Image files of users: which formats are read, and the pixels as image viewers show them. Contents are not trusted."""

import contextlib
import io
import math
import os
import re
import threading
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from etils import epath
from PIL import Image

from fcn_jax import files

# In pillow's words, PPM being all PNM formats. The content of a file decides, not its name. pillow would read others
# through programs that it starts, for example EPS through Ghostscript.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF', 'JPEG2000', 'PPM')
# The endings that image files are found by in a folder, in lower case.
ENDINGS = ('.jpg', '.jpeg', '.jfif', '.png', '.webp', '.tif', '.tiff', '.bmp', '.gif')
ENDINGS += ('.jp2', '.j2k', '.jpx', '.pnm', '.ppm', '.pgm', '.pbm')

_TURN = Image.Transpose
# What turns the pixels of each EXIF orientation upright; 1 is upright.
_TURNS = {
  2: _TURN.FLIP_LEFT_RIGHT,
  3: _TURN.ROTATE_180,
  4: _TURN.FLIP_TOP_BOTTOM,
  5: _TURN.TRANSPOSE,
  6: _TURN.ROTATE_270,
  7: _TURN.TRANSVERSE,
  8: _TURN.ROTATE_90,
}
_ORIENTATION, _HEIGHT, _BITS, _PHOTOMETRIC = 274, 257, 258, 262  # tags of TIFF; EXIF has the same
_PLANES, _SAMPLE_FORMAT = 284, 339

_lock, _limits = threading.Lock(), []


def size_of(source: os.PathLike | str | bytes, name: str | None = None) -> tuple[int, int]:
  """Height and width of an image after its EXIF rotation. Only the header is read: see `opened` for errors."""
  with opened(source, name=name) as image:
    width, height = image.size
    turned = orientation(image) >= 5 and not _is_turned_by_pillow(image)
    return (width, height) if turned else (height, width)


def read(source: os.PathLike | str | bytes) -> np.ndarray:
  """The first frame of an image as viewers show it: uint8 [H, W, 3], upright, transparency over white.

  Raises:
    UserError: as in `opened`; or the values have no scale that viewers agree on, such as 32-bit integers; or values
      of more than 8 bits are so small that all would be black, such as those of 12 bits in a file of 16.
  """
  with opened(source) as image:
    return pixels(image)


def pixels(image: Image.Image) -> np.ndarray:
  """The pixels of an image that is `opened`, as `read` returns them. Raises: ValueError: the reasons of `read`."""
  turn, is_deep = orientation(image), has_more_bits(image)  # before pillow turns a TIFF
  image.load()
  upright = image.format == 'TIFF' or turn == 1
  if image.mode.startswith(('I', 'F')):
    image = _gray(image)
  if is_deep and max(high for _, high in image.convert('RGB').getextrema()) < 16:
    raise ValueError('its values are so small that all would be black; scale them, or save 8-bit values')
  if image.has_transparency_data:
    image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image.convert('RGBA'))
  image = image.convert('RGB')
  return np.asarray(image if upright else image.transpose(_TURNS[turn]))


def has_more_bits(image: Image.Image) -> bool:
  """Whether an image that is `opened`, and not loaded, has more than 8 bits; pillow reads RGB of 16 bits as 8."""
  return image.mode.startswith(('I', 'F')) or ';16' in str(image.tile)


def read_mask(source: os.PathLike | str | bytes, name: str | None = None) -> np.ndarray:
  """The class numbers in a PNG of 8-bit gray or with a palette: uint8 [H, W].

  Raises:
    UserError: as in `opened`, with any other format, or other pixels. Lossy formats change class numbers, and programs
      that write GIF files reorder the palette.
  """
  with opened(source, ('PNG',), name) as image:
    if image.mode not in ('L', 'P'):
      raise ValueError(f'its color mode is {image.mode}; expected class numbers, as 8-bit gray or with a palette')
    if image.mode == 'L' and image.tile[0][3] != 'L':
      raise ValueError('it is gray with less than 8 bits, which programs scale in different ways; expected 8 bits')
    return np.asarray(image)


@contextlib.contextmanager
def opened(
  source: os.PathLike | str | bytes, formats: Sequence[str] = FORMATS, name: str | None = None
) -> Iterator[Image.Image]:
  """Opens an image of one of `formats` and reads its header; pillow reads the pixels when the caller asks for them.

  A file may have any number of pixels: compare `image.size` with the memory first. For the content of a file, pillow's
  limit applies.

  Args:
    source: a path, or the content of a file.
    formats: see `FORMATS`.
    name: what errors call the image. Default: the path.

  Raises:
    UserError: there is no such file, it is not a plain file, has another format, or is damaged. Any error within the
      block counts as damage, because each of pillow's readers raises its own exceptions.
  """
  is_content = isinstance(source, bytes)
  name = name or ('the image' if is_content else os.fspath(source))
  file = io.BytesIO(source) if is_content else files.opened(epath.Path(source))
  limit = contextlib.nullcontext() if is_content else _without_limit()
  with file, files.explained(name), limit, _identified(file, formats) as image:
    yield image


def _identified(file: BinaryIO, formats: Sequence[str]) -> Image.Image:
  """A pillow image with its header read. Raises: ValueError: another format, or too few bytes for its size."""
  start = file.read(16)
  file.seek(0)
  try:
    image = Image.open(file, formats=formats)
  except Image.UnidentifiedImageError as error:
    Image.init()
    found = [form for form in FORMATS if Image.OPEN[form][1](start)]
    if not start:
      raise ValueError('it is empty') from error
    if found and found[0] in formats:
      raise ValueError(f'it is damaged, or a variant of {found[0]} that is not supported') from error
    raise ValueError(f'its content is {(found or ["unknown"])[0]}; expected {", ".join(formats)}') from error
  # A JPEG has at least one bit per block of 8x8 pixels, or per four blocks if colors are subsampled. pillow would fill
  # what is missing with gray. An arithmetic coder (frames 0xC9 and 0xCA) may take less. Other formats end in an error.
  blocks = math.prod(-(-length // 8) for length in image.size)
  if image.format in ('JPEG', 'MPO') and 32 * file.seek(0, os.SEEK_END) < blocks:
    file.seek(0)
    if not re.search(b'\xff[\xc9\xca]', file.read()):
      width, height = image.size
      raise ValueError(f'its {file.tell()} bytes are too few for the {width}x{height} pixels in its header')
  # In a GIF, 12 bits stand for at most 4096 pixels. The screen may be larger than its frames.
  if image.format == 'GIF' and math.prod(image.size) > 2731 * file.seek(0, os.SEEK_END):
    raise ValueError(f'its {file.tell()} bytes are too few for the {image.width}x{image.height} pixels in its header')
  # pillow would leave the rows for which a TIFF has no strip black.
  if image.format == 'TIFF' and max((tile[1][3] for tile in image.tile), default=0) < image.tag_v2[_HEIGHT]:
    raise ValueError(f'it has no pixels for some of its {image.tag_v2[_HEIGHT]} rows')
  # pillow would take the low and high bytes of one color for two colors.
  if image.format == 'TIFF' and image.tag_v2.get(_PLANES) == 2 and max(image.tag_v2.get(_BITS, (1,))) > 8:
    raise ValueError('it has more than 8 bits and a plane for each color; save it with interleaved colors, or 8 bits')
  return image


@contextlib.contextmanager
def _without_limit() -> Iterator[None]:
  """Lifts pillow's limit on the number of pixels, which is one for all threads; the last to leave restores it."""
  with _lock:
    _limits.append(Image.MAX_IMAGE_PIXELS)
    Image.MAX_IMAGE_PIXELS = None
  try:
    yield
  finally:
    with _lock:
      limit = _limits.pop()
      if not _limits:
        Image.MAX_IMAGE_PIXELS = limit


def orientation(image: Image.Image) -> int:
  """The EXIF orientation, 1 to 8, from the header alone; 1 if there is none, or it is damaged, as in viewers."""
  try:
    if image.format == 'PNG':
      _find_exif(image)
    found = Image.Image.getexif(image).get(_ORIENTATION)  # not PngImageFile.getexif, which decodes the image
  except Exception:  # as in `opened`
    found = 1
  return found if found in _TURNS else 1


def _find_exif(image: Image.Image) -> None:
  """Adds the EXIF data that a PNG has after its pixels, where pillow finds them only when it decodes the image."""
  file = image.fp
  place = file.tell()
  file.seek(8)
  while 'exif' not in image.info and len(head := file.read(8)) == 8:
    length = int.from_bytes(head[:4], 'big')
    if head[4:] == b'eXIf':
      image.info['exif'] = file.read(length)
    else:
      file.seek(length + 4, os.SEEK_CUR)
  file.seek(place)


def _is_turned_by_pillow(image: Image.Image) -> bool:
  """Whether `image.size` already has the axes swapped: of a TIFF, unless only its XMP data have the orientation."""
  return image.format == 'TIFF' and _ORIENTATION in image.tag_v2


def _gray(image: Image.Image) -> Image.Image:
  """8-bit gray from 16-bit integers or floats. Raises: ValueError: there is no common scale for the values."""
  tags = image.tag_v2 if image.format == 'TIFF' else {}
  values, bits = np.asarray(image), tags.get(_BITS, (16,))[0]
  if values.dtype == np.int32 and bits == 32 and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1:
    values = values.view(np.uint32)  # pillow has no unsigned type
  if np.isnan(values).any():
    raise ValueError('some of its values are NaN, which is no number; expected 0 to 1, or 8-bit values')
  low, high, top = values.min(), values.max(), 1 if image.mode == 'F' else 2**bits - 1
  is_signed_or_large = tags and image.mode == 'I'  # or both: pillow does not distinguish
  if is_signed_or_large or not 0 <= low <= high <= top:
    found, expected = ('float', '0 to 1') if image.mode == 'F' else (f'{bits}-bit integer', 'unsigned 16-bit values')
    raise ValueError(f'it has {found} values from {low:g} to {high:g}; expected {expected}, or 8-bit values')
  gray = np.round(values * 255) if image.mode == 'F' else values >> (bits - 8)
  if 'transparency' in image.info:
    gray[values == image.info['transparency']] = 255
  return Image.fromarray((255 - gray if tags.get(_PHOTOMETRIC) == 0 else gray).astype(np.uint8))
