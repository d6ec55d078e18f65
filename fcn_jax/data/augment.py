"""How the host changes training images: turn, rotate, crop or pad, scale, flip, then colors, blur and noise.

`draws.py` draws at random for each image what is applied here with pillow, or within the training step
(`device_augment.py`).
"""

import cmath
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageStat

from fcn_jax.data import filters
from fcn_jax.data.dataset import IGNORE, Example
from fcn_jax.data.draws import Draws, Window, draw, turned

GRAY = (0.299, 0.587, 0.114)  # weights of R, G and B (ITU-R 601), as in pillow


def augment(example: Example, rng: np.random.Generator, data) -> dict:
  """Augments one training example; a pure function of its arguments.

  The same geometric change is applied to all streams and all heads. Brightness, contrast and saturation are applied to
  the stream 'rgb' only, blur and noise to all streams.

  Args:
    example: with inputs, uint8 [H, W, C] by stream, and labels, uint8 [H, W] by head.
    rng: the source of randomness.
    data: the section `data` of the config.

  Returns:
    The example on a canvas of `data.train_size`: see `on_canvas`.
  """
  return on_canvas(*applied(example, draw(example, rng, data)), data.train_size)


def applied(example: Example, draws: Draws) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """The augmented inputs, uint8 [h, w, C] by stream, and labels, uint8 [h, w] by head, without padding."""
  inputs, labels = moved(example, draws)
  for number, name in enumerate(sorted(inputs)):
    if draws.blur:
      inputs[name] = filters.blurred(inputs[name], filters.blur_weights(draws.blur))
    if draws.noise:
      inputs[name] = filters.noisy(inputs[name], *draws.noise, number)
  return inputs, labels


def moved(example: Example, draws: Draws) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """The same as `applied`, but for blur and noise."""
  inputs, labels, rows, columns = cut(example, draws)

  def move(image: Image.Image, resampling) -> Image.Image:
    image = _resized(image, rows, columns, resampling)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws.flip else image

  def move_stream(name: str, image: Image.Image) -> Image.Image:
    image = move(image, Image.Resampling.BILINEAR)
    return recolored(image, *draws.colors) if name == 'rgb' and draws.colors else image

  # Class numbers cannot be interpolated.
  nearest = {name: by_image(label, lambda x: move(x, Image.Resampling.NEAREST)) for name, label in labels.items()}
  return {name: by_image(x, functools.partial(move_stream, name)) for name, x in inputs.items()}, nearest


def by_image(pixels: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
  """Applies a function of images to pixels, uint8 [H, W] or [H, W, C], if C is not 3 channel by channel."""
  if pixels.ndim == 2 or pixels.shape[-1] == 3:
    return np.asarray(change(Image.fromarray(pixels)))
  return np.stack([np.asarray(change(Image.fromarray(x))) for x in np.moveaxis(pixels, -1, 0)], axis=-1)


def cut(example: Example, draws: Draws):
  """The part of an example that resampling reads, turned and rotated.

  It is a view, so that an image costs no more than its window, unless it is rotated by an angle.

  Returns:
    Inputs by stream, labels by head, and the windows of rows and columns in them.
  """
  (top, bottom, rows), (left, right, columns) = _needed(draws.rows), _needed(draws.columns)

  def part(pixels: np.ndarray, fill: int, resampling) -> np.ndarray:
    pixels = turned(pixels, draws.turns, draws.flip_vertical)
    if draws.angle:
      return _rotated(pixels, draws, (left, top, right, bottom), fill, resampling)
    return pixels[top:bottom, left:right]

  inputs = {name: part(x, 0, Image.Resampling.BILINEAR) for name, x in example['inputs'].items()}
  labels = {name: part(x, IGNORE, Image.Resampling.NEAREST) for name, x in example['labels'].items()}
  return inputs, labels, rows, columns


def _rotated(pixels: np.ndarray, draws: Draws, box: tuple[int, ...], fill: int, resampling) -> np.ndarray:
  """A box (left, top, right, bottom) of an image that is rotated around the center of the window.

  What was not in view becomes `fill`. Only the part of the image that the box needs is copied.
  """
  turn = cmath.rect(1, math.radians(draws.angle))
  center = complex(*(x.first + (x.start + x.end) / 2 for x in (draws.columns, draws.rows)))
  corners = [center + (complex(x, y) - center) * turn for x in box[::2] for y in box[1::2]]
  left, right = _read(draws.columns, [corner.real for corner in corners])
  top, bottom = _read(draws.rows, [corner.imag for corner in corners])
  first = corners[0] - complex(left, top)
  # pillow rounds the places of nearest pixels, unless it is a perspective.
  how = Image.Transform.PERSPECTIVE, (turn.real, -turn.imag, first.real, turn.imag, turn.real, first.imag, 0, 0)
  size = box[2] - box[0], box[3] - box[1]
  return by_image(
    pixels[top:bottom, left:right],
    lambda image: image.transform(size, *how, resampling, fillcolor=(fill,) * len(image.getbands())),
  )


def _read(window: Window, places: Sequence[float]) -> tuple[int, int]:
  """First and end of the pixels in view between the least and the greatest place, and two more for interpolation."""
  end = window.first + window.length
  low = min(max(math.floor(min(places)) - 2, window.first), end - 1)
  return low, max(min(math.ceil(max(places)) + 2, end), low + 1)


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
