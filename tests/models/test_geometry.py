"""Sizes and offsets against positions that are followed through the layers, one by one."""

import itertools

import jax
import numpy as np
import pytest

from fcn_jax.models import geometry


def positions(stride, count):
  """Where the first features of a map sit in the picture: a 3x3 convolution moves nothing, a pooling takes a mean."""
  places = np.arange(count * stride, dtype=float)
  while stride > 1:
    places, stride = (places[0::2] + places[1::2]) / 2, stride // 2
  return places


def crop_that_lines_up(coarse, fine):
  """How many rows too far a transposed convolution puts features of one stride on the grid of a finer one."""
  factor, count = coarse // fine, 4
  kernel = 2 * factor
  reached = np.array([np.arange(kernel) + factor * i for i in range(count)])  # rows that feature i is added to
  grid = positions(fine, count * factor)
  wanted = np.interp(positions(coarse, count), grid, np.arange(len(grid)))
  offsets = reached.mean(axis=1) - wanted
  assert np.all(offsets == offsets[0])
  return offsets[0]


def test_feature_i_sits_in_the_middle_of_its_cell():
  for stride in geometry.STRIDES:
    assert np.array_equal(positions(stride, 5), stride * np.arange(5) + (stride - 1) / 2)


@pytest.mark.parametrize(
  ('net', 'offsets'),
  [(32, [16]), (16, [1, 8]), (8, [1, 1, 4]), (4, [1, 1, 1, 2]), (2, [1, 1, 1, 1, 1])],
)
def test_crops_line_up_with_pixels(net, offsets):
  strides = [s for s in geometry.STRIDES if s >= net] + [1]
  steps = list(itertools.pairwise(strides))
  assert [crop_that_lines_up(coarse, fine) for coarse, fine in steps] == offsets
  assert [geometry.crop_offset(coarse // fine) for coarse, fine in steps] == offsets


def test_halving_again_and_again_is_one_division_that_rounds_up():
  sizes = np.arange(1, 300)
  halved = sizes
  for stride in reversed(geometry.STRIDES):
    halved = geometry.ceil_divide(halved, 2)
    assert np.array_equal(halved, np.ceil(sizes / stride))
    assert np.array_equal(halved, geometry.ceil_divide(sizes, stride))
  assert geometry.ceil_divide(7, 2) == 4


def test_strides_are_every_power_of_two_from_coarse_to_fine():
  assert geometry.STRIDES == (32, 16, 8, 4, 2)
  assert geometry.SKIP_STRIDES == {'pool4': 16, 'pool3': 8, 'pool2': 4, 'pool1': 2}


@pytest.mark.parametrize('compiled', [False, True])
def test_valid_mask_is_true_within_each_picture_alone(compiled):
  sizes = np.array([[1, 1], [3, 5], [4, 2], [4, 6]], np.int32)
  make = jax.jit(geometry.valid_mask, static_argnums=(1, 2)) if compiled else geometry.valid_mask
  mask = np.asarray(make(sizes, 4, 6))
  assert mask.dtype == bool
  expected = np.zeros((4, 4, 6, 1), bool)
  for number, (height, width) in enumerate(sizes):
    expected[number, :height, :width] = True
  assert np.array_equal(mask, expected)
