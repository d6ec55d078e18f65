"""Images that are made smaller when they are read (`data.resize`), so that training and evaluation fit the memory."""

import numpy as np
from PIL import Image


def sizes(original: np.ndarray, longest: int) -> np.ndarray:
  """Heights and widths after resizing.

  Args:
    original: heights and widths, int [..., 2].
    longest: the most pixels that the longer side has afterwards; 0 resizes nothing. Smaller images keep their size.

  Returns:
    int [..., 2], with the aspect ratio kept, and each side at least 1.
  """
  original = np.asarray(original, np.int64)
  longer = original.max(-1, keepdims=True)
  if not longest:
    return original
  resized = (2 * original * longest + longer) // (2 * longer)  # rounded to the nearest whole pixel
  return np.where(longer > longest, np.maximum(resized, 1), original)


def resized(
  inputs: dict[str, np.ndarray], labels: dict[str, np.ndarray], longest: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Inputs, uint8 [h, w, C] by stream, and labels, uint8 [h, w] by head, of an image of another size; see `sizes`.

  Inputs are averaged (bilinear resampling with antialiasing); a label is that of the nearest pixel, with pixels as
  squares whose outer edges coincide before and after.

  Args:
    inputs: uint8 [H, W, C] by stream; may be empty.
    labels: uint8 [H, W] by head; may be empty.
    longest: the most pixels that the longer side has afterwards; 0 resizes nothing.
  """
  size = sizes(np.array(next(iter((inputs or labels).values())).shape[:2]), longest)
  smaller = {name: _averaged(x, size) for name, x in inputs.items()}
  return smaller, {name: nearest(x, size) for name, x in labels.items()}


def nearest(label: np.ndarray, size: tuple[int, int] | np.ndarray) -> np.ndarray:
  """Class numbers uint8 [H, W] at another height and width: those of the nearest pixels."""
  height, width = map(int, size)
  if label.shape == (height, width):
    return label
  return np.asarray(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))


def _averaged(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
  height, width = map(int, size)
  if pixels.shape[:2] == (height, width):
    return pixels
  if pixels.shape[-1] != 3:  # of four channels, pillow would take the last one as transparency
    return np.stack([_averaged_bands(channel, height, width) for channel in np.moveaxis(pixels, -1, 0)], axis=-1)
  return _averaged_bands(pixels, height, width)


def _averaged_bands(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
  """First horizontally, then vertically: pillow would choose the order, in each of its versions differently."""
  image, bilinear = Image.fromarray(pixels), Image.Resampling.BILINEAR
  return np.asarray(image.resize((width, image.height), bilinear).resize((width, height), bilinear))
