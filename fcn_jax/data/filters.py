"""Blur and noise in integers, so that the host and every device get the same pixels."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

BLUR_BITS = 8  # of the weights, whose sum is 256: all products and sums have 16 bits
_NOISE_BITS = 14  # of a standard deviation, after the binary point
_SPREAD = math.sqrt(4 * (256**2 - 1) / 12)  # standard deviation of the sum of four random bytes


def reach(sigma: float) -> int:
  """The number of neighbors on each side of a pixel that a blur reads."""
  return math.ceil(3 * sigma)


def blur_weights(sigma: float) -> list[int]:
  """The weights of a pixel and of its `reach(sigma)` neighbors on one side in a Gaussian blur, `sigma` above 0.

  Each is the integral of the Gaussian over the pixel, as an integer. With both sides, their sum is exactly 256.
  """
  ends = [math.erf((k + 0.5) / (sigma * math.sqrt(2))) for k in range(reach(sigma) + 1)]
  halves = [round(end * 2 ** (BLUR_BITS - 1)) for end in ends]
  return [2 * halves[0], *(after - before for before, after in itertools.pairwise(halves))]


def blurred(x: np.ndarray, weights: Sequence[int]) -> np.ndarray:
  """An image, uint8 [H, W, C], blurred horizontally, then vertically; the pixels of its border continue beyond it."""
  return _blurred_rows(_blurred_rows(x.swapaxes(0, 1), weights).swapaxes(0, 1), weights)


def _blurred_rows(x: np.ndarray, weights: Sequence[int]) -> np.ndarray:
  most = len(weights) - 1
  padded = np.pad(x, ((most, most), (0, 0), (0, 0)), 'edge').astype(np.uint16)
  total = padded[most : most + len(x)] * np.uint16(weights[0]) + np.uint16(1 << BLUR_BITS - 1)
  for k in range(1, most + 1):
    total += (padded[most - k :][: len(x)] + padded[most + k :][: len(x)]) * np.uint16(weights[k])
  return (total >> BLUR_BITS).astype(np.uint8)


def noise_scale(sigma: float) -> int:
  """The factor in `noise` for a standard deviation of `sigma` levels."""
  return round(sigma / _SPREAD * 2**_NOISE_BITS)


def stream_seed(number: int) -> np.uint32:
  """What is added to the seed of an image for stream `number`, in alphabetical order."""
  return np.uint32(number * 0x632BE5AB % 2**32)


def noise(seed: Any, scale: Any, rows: Any, columns: Any, channels: Any) -> Any:
  """Noise, int32: nearly Gaussian, and a function of the seed and the place alone.

  All arguments are arrays of NumPy or of JAX, which are broadcast; the last four may have any shapes.

  Args:
    seed: uint32.
    scale: int32, of `noise_scale`.
    rows: uint32.
    columns: uint32.
    channels: uint32.
  """
  x = rows * np.uint32(0x9E3779B1) + columns * np.uint32(0x85EBCA77) + (channels * np.uint32(0xC2B2AE3D) + seed)
  # The integer hash `lowbias32`: each bit of x changes each bit of the result with probability 1/2.
  x ^= x >> np.uint32(16)
  x *= np.uint32(0x7FEB352D)
  x ^= x >> np.uint32(15)
  x *= np.uint32(0x846CA68B)
  x ^= x >> np.uint32(16)
  # The sum of four bytes, less its mean.
  x = (x & np.uint32(0x00FF00FF)) + (x >> np.uint32(8) & np.uint32(0x00FF00FF))
  x = (x & np.uint32(0xFFFF)) + (x >> np.uint32(16))
  return (x.astype(np.int32) - 510) * scale + (1 << _NOISE_BITS - 1) >> _NOISE_BITS


def noisy(x: np.ndarray, sigma: float, seed: int, number: int) -> np.ndarray:
  """An image, uint8 [H, W, C], of stream `number`, with noise of standard deviation `sigma`, clipped to 0..255."""
  rows, columns, channels = (place.astype(np.uint32) for place in np.ogrid[tuple(map(slice, x.shape))])
  seeds, scale = np.array([seed], np.uint32) + stream_seed(number), np.int32(noise_scale(sigma))
  return np.clip(x + noise(seeds, scale, rows, columns, channels), 0, 255).astype(np.uint8)
