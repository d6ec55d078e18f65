"""Distances to label boundaries, and the confusions within each distance, match a slow double loop."""

import itertools

import numpy as np
import pytest

from fcn_jax.data import bands
from fcn_jax.data.dataset import IGNORE

CLASSES = 3


def slow_distance(label):
  """Steps of a chess king from each pixel to the nearest one with a neighbor of another class, plus 1."""
  height, width = label.shape

  def borders(y, x):
    around = [(y + dy, x + dx) for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))]
    inside = [label[p] for p in around if 0 <= p[0] < height and 0 <= p[1] < width]
    return label[y, x] != IGNORE and any(other not in (label[y, x], IGNORE) for other in inside)

  pixels = list(itertools.product(range(height), range(width)))
  edge = [p for p in pixels if borders(*p)]
  away = [min((max(abs(y - a), abs(x - b)) for a, b in edge), default=10**6) + 1 for y, x in pixels]
  return np.array(away).reshape(label.shape)


def labels(seed):
  """Blocks of classes and of unlabeled pixels, with many pixels at each distance."""
  rng = np.random.default_rng(seed)
  label = rng.integers(0, CLASSES, (3, 4), np.uint8).repeat(7, 0).repeat(9, 1)[:20, :31]
  for _ in range(3):
    y, x = rng.integers(0, 20), rng.integers(0, 31)
    label[y : y + 4, x : x + 9] = IGNORE
  return label


@pytest.mark.parametrize('seed', range(4))
def test_distances_match_a_slow_loop(seed):
  label = labels(seed)
  expected = slow_distance(label)
  assert expected.max() > 4 and (label == IGNORE).any()
  assert np.array_equal(bands.distance(label), expected)


def test_unlabeled_pixels_make_no_boundary():
  """Neither with a class nor between two classes that they separate."""
  label = np.zeros((40, 40), np.uint8)
  label[:, 20:] = 1
  label[:, 19:21] = IGNORE
  assert bands.distance(label).min() > max(bands.WIDTHS)
  assert not bands.confusions(label, label % CLASSES, CLASSES).any()


@pytest.mark.parametrize('label', [np.zeros((1, 1)), np.full((5, 7), 2), np.full((5, 7), IGNORE)], ids=str)
def test_without_a_boundary_no_pixel_is_near_one(label):
  label = label.astype(np.uint8)
  away = bands.distance(label)
  assert away.shape == label.shape
  assert away.min() > max(bands.WIDTHS)


def test_confusions_count_the_labeled_pixels_of_each_band():
  label = labels(5)
  label = np.pad(label, ((0, 0), (0, 30)))  # with room beyond the widest band
  prediction = np.random.default_rng(1).integers(0, CLASSES, label.shape, np.uint8)
  away = slow_distance(label)
  expected = np.zeros((len(bands.WIDTHS), CLASSES, CLASSES), np.int64)
  for place in np.ndindex(label.shape):
    for band, width in enumerate(bands.WIDTHS):
      if label[place] != IGNORE and away[place] <= width:
        expected[band, label[place], prediction[place]] += 1
  found = bands.confusions(label, prediction, CLASSES)
  assert found.dtype == np.int64
  assert np.array_equal(found, expected)
  sums = expected.sum((1, 2))
  assert np.all(np.diff(sums) > 0) and sums[-1] < np.count_nonzero(label != IGNORE)  # the bands differ
