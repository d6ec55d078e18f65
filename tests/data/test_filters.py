"""Blur and noise are Gaussian, and change no label."""

import numpy as np
import pytest
from augmenting import augmented, noise

from fcn_jax.data import filters


def test_a_blur_is_gaussian():
  image = noise(40, 50)[0]
  for sigma in (0.3, 1.0, 2.0):
    weights = filters.blur_weights(sigma)
    assert 2 * sum(weights) - weights[0] == 256
    flat = np.full((9, 7, 1), 77, np.uint8)
    assert np.array_equal(filters.blurred(flat, weights), flat)
    kernel = np.exp(-(np.arange(-9, 10) ** 2) / 2 / (sigma**2 + 1 / 12))  # a pixel is as wide as 1
    expected = np.pad(image[..., 0].astype(float), 9, 'edge')
    for axis in (0, 1):
      expected = np.apply_along_axis(np.convolve, axis, expected, kernel / kernel.sum(), 'valid')
    assert np.abs(filters.blurred(image, weights)[..., 0] - expected).mean() < 1.5


def test_noise_is_gaussian_and_different_everywhere():
  gray, far = np.full((90, 100, 3), 128, np.uint8), []
  for sigma, seed, stream in ((10, 1, 0), (10, 2, 0), (10, 1, 1), (30, 3, 0)):
    x = filters.noisy(gray, sigma, seed, stream).astype(float) - 128
    assert abs(x.mean()) < 0.05 * sigma and x.std() == pytest.approx(sigma, rel=0.03)
    assert np.mean(np.abs(x) < sigma) == pytest.approx(0.68, abs=0.05)  # as for a Gaussian
    far += [x[:-1, :, 0], x[1:, :, 0], x[:-1, :, 1], np.roll(x[:-1, :, 0], 1, 1)]
  correlations = np.corrcoef([x.ravel() for x in far])
  assert np.abs(correlations - np.eye(len(far))).max() < 0.05
  pair = noise(64, 80)
  assert all(np.array_equal(augmented(pair, seed, noise=9.0, blur=2.0)['label'], pair[1]) for seed in range(5))
