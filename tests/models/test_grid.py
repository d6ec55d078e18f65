"""Sizes and offsets against positions that are followed through the layers, one by one."""

import itertools

import jax
import numpy as np
import pytest

from fcn_jax.models import grid


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
  for stride in grid.STRIDES:
    assert np.array_equal(positions(stride, 5), stride * np.arange(5) + (stride - 1) / 2)


@pytest.mark.parametrize(
  ('net', 'offsets'),
  [(32, [16]), (16, [1, 8]), (8, [1, 1, 4]), (4, [1, 1, 1, 2]), (2, [1, 1, 1, 1, 1])],
)
def test_crops_line_up_with_pixels(net, offsets):
  strides = [s for s in grid.STRIDES if s >= net] + [1]
  steps = list(itertools.pairwise(strides))
  assert [crop_that_lines_up(coarse, fine) for coarse, fine in steps] == offsets
  assert crops('aligned', net) == [(0, n) for n in offsets]


def crops(kind, net):
  """Of each step from fc7 to pixels: the offset that the skip is cropped at, and that of what comes up to it."""
  maps, found = grid.maps(np.array([375, 500]), grid.PADDINGS[kind], 1), []
  now = maps['fc7']
  for skip, stride in grid.SKIP_STRIDES.items():
    if stride >= net:
      risen = now.upsampled(2)
      ahead = risen.offset(maps[skip])
      found.append((max(-ahead, 0), max(ahead, 0)))
      now = maps[skip] if ahead >= 0 else risen
  return [*found, (0, now.upsampled(now.stride).offset(maps['pixels']))]


@pytest.mark.parametrize(
  ('net', 'expected'),
  [(32, [(0, 19)]), (16, [(5, 0), (0, 27)]), (8, [(5, 0), (9, 0), (0, 31)])],
)
def test_caffe_crops_are_those_of_the_authors_networks(net, expected):
  """`crop` layers of their prototxt files: score_pool4c 5, score_pool3c 9, score 19, 27 and 31."""
  assert crops('caffe', net) == expected


@pytest.mark.parametrize('kind', ['aligned', 'caffe'])
@pytest.mark.parametrize('shrink', [1, 2])
def test_maps_sit_where_their_features_are_followed_to(kind, shrink):
  """Each layer as a slow walk: the mean of the places that a feature is made from."""
  first, fc6 = grid.PADDINGS[kind]
  size = 301
  places = np.arange(-(-size // shrink)) * shrink + (shrink - 1) / 2
  maps = grid.maps(np.array([size, size]), (first, fc6), shrink)

  def convolved(places, kernel, padding):
    step = places[1] - places[0]
    padded = places[0] + step * np.arange(-padding, len(places) + padding)
    return np.array([padded[i : i + kernel].mean() for i in range(len(padded) - kernel + 1)])

  places = convolved(places, 3, first)
  for number in range(1, 6):
    known = maps[f'conv{number}']
    assert (known.start, known.size[0]) == (places[0], len(places))
    if len(places) % 2:
      places = np.append(places, places[-1] + places[1] - places[0])
    places = (places[0::2] + places[1::2]) / 2
    assert (maps[f'pool{number}'].start, maps[f'pool{number}'].size[0]) == (places[0], len(places))
  places = convolved(places, 7, fc6)
  assert (maps['fc7'].start, maps['fc7'].size[0], maps['fc7'].stride) == (places[0], len(places), 32 * shrink)


def test_sizes_of_caffe_are_those_of_the_authors_networks():
  """A 500x500 picture: conv1 698, pool5 22, fc7 16, and 34 after one upsampling."""
  maps = grid.maps(np.array([500, 500]), grid.PADDINGS['caffe'], 1)
  assert [maps[name].size[0] for name in ('conv1', 'pool1', 'pool5', 'fc7')] == [698, 349, 22, 16]
  assert maps['fc7'].upsampled(2).size[0] == 34 and maps['fc7'].upsampled(32).size[0] == 544


def test_maps_that_do_not_line_up_are_an_error():
  pixels = grid.Map(np.array([8, 8]), 0.0, 1)
  with pytest.raises(ValueError, match='do not line up'):
    pixels.offset(grid.Map(np.array([8, 8]), 0.5, 1))
  with pytest.raises(ValueError, match='do not line up'):
    pixels.offset(pixels.pooled())


def test_halving_again_and_again_is_one_division_that_rounds_up():
  sizes = np.arange(1, 300)
  halved = sizes
  for stride in reversed(grid.STRIDES):
    halved = grid.ceil_divide(halved, 2)
    assert np.array_equal(halved, np.ceil(sizes / stride))
    assert np.array_equal(halved, grid.ceil_divide(sizes, stride))
  assert grid.ceil_divide(7, 2) == 4


def test_strides_are_every_power_of_two_from_coarse_to_fine():
  assert grid.STRIDES == (32, 16, 8, 4, 2)
  assert grid.SKIP_STRIDES == {'pool4': 16, 'pool3': 8, 'pool2': 4, 'pool1': 2}


@pytest.mark.parametrize('compiled', [False, True])
def test_valid_mask_is_true_within_each_picture_alone(compiled):
  sizes = np.array([[1, 1], [3, 5], [4, 2], [4, 6]], np.int32)
  make = jax.jit(grid.valid_mask, static_argnums=(1, 2)) if compiled else grid.valid_mask
  mask = np.asarray(make(sizes, 4, 6))
  assert mask.dtype == bool
  expected = np.zeros((4, 4, 6, 1), bool)
  for number, (height, width) in enumerate(sizes):
    expected[number, :height, :width] = True
  assert np.array_equal(mask, expected)
