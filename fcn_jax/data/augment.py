"""How training images are changed: jitter, scale, crop or pad, flip, brightness, contrast, saturation.

What is drawn for an image (`draw`) is separate from its application: on the host, with pillow (`augment`), or within
the training step (`device_augment.py`).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageStat

from fcn_jax.data.dataset import IGNORE, Example

GRAY = (0.299, 0.587, 0.114)  # weights of R, G and B (ITU-R 601), as in pillow


class Window(NamedTuple):
  """What is cut out of one axis of an image, and how it is resampled.

  Attributes:
    first: the first pixel of the image that may be read.
    length: the number of pixels, from `first` on, that may be read.
    start: where the window starts, in pixels after `first`.
    end: where the window ends.
    size: the number of pixels that the window is resampled to.
  """

  first: int
  length: int
  start: float
  end: float
  size: int

  @property
  def scale(self) -> float:
    """Pixels of the image per pixel of the result."""
    return (self.end - self.start) / self.size


class Draws(NamedTuple):
  """The random draws for one image.

  Attributes:
    rows: the vertical window.
    columns: the horizontal window.
    flip: whether left and right are exchanged after resampling.
    colors: factors of brightness, contrast and saturation; None if they do not change.
  """

  rows: Window
  columns: Window
  flip: bool
  colors: tuple[float, ...] | None


def draw(shape: tuple[int, ...], rng: np.random.Generator, data, *, recolors: bool = True) -> Draws:
  """Draws the augmentation of one image.

  Args:
    shape: height and width of the image.
    rng: the source of randomness.
    data: the section `data` of the config.
    recolors: whether the example has colors to change (`recolors`).
  """
  views = [(0, length) for length in shape[:2]]
  if data.jitter:
    views = [_shifted(length, data.jitter, rng) for length in shape[:2]]
  factor = math.exp(_uniform(rng, *map(math.log, data.scale)))  # halving is as likely as doubling
  windows = [_window(*view, factor, room, rng) for view, room in zip(views[::-1], data.train_size[::-1], strict=True)]
  flip, colors, amounts = rng.random() < data.flip, None, (data.brightness, data.contrast, data.color)
  if recolors and any(amounts):
    colors = tuple(_uniform(rng, 1 - x, 1 + x) for x in amounts)
  return Draws(windows[1], windows[0], flip, colors)


def recolors(inputs: dict[str, np.ndarray]) -> bool:
  """Whether there is a stream 'rgb' of three channels, the only one whose colors change."""
  return 'rgb' in inputs and inputs['rgb'].shape[-1] == 3


def augment(example: Example, rng: np.random.Generator, data) -> dict:
  """Augments one training example; a pure function of its arguments.

  The same geometric change is applied to all streams and all heads. Brightness, contrast and saturation are applied to
  the stream 'rgb' only.

  Args:
    example: with inputs, uint8 [H, W, C] by stream, and labels, uint8 [H, W] by head.
    rng: the source of randomness.
    data: the section `data` of the config.

  Returns:
    The example on a canvas of `data.train_size`: see `on_canvas`.
  """
  shape = next(iter(example['inputs'].values())).shape
  return on_canvas(*applied(example, draw(shape, rng, data, recolors=recolors(example['inputs']))), data.train_size)


def applied(example: Example, draws: Draws) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """The augmented inputs, uint8 [h, w, C] by stream, and labels, uint8 [h, w] by head, without padding."""
  inputs, labels, rows, columns = cut(example, draws)

  def moved(pixels: np.ndarray, resampling) -> Image.Image:
    image = _resized(Image.fromarray(pixels), rows, columns, resampling)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws.flip else image

  def moved_stream(name: str, pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[-1] != 3:
      return np.stack([moved(channel, Image.Resampling.BILINEAR) for channel in np.moveaxis(pixels, -1, 0)], axis=-1)
    image = moved(pixels, Image.Resampling.BILINEAR)
    return np.asarray(recolored(image, *draws.colors) if name == 'rgb' and draws.colors else image)

  # Class numbers cannot be interpolated.
  nearest = {name: np.asarray(moved(label, Image.Resampling.NEAREST)) for name, label in labels.items()}
  return {name: moved_stream(name, pixels) for name, pixels in inputs.items()}, nearest


def cut(example: Example, draws: Draws):
  """The part of an example that resampling reads: a view, so that an image costs no more than its window.

  Returns:
    Inputs by stream, labels by head, and the windows of rows and columns in them.
  """
  (top, bottom, rows), (left, right, columns) = _needed(draws.rows), _needed(draws.columns)
  inputs = {name: x[top:bottom, left:right] for name, x in example['inputs'].items()}
  return inputs, {name: x[top:bottom, left:right] for name, x in example['labels'].items()}, rows, columns


def _needed(window: Window) -> tuple[int, int, Window]:
  """First and end of the pixels of the image that resampling reads, and the window in them."""
  reach = max(window.scale, 1.0) + 1  # that of bilinear resampling; and a pixel, for rounding
  low, high = max(math.floor(window.start - reach), 0), min(math.ceil(window.end + reach), window.length)
  inside = Window(0, high - low, window.start - low, window.end - low, window.size)
  return window.first + low, window.first + high, inside


def _resized(image: Image.Image, rows: Window, columns: Window, resampling) -> Image.Image:
  """First horizontally, then vertically. pillow would choose the order, in each of its versions differently."""
  box = columns.start, rows.start, columns.end, rows.end
  if resampling == Image.Resampling.NEAREST:
    return image.resize((columns.size, rows.size), resampling, box)
  image = image.resize((columns.size, image.height), resampling, (columns.start, 0, columns.end, image.height))
  return image.resize((columns.size, rows.size), resampling, (0, rows.start, columns.size, rows.end))


def on_canvas(inputs: dict[str, np.ndarray], labels: dict[str, np.ndarray], canvas: tuple[int, int]) -> dict:
  """An image in the top left of a canvas (height, width) that is at least as large.

  Args:
    inputs: uint8 [h, w, C] by stream; may be empty.
    labels: uint8 [h, w] by head; may be empty.
    canvas: height H and width W.

  Returns:
    inputs, uint8 [H, W, C] by stream, padded with 0; labels, uint8 [H, W] by head, padded with 255; size, int32 [2],
    h and w.
  """
  into = {name: np.empty((*canvas, x.shape[-1]), np.uint8) for name, x in inputs.items()}
  labels_into = {name: np.empty(tuple(canvas), np.uint8) for name in labels}
  size = place((inputs, labels), (into, labels_into))
  return {'inputs': into, 'labels': labels_into, 'size': np.array(size, np.int32)}


def place(image: Sequence[dict[str, np.ndarray]], into: Sequence[dict[str, np.ndarray]]) -> tuple[int, int]:
  """Copies inputs and labels into canvases, and pads them; see `on_canvas`. Returns height and width of the image."""
  height, width = next(iter((image[0] or image[1]).values())).shape[:2]
  for arrays, canvases, padding in zip(image, into, (0, IGNORE), strict=True):
    for name, x in arrays.items():
      canvases[name][:height, :width] = x
      canvases[name][height:] = padding
      canvases[name][:height, width:] = padding
  return height, width


def recolored(image: Image.Image, brightness: float, contrast: float, color: float) -> Image.Image:
  """An RGB image changed by these factors, like pillow's `ImageEnhance` applied in this order; 1 changes nothing.

  Each change is affine in the color of a pixel, and so is their composition. One pass takes a quarter of the time of
  three, and rounds and clips only at the end.
  """
  *matrix, of_mean = color_change(brightness, contrast, color)
  offset = of_mean * ImageStat.Stat(image.convert('L')).mean[0]
  return image.convert('RGB', (*matrix[:3], offset, *matrix[3:6], offset, *matrix[6:], offset))


def color_change(brightness: float, contrast: float, color: float) -> list[float]:
  """The composition of the changes: a matrix for colors, row by row, and the factor of the image's mean gray level."""
  both = brightness * contrast
  matrix = [both * (color * (row == column) + (1 - color) * GRAY[column]) for row in range(3) for column in range(3)]
  return [*matrix, brightness * (1 - contrast)]


def _shifted(length: int, most: int, rng) -> tuple[int, int]:
  """First pixel and length of what stays in view if an image is shifted by up to `most` pixels (CVPR 2015, 4.3).

  The area that becomes free has no label, and the network masks it. So the shift is a crop at the side that leaves the
  view. The rest is placed in the top left of the canvas, like every image.
  """
  most = min(most, length - 1)
  shift = int(rng.integers(-most, most + 1))
  return max(-shift, 0), length - abs(shift)


def _window(first: int, length: int, factor: float, room: int, rng) -> Window:
  """The window of one axis: a random crop if the scaled image is larger than the canvas. One resampling does both.

  Args:
    first: the first pixel in view.
    length: the number of pixels in view.
    factor: scale of the image.
    room: length of the canvas.
    rng: the source of randomness.
  """
  size = min(room, max(1, round(length * factor)))
  window = min(length, size / factor)
  start = _uniform(rng, 0, length - window)
  # If the scale does not change, the window starts at a whole pixel, so that nothing is resampled.
  start = round(start) if factor == 1 else start
  return Window(first, length, start, start + window, size)


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
  """The number of `rng.uniform`, in a third of its time."""
  return low + (high - low) * rng.random()
