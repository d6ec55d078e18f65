"""Where features sit in an image: sizes, strides, crops, valid regions and interpolation (docs/geometry.md).

A `Grid` gives the number of features of a map and the position of the first one. Layers change both, and crops follow
from the positions of two grids. In VGG's `aligned` geometry, 3x3 convolutions and fc6 keep sizes and positions. So
feature i of a map of stride s is at pixel s*i + (s-1)/2, the center of its s x s cell, and the map has ceil(size / s)
features. The `caffe` geometry is that of the authors' networks: 100 pixels of zeros around the image, and none around
fc6.

Images of several sizes share a batch: each is placed at the top left of a larger canvas. `valid_mask` marks the
features that belong to the image. If a network sets all others to zero after every layer with a bias or a norm, each
image gets the same numbers as if it were alone, because convolutions also pad with zeros.
"""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Grid:
  """Features along both axes of an image, or of each image of a batch.

  Attributes:
    size: number of features, an integer array whose last axis is height and width: [2], or [B, 2] for a batch.
    start: the pixel that feature 0 is at.
    stride: pixels from one feature to the next.
  """

  size: Any
  start: float = 0.0
  stride: int = 1

  def layer(self, kernel: int, stride: int = 1, padding: int = 0, *, ceil: bool = False) -> 'Grid':
    """The grid after a convolution or a pooling; `ceil` rounds its size up, as Caffe's pooling does."""
    # As few operations as possible, because XLA repeats them in every use of a mask.
    size = self.size + (2 * padding - kernel + stride)
    if stride > 1:
      size = -(-size // stride) if ceil else size // stride
    if ceil and (padding or kernel < stride):
      size = size - ((size - 1) * stride >= self.size + padding)  # no window covers padding alone
    return Grid(size, self.start + ((kernel - 1) / 2 - padding) * self.stride, stride * self.stride)

  def upsampled(self, kernel: int, stride: int) -> 'Grid':
    """The grid after a transposed convolution, without a crop."""
    step = self.stride // stride
    return Grid((self.size - 1) * stride + kernel, self.start - (kernel - 1) / 2 * step, step)

  def offset(self, other: 'Grid') -> int:
    """The index in this grid of the first feature of `other`; negative if that is before the first feature.

    Raises:
      ValueError: the strides differ, or the features of one grid are between those of the other.
    """
    steps = (other.start - self.start) / self.stride
    if self.stride != other.stride or steps != int(steps):
      raise ValueError(f'{self} and {other} do not align: expected equal strides and starts a whole stride apart')
    return int(steps)

  def kernel_to(self, finer: 'Grid') -> int:
    """The size of the bilinear kernel that upsamples this grid onto a finer one.

    With s the ratio of the strides, this is 2s if the first features are an odd number of half pixels of the finer
    grid apart, and 2s - 1 if they are a whole number of its pixels apart.

    Raises:
      ValueError: neither kernel aligns the two grids.
    """
    factor, rest = divmod(self.stride, finer.stride)
    for kernel in () if rest else (2 * factor, 2 * factor - 1):
      if not (finer.start - self.upsampled(kernel, factor).start) % finer.stride:
        return kernel
    raise ValueError(
      f'no bilinear kernel upsamples {self} onto {finer}; expected a whole ratio of strides, and starts that are a '
      f'multiple of {finer.stride / 2:g} pixels apart'
    )


@dataclasses.dataclass(frozen=True)
class Layout:
  """The grids of all maps of a network, by name.

  Attributes:
    canvas: of the whole canvas, with sizes [2].
    images: of the images on it, with sizes [B, 2]; None if every image fills the canvas.
  """

  canvas: dict[str, Grid]
  images: dict[str, Grid] | None = None

  def mask(self, name: str):
    """Which features of a map belong to the images: bool [B, h, w, 1]; None if all do."""
    return None if self.images is None else valid_mask(self.images[name].size, *self.canvas[name].size)


def interpolation(count: int, stride: int, kernel: int | None = None) -> np.ndarray:
  """`bilinear_kernel` along one axis, as the matrix that upsamples `count` features.

  Returns:
    float32 [(count - 1) * stride + kernel, count]; `kernel` is 2 * stride by default.
  """
  kernel = kernel or 2 * stride
  pixels, starts = np.arange((count - 1) * stride + kernel)[:, None], np.arange(count) * stride
  return np.maximum(1 - np.abs(pixels - starts - (kernel - 1) / 2) / stride, 0).astype(np.float32)


def bilinear_kernel(stride: int, kernel: int | None = None) -> np.ndarray:
  """The kernel that interpolates linearly: (1 - |y-c|/s)(1 - |x-c|/s) with center c = (kernel - 1) / 2.

  Source: the authors' `surgery.py`, f = (k+1)//2, for k = 2s and k = 2s - 1.

  Returns:
    float32 [kernel, kernel]; `kernel` is 2 * stride by default.
  """
  along_axis = interpolation(1, stride, kernel)
  return along_axis @ along_axis.T


def valid_mask(size, height: int, width: int):
  """Which features of a map [height, width] belong to the images: bool [B, height, width, 1], from sizes int [B, 2]."""
  rows = np.arange(height) < size[:, 0, None]
  columns = np.arange(width) < size[:, 1, None]
  return (rows[:, :, None] & columns[:, None, :])[..., None]
