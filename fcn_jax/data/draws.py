"""What is drawn at random for a training image. `augment.py` and `device_augment.py` apply it.

A setting that is off draws nothing, so that the other numbers of a seed do not depend on settings that are added later.
"""

import math
from typing import NamedTuple

import numpy as np

from fcn_jax.data.dataset import IGNORE, Example


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
  """The random draws for one image, in the order in which they are applied.

  Attributes:
    turns: quarter turns, counterclockwise, of the whole image.
    flip_vertical: whether top and bottom of the whole image are exchanged.
    angle: degrees by which the image is rotated around the center of the window, counterclockwise.
    rows: the vertical window.
    columns: the horizontal window.
    flip: whether left and right are exchanged after resampling.
    colors: factors of brightness, contrast and saturation; None if they do not change.
    blur: standard deviation of a Gaussian blur, in pixels of the result.
    noise: standard deviation of the noise, in levels of 255, and its seed, 0 to 2**32 - 1; None if there is none.
  """

  rows: Window
  columns: Window
  flip: bool
  colors: tuple[float, ...] | None
  turns: int = 0
  flip_vertical: bool = False
  angle: float = 0.0
  blur: float = 0.0
  noise: tuple[float, int] | None = None


def draw(example: Example, rng: np.random.Generator, data) -> Draws:
  """Draws the augmentation of one image.

  Args:
    example: the image.
    rng: the source of randomness.
    data: the section `data` of the config.
  """
  turns = int(rng.integers(1, 4)) if _happens(rng, data.rotate90) else 0  # first: the windows depend on it
  shape = next(iter(example['inputs'].values())).shape[:2]
  shape = shape[::-1] if turns % 2 else shape
  views = [(0, length) for length in shape]
  if data.jitter:
    views = [_shifted(length, data.jitter, rng) for length in shape]
  factor = math.exp(_uniform(rng, *map(math.log, data.scale)))  # halving is as likely as doubling
  columns, rows = (
    _window(*view, factor, room, rng) for view, room in zip(views[::-1], data.train_size[::-1], strict=True)
  )
  flip, colors, amounts = rng.random() < data.flip, None, (data.brightness, data.contrast, data.color)
  if _has_colors(example) and any(amounts):
    colors = tuple(_uniform(rng, 1 - x, 1 + x) for x in amounts)
  flip_vertical = _happens(rng, data.flip_vertical)
  if _happens(rng, data.crop_rare):
    label = turned(next(iter(example['labels'].values())), turns, flip_vertical)
    rows, columns = _on_rare_class(label, rows, columns, rng)
  return Draws(
    rows,
    columns,
    flip,
    colors,
    turns,
    flip_vertical,
    angle=_uniform(rng, -data.rotate, data.rotate) if data.rotate else 0.0,
    blur=data.blur * (1 - rng.random()) if data.blur else 0.0,  # above 0
    noise=(_uniform(rng, 0, data.noise), int(rng.integers(2**32))) if data.noise else None,
  )


def turned(pixels: np.ndarray, turns: int, flip_vertical: bool) -> np.ndarray:
  """A view of [H, W, ...] with `Draws.turns` and `Draws.flip_vertical` applied."""
  pixels = np.rot90(pixels, turns) if turns else pixels
  return pixels[::-1] if flip_vertical else pixels


def _has_colors(example: Example) -> bool:
  """Whether there is a stream 'rgb' of three channels, the only one whose colors change."""
  return 'rgb' in example['inputs'] and example['inputs']['rgb'].shape[-1] == 3


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


def _on_rare_class(label: np.ndarray, rows: Window, columns: Window, rng) -> tuple[Window, Window]:
  """The windows, moved to a pixel of a class that is drawn by its inverse frequency among those in view.

  They stay where they are if nothing in view has a class.
  """
  label = label[rows.first : rows.first + rows.length, columns.first : columns.first + columns.length]
  counts = np.bincount(label.ravel(), minlength=IGNORE + 1)[:IGNORE]
  if not counts.any():
    return rows, columns
  classes = np.flatnonzero(counts)
  weights = 1 / counts[classes]
  chosen = rng.choice(classes, p=weights / weights.sum())
  pixel = np.flatnonzero(label == chosen)[rng.integers(counts[chosen])]
  row, column = divmod(int(pixel), label.shape[1])
  return _centered(rows, row), _centered(columns, column)


def _centered(window: Window, pixel: int) -> Window:
  """A window with a pixel in its center, or as close to it as the image allows."""
  length = window.end - window.start
  start = min(max(pixel + 0.5 - length / 2, 0), window.length - length)
  start = math.floor(start) if window.scale == 1 else start
  return window._replace(start=start, end=start + length)


def _happens(rng: np.random.Generator, probability: float) -> bool:
  return probability > 0 and rng.random() < probability


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
  """The number of `rng.uniform`, in a third of its time."""
  return low + (high - low) * rng.random()
