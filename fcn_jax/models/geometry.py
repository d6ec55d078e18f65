"""Sizes, strides, crops, valid regions and interpolation: where a feature sits in the picture.

Every pooling halves a size, rounding up, and every 3x3 convolution keeps it, so the map of stride s holds
ceil(size / s) features, and feature i sits at pixel s*i + (s-1)/2, the middle of its s x s cell.

Pictures of several sizes share a batch by standing in the top left of a larger canvas. `valid_mask` says which
features belong to the picture; a network that zeroes all others after every layer with a bias or a norm gives each
picture the numbers it would get alone, because zero is what the convolutions' own padding holds.
"""

import numpy as np

# What a score map may be read from, coarse to fine. The coarsest, stride 32, is fc7 and no skip.
SKIP_STRIDES = {'pool4': 16, 'pool3': 8, 'pool2': 4, 'pool1': 2}
STRIDES = (32, *SKIP_STRIDES.values())


def ceil_divide(size, stride: int):
  """The size of the map of a stride; an int or an array of them. Halving with rounding up, repeated, gives the same."""
  return -(-size // stride)


def crop_offset(stride: int) -> int:
  """The first row (column) to keep of a transposed convolution of kernel 2*stride, so that pixels line up.

  Such a layer puts feature i at stride*i + (2*stride - 1)/2 of its output, where stride*i + (stride - 1)/2 is
  its place in the picture: half a stride too far. 16 for FCN-32s; 1 and 8 for FCN-16s; 1, 1 and 4 for FCN-8s.
  """
  return stride // 2


def bilinear_kernel(stride: int) -> np.ndarray:
  """The kernel [2s, 2s] that interpolates linearly: (1 - |y-c|/s)(1 - |x-c|/s) with centre c = s - 1/2.

  Source: the authors' `surgery.py`, f = (k+1)//2 with k = 2s.
  """
  weight = 1 - np.abs(np.arange(2 * stride) - (stride - 0.5)) / stride
  return np.outer(weight, weight).astype(np.float32)


def valid_mask(size, height: int, width: int):
  """Which features belong to the pictures: bool [B, height, width, 1] from their sizes int [B, 2] on this map."""
  rows = np.arange(height) < size[:, 0, None]
  columns = np.arange(width) < size[:, 1, None]
  return (rows[:, :, None] & columns[:, None, :])[..., None]
