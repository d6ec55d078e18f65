"""Files that hold arrays: TIFF and NPY, with any number of channels, of 8 or 16 bits or float."""

import os

import numpy as np
import tifffile
from PIL import Image

from fcn_jax import files, image_files
from fcn_jax.errors import UserError

_TIFF, _NPY = ('.tif', '.tiff'), '.npy'
_MOST_CHANNELS = 1024


def is_array_file(path: os.PathLike) -> bool:
  """Whether the ending of the file is one of those that this module reads."""
  return os.path.splitext(os.fspath(path))[1].lower() in (*_TIFF, _NPY)


def is_plain(path: os.PathLike) -> bool:
  """Whether an image is one of 8 bits with colors or gray, which viewers show in one way."""
  if os.fspath(path).lower().endswith(_NPY):
    return False
  if is_array_file(path):
    shape, _, dtype = _tiff_header(path)
    return dtype == np.uint8 and (len(shape) == 2 or shape[-1] == 3 or (shape[-1] == 4 and _has_alpha(path)))
  with image_files.opened(path) as image:
    return not image_files.has_more_bits(image)


def read_plain(path: os.PathLike) -> np.ndarray | None:
  """An image of 8 bits as viewers show it, uint8 [H, W, 3]; None if it is another one (`is_plain`)."""
  if is_array_file(path):
    return image_files.read(path) if is_plain(path) else None
  with image_files.opened(path) as image:
    return None if image_files.has_more_bits(image) else image_files.pixels(image)


def read(path: os.PathLike) -> np.ndarray:
  """The values of an image, [H, W, C], in the type of the file.

  Raises:
    UserError: the file cannot be read, or its array is not an image.
  """
  if not is_array_file(path):
    with image_files.opened(path) as image:
      found = np.asarray(image)
    return found if found.ndim == 3 else found[..., None]
  with files.explained(path), files.opened(files.path(path)) as file:
    if os.fspath(path).lower().endswith(_NPY):
      found, axes = np.load(file, allow_pickle=False), ''
    else:
      with tifffile.TiffFile(file) as tiff:
        found, axes = _first(tiff).asarray(), _first(tiff).axes
  return _channels_last(found, axes, path)


def size_of(path: os.PathLike) -> tuple[int, int]:
  """Height and width of an image, from the header of its file. Raises: UserError: as `read`."""
  return shape_of(path)[:2]


def shape_of(path: os.PathLike) -> tuple[int, int, int]:
  """Height, width and channels of an image, from the header of its file. Raises: UserError: as `read`."""
  if not is_array_file(path):
    with image_files.opened(path) as image:
      return image.height, image.width, len(image.getbands())
  if os.fspath(path).lower().endswith(_NPY):
    with files.explained(path):
      shape, axes = np.load(path, mmap_mode='r', allow_pickle=False).shape, ''
  else:
    shape, axes, _ = _tiff_header(path)
  height, width, channels = _channels_last(np.broadcast_to(np.uint8(0), shape), axes, path).shape
  return height, width, channels


def dtype_of(path: os.PathLike) -> np.dtype:
  """The type of the values, from the header of the file where it has one. Raises: UserError: as `read`."""
  if os.fspath(path).lower().endswith(_NPY):
    with files.explained(path):
      return np.load(path, mmap_mode='r', allow_pickle=False).dtype
  if is_array_file(path):
    return _tiff_header(path)[2]
  with image_files.opened(path) as image:
    return np.asarray(Image.new(image.mode, (1, 1))).dtype


def _tiff_header(path: os.PathLike) -> tuple[tuple[int, ...], str, np.dtype]:
  with files.explained(path), files.opened(files.path(path)) as file, tifffile.TiffFile(file) as tiff:
    return _first(tiff).shape, _first(tiff).axes, _first(tiff).dtype


def _first(tiff: tifffile.TiffFile) -> tifffile.TiffPageSeries:
  if not tiff.series:
    raise ValueError('it has no image')
  return tiff.series[0]


def _has_alpha(path: os.PathLike) -> bool:
  """Whether the fourth channel of a TIFF is transparency or black ink, and not, for example, near infrared."""
  with files.explained(path), files.opened(files.path(path)) as file, tifffile.TiffFile(file) as tiff:
    page = tiff.pages.first
    return page.photometric == tifffile.PHOTOMETRIC.SEPARATED or 0 < sum(page.extrasamples) <= 2


def _channels_last(found: np.ndarray, axes: str, path: os.PathLike) -> np.ndarray:
  """An array as [H, W, C]. If a TIFF does not name the axis of the channels, S or C, it is the shortest one."""
  if found.ndim == 3:
    named = [axis for axis, name in enumerate(axes) if name in 'SC']
    found = np.moveaxis(found, named[0] if len(named) == 1 else int(np.argmin(found.shape)), -1)
  found = found[..., None] if found.ndim == 2 else found
  if found.ndim != 3 or 0 in found.shape or found.shape[-1] > _MOST_CHANNELS or found.dtype.kind not in 'uifb':
    raise UserError(f'{path} has an array of {found.dtype} {list(found.shape)}; expected an image [H, W] or [H, W, C]')
  return found
