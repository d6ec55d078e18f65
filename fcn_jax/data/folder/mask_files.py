"""The files of masks: PNG and BMP with numbers, palettes or colors, and arrays."""

import os

import numpy as np

from fcn_jax import image_files
from fcn_jax.data.folder import arrays
from fcn_jax.errors import UserError

# Lossy formats change class numbers, and programs that write GIF files reorder the palette.
FORMATS = ('PNG', 'BMP')
_SCALES = {'L;2': 85, 'L;4': 17}  # pillow stretches gray of few bits to 0..255


def read_raw(path: os.PathLike) -> np.ndarray:
  """The pixels of a mask: whole numbers [H, W], or colors uint8 [H, W, 3].

  Raises:
    UserError: the file cannot be read, is of a lossy format, or has other pixels.
  """
  if arrays.is_array_file(path):
    found = arrays.read(path)
    found = found[..., 0] if found.shape[-1] == 1 else found
  else:
    with image_files.opened(path) as image:
      _check_format(image.format, path)
      scale = _SCALES.get(str(image.tile[0][3]), 1) if image.mode == 'L' else 1
      found = np.asarray(image.convert('RGB') if image.mode in ('RGB', 'RGBA') else image) // scale
      found = found[..., 0] if image.mode == 'LA' else found
  is_color = found.ndim == 3 and found.shape[-1] in (3, 4) and found.dtype == np.uint8
  if is_color:
    return found[..., :3]
  if found.ndim != 2 or (found.dtype.kind == 'f' and (found != np.round(found)).any()):
    raise UserError(
      f'{path} is {found.dtype} {list(found.shape)}; expected a mask with one whole number per pixel, or 8-bit colors'
    )
  return found.astype(np.int64) if found.dtype.kind == 'f' else found


def _check_format(form: str | None, path: os.PathLike) -> None:
  """Raises a UserError if a format does not keep labels."""
  if form not in FORMATS:
    reason = 'whose palette programs may reorder' if form == 'GIF' else 'whose compression may change labels'
    raise UserError(
      f'the mask {path} is a {form} file, {reason}; expected PNG, BMP, TIFF or NPY: export the masks again'
    )


def palette_of(path: os.PathLike) -> tuple[tuple[int, int, int], ...]:
  """The colors of a mask with a palette; () if it has none, or a gray one."""
  if arrays.is_array_file(path):
    return ()
  with image_files.opened(path) as image:
    values = image.getpalette() if image.mode == 'P' else None
  colors = tuple(zip(values[::3], values[1::3], values[2::3], strict=True)) if values else ()
  return () if all(red == green == blue for red, green, blue in colors) else colors


def header_size(path: os.PathLike) -> tuple[int, int]:
  """Height and width of a mask, from its header."""
  return arrays.size_of(path) if arrays.is_array_file(path) else image_files.size_of(path)
