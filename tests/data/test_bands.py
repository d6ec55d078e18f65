"""The bands around label boundaries match a slow double loop, and are computed once."""

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


def slow_narrowest(label):
  return np.searchsorted(bands.WIDTHS, slow_distance(label))


@pytest.mark.parametrize('seed', range(4))
def test_bands_match_a_slow_loop(seed):
  label = np.pad(labels(seed), ((0, 0), (0, 30)))  # with room beyond the widest band
  found = bands.narrowest(label)
  assert found.dtype == np.uint8 and (label == IGNORE).any()
  assert np.array_equal(found, slow_narrowest(label))
  assert np.all(np.bincount(found.ravel()) > 0) and found.max() == len(bands.WIDTHS)  # the bands differ


def test_unlabeled_pixels_make_no_boundary():
  """Neither with a class nor between two classes that they separate."""
  label = np.zeros((40, 40), np.uint8)
  label[:, 20:] = 1
  label[:, 19:21] = IGNORE
  assert np.all(bands.narrowest(label) == len(bands.WIDTHS))


@pytest.mark.parametrize('label', [np.zeros((1, 1)), np.full((5, 7), 2), np.full((5, 7), IGNORE)], ids=str)
def test_without_a_boundary_no_pixel_is_near_one(label):
  found = bands.narrowest(label.astype(np.uint8))
  assert found.shape == label.shape
  assert np.all(found == len(bands.WIDTHS))


@pytest.mark.parametrize('room, computed', [(10**6, 1), (0, 2)])
def test_bands_are_computed_once_per_image_while_there_is_room(monkeypatch, room, computed):
  calls, narrowest = [], bands.narrowest
  monkeypatch.setattr(bands, '_ROOM', room)
  monkeypatch.setattr(bands, 'narrowest', lambda label: calls.append(1) or narrowest(label))
  example = {'inputs': {}, 'labels': {'a': labels(0), 'b': labels(1)}, 'id': 'x'}
  split = bands.WithBands([example])
  for _ in range(2):
    found = split[0]['labels']
    assert found.keys() == {'a', 'b', 'a.band', 'b.band'} and example['labels'].keys() == {'a', 'b'}
    assert np.array_equal(found['b.band'], narrowest(labels(1)))
  assert len(calls) == 2 * computed
