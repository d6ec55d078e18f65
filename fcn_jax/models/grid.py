"""Sizes, strides, crops, valid regions and interpolation: where a feature sits in the picture (docs/geometry.md).

A `Map` says how many features there are and where the first one sits; layers change both, and crops follow from where
two maps sit. In the `aligned` geometry 3x3 convolutions and fc6 keep sizes and places, so feature i of a map of stride
s sits at pixel s*i + (s-1)/2, the middle of its s x s cell, and the map holds ceil(size / s). The `caffe` geometry is
that of the authors' networks: 100 pixels of zeros around the picture, and fc6 without any.

Pictures of several sizes share a batch by standing in the top left of a larger canvas. `valid_mask` says which
features belong to the picture; a network that zeroes all others after every layer with a bias or a norm gives each
picture the numbers it would get alone, because zero is what the convolutions' own padding holds.
"""

import dataclasses

import numpy as np

# What a score map may be read from, coarse to fine. The coarsest, stride 32, is fc7 and no skip.
SKIP_STRIDES = {'pool4': 16, 'pool3': 8, 'pool2': 4, 'pool1': 2}
STRIDES = (32, *SKIP_STRIDES.values())

# Zeros on each side of conv1_1 and of fc6.
PADDINGS = {'aligned': (1, 3), 'caffe': (100, 0)}


@dataclasses.dataclass(frozen=True)
class Map:
  """Features along both axes of pictures.

  Attributes:
    size: how many, an array whose last axis is height and width: [2], or [B, 2] for a batch.
    start: the pixel that feature 0 sits at.
    stride: pixels from one to the next.
  """

  size: np.ndarray
  start: float
  stride: int

  def convolved(self, kernel: int, padding: int) -> 'Map':
    start = self.start + ((kernel - 1) / 2 - padding) * self.stride
    return Map(self.size + 2 * padding - kernel + 1, start, self.stride)

  def pooled(self, cell: int = 2) -> 'Map':
    """By cells of so many features squared, the last of which may be less than full."""
    return Map(ceil_divide(self.size, cell), self.start + (cell - 1) / 2 * self.stride, cell * self.stride)

  def upsampled(self, factor: int) -> 'Map':
    """By a transposed convolution of kernel 2*factor and stride factor, without any crop."""
    stride = self.stride // factor
    return Map((self.size + 1) * factor, self.start - (2 * factor - 1) / 2 * stride, stride)

  def offset(self, other: 'Map') -> int:
    """The feature of this map where the first of `other`, of the same stride, sits; negative if that is before."""
    steps = (other.start - self.start) / self.stride
    if self.stride != other.stride or steps != int(steps):
      raise ValueError(f'{self} and {other} do not line up')
    return int(steps)


def maps(size: np.ndarray, paddings: tuple[int, int], shrink: int) -> dict[str, Map]:
  """The maps of pictures of a size [2] or [B, 2]: pixels; conv1 to conv5; pool1 to pool5, after each; fc7."""
  first, fc6 = paddings
  found = {'pixels': Map(size, 0.0, 1)}
  now = found['pixels'].pooled(shrink).convolved(3, first)
  for number in range(1, 6):
    found[f'conv{number}'] = now
    found[f'pool{number}'] = now = now.pooled()
  return found | {'fc7': now.convolved(7, fc6)}


def ceil_divide(size, stride: int):
  """Rounded up; an int or an array of them."""
  return -(-size // stride)


def interpolation(count: int, stride: int) -> np.ndarray:
  """`bilinear_kernel` along one axis: the matrix [(count+1)*stride, count] that takes features to pixels."""
  pixels, starts = np.arange((count + 1) * stride)[:, None], np.arange(count) * stride
  return np.maximum(1 - np.abs(pixels - starts - (stride - 0.5)) / stride, 0).astype(np.float32)


def bilinear_kernel(stride: int) -> np.ndarray:
  """The kernel [2s, 2s] that interpolates linearly: (1 - |y-c|/s)(1 - |x-c|/s) with centre c = s - 1/2.

  Source: the authors' `surgery.py`, f = (k+1)//2 with k = 2s.
  """
  along_axis = interpolation(1, stride)
  return along_axis @ along_axis.T


def valid_mask(size, height: int, width: int):
  """Which features belong to the pictures: bool [B, height, width, 1] from their sizes int [B, 2] on this map."""
  rows = np.arange(height) < size[:, 0, None]
  columns = np.arange(width) < size[:, 1, None]
  return (rows[:, :, None] & columns[:, None, :])[..., None]
