"""What the host does if the device augments: it copies the part of each image that is needed, and computes the taps.

A tap is a pixel that resampling reads. Per pixel of the result and axis, the host sends the first tap, the nearest one,
and the weights of all. They are computed in float64, and rounded to fixed point, like pillow's: so the device, which
multiplies and adds integers, gets pillow's numbers.
"""

import math
from collections.abc import Sequence

import numpy as np

from fcn_jax.data import augment, filters
from fcn_jax.data.dataset import Example
from fcn_jax.data.draws import Draws, Window

BITS = 22  # of the weights: those of pillow for images of 8 bits
# An image that shrinks more than this, in either direction, is resampled on the host: otherwise canvases would have to
# be large for a few images, and each pixel of the result would have many taps.
_LARGEST_SCALE = 2.0


class Windows:
  """Copies the windows of images to canvases of one size, and describes them to the device.

  Attributes:
    canvas: height and width of the canvases.
  """

  def __init__(self, sizes: np.ndarray, data):
    """Args: sizes: height and width of each image, int [N, 2]; data: the section `data` of the config."""
    scale = min(max(1.0, 1 / data.scale[0]), _LARGEST_SCALE)  # pixels of the image per pixel of the result, at most
    margin = 2 * (scale + 1) + 2  # what `augment.cut` adds to a window, rounded up
    self._scale, self._taps, self._size = scale, math.ceil(2 * scale) + 1, data.train_size
    self._blur = data.blur
    largest = np.asarray(sizes).max(0)
    if data.rotate90:
      largest = np.maximum(largest, largest[::-1])
    self.canvas = tuple(
      int(min(x, math.ceil(room * scale + margin))) for x, room in zip(largest, self._size, strict=True)
    )

  def place(self, example: Example, draws: Draws, into: Sequence[dict[str, np.ndarray]]) -> Draws:
    """Copies what resampling reads to the top left of canvases.

    An image that shrinks too much, or whose window does not fit, is resampled here. Turns and rotations are done here,
    too. The device flips it from left to right, and changes its colors.

    Args:
      example: an image.
      draws: of the image.
      into: canvases of the inputs, uint8 [h, w, C] by stream, and of the labels, uint8 [h, w] by head. What is there
        next to the copy does not matter.

    Returns:
      The draws for the copy.
    """
    inputs, labels, rows, columns = augment.cut(example, draws)
    if not (self._fits(rows, 0) and self._fits(columns, 1)):
      inputs, labels = augment.moved(example, draws._replace(flip=False, colors=None))
      rows, columns = (Window(0, size, 0, size, size) for size in (rows.size, columns.size))
    for copies, arrays in zip(into, (inputs, labels), strict=True):
      for name, x in arrays.items():
        copies[name][: rows.length, : columns.length] = x
    return draws._replace(rows=rows, columns=columns)

  def _fits(self, window: Window, axis: int) -> bool:
    return window.length <= self.canvas[axis] and window.scale <= self._scale

  def for_device(self, draws: Sequence[Draws]) -> dict[str, np.ndarray]:
    """The draws of a batch as arrays: all that the device needs to know about them.

    Returns:
      `size`, int32 [B, 2]; `rows`, int32 [B, H, 2 + T], and `columns`, int32 [B, W, 2 + T]: see `taps`. If colors
      change, `colors`, float32 [B, 10]: a matrix [3, 3], and the factor of the mean gray level. If there is a blur,
      `blur`, int32 [B, R + 1], the weights of a pixel and its neighbors. If there is noise, `noise`, int32 [B], the
      scales, and `seed`, uint32 [B].
    """
    arrays = {
      'size': np.array([(x.rows.size, x.columns.size) for x in draws], np.int32),
      'rows': taps([x.rows for x in draws], self._size[0], self._taps),
      'columns': taps([x.columns for x in draws], self._size[1], self._taps, [x.flip for x in draws]),
    }
    if draws[0].colors:
      arrays['colors'] = np.array([augment.color_change(*x.colors) for x in draws], np.float32)
    if self._blur:
      arrays['blur'] = np.zeros((len(draws), filters.reach(self._blur) + 1), np.int32)
      for weights, x in zip(arrays['blur'], draws, strict=True):
        found = filters.blur_weights(x.blur)
        weights[: len(found)] = found
    if draws[0].noise:
      arrays['noise'] = np.array([filters.noise_scale(x.noise[0]) for x in draws], np.int32)
      arrays['seed'] = np.array([x.noise[1] for x in draws], np.uint32)
    return arrays


def taps(windows: Sequence[Window], room: int, count: int, flips: Sequence[bool] = ()) -> np.ndarray:
  """What resampling reads along one axis, for each pixel of a batch of results.

  Args:
    windows: of B images.
    room: the length of the canvas of the results.
    count: the largest number of taps, T.
    flips: whether the pixels of a result are in reverse order.

  Returns:
    int32 [B, room, 2 + T]: the first tap; the nearest one, -1 beyond the end of the result; and the weights of the taps
    in bilinear resampling, with `BITS` bits after the binary point, 0 beyond the end.
  """
  # pillow takes the window in float32, and computes in float64.
  _, length, start, end, size = (column[:, None] for column in np.array(windows).T)
  start, end = np.float32(start), np.float32(end)
  scale = (end - start).astype(np.float64) / size
  reach = np.maximum(scale, 1.0)
  place = np.arange(room)
  center = start + (place + 0.5) * scale
  first = np.floor(np.maximum(center - (reach - 0.5), 0))
  last = np.minimum(np.floor(center + (reach + 0.5)), length)
  weights, distance = [], first - (center - 0.5)
  for tap in range(count):
    weight = np.maximum(1 - np.abs(distance + tap) / reach, 0)
    weight[first + tap >= last] = 0
    weights.append(weight)
  total = np.maximum(sum(weights), 1e-9)  # 0 beyond the end of a result
  # pillow adds the scale again and again: a multiplication would round differently.
  steps = np.repeat(scale, room, 1)
  steps[:, :1] = start + 0.5 * scale
  found = np.empty((len(windows), room, 2 + count), np.int32)
  found[..., 0], found[..., 1] = first, np.cumsum(steps, 1)
  for tap, weight in enumerate(weights):
    found[..., 2 + tap] = weight / total * (1 << BITS) + 0.5
  found[place >= size] = (0, -1) + (0,) * count
  for i, flip in enumerate(flips):
    if flip:
      count = windows[i].size
      found[i, :count] = found[i, :count][::-1].copy()
  return found
