"""Sizes, positions and offsets of grids, compared with windows and positions that are followed layer by layer."""

import itertools

import jax
import numpy as np
import pytest

from fcn_jax.models import grid
from fcn_jax.models.grid import Grid
from fcn_jax.models.names import BACKBONES
from fcn_jax.models.vgg import PADDINGS, VGG16

TAPS = {'vgg16': BACKBONES['vgg16'].taps}
SKIPS = {name: stride for name, stride in TAPS['vgg16'].items() if name != 'fc7'}
STRIDES = tuple(TAPS['vgg16'].values())


def windows(size, kernel, stride, padding, ceil):
  """The first position of each window along an axis of `size`, by the rule of Caffe and PyTorch.

  Rounded down, every window lies within the padded axis. Rounded up, there is one more where some positions are in no
  window yet, unless that window would start in the padding at the end.
  """
  starts, end = [-padding], size + padding
  while True:
    following = starts[-1] + stride
    if following + kernel > end and not (ceil and starts[-1] + kernel < end and following < size):
      return starts
    starts.append(following)


LAYERS = [
  (kernel, stride, padding)
  for kernel, stride, padding in itertools.product((1, 2, 3, 5, 7, 11), (1, 2, 3, 4), (0, 1, 2, 3, 100))
  if padding <= kernel // 2 or padding == 100
]


@pytest.mark.parametrize('ceil', [False, True])
def test_a_layer_has_the_windows_of_a_slow_walk_and_sits_in_their_middles(ceil):
  for kernel, stride, padding in LAYERS:
    if ceil and padding > kernel // 2:  # neither library pools so
      continue
    for size in range(max(1, kernel - 2 * padding), 40):
      starts = windows(size, kernel, stride, padding, ceil)
      found = Grid(np.array([size, size]), 5.0, 3).layer(kernel, stride, padding, ceil=ceil)
      middles = 5 + 3 * (np.array(starts) + (kernel - 1) / 2)  # pixels, from those of the input's grid
      assert found.size.tolist() == [len(starts)] * 2, (size, kernel, stride, padding)
      assert np.array_equal(found.start + found.stride * np.arange(len(starts)), middles)


def test_a_layer_has_the_size_that_jax_gives():
  """Convolutions round down."""
  for kernel, stride, padding in LAYERS:
    for size in ((13, 40), (16, 21)):
      shapes = jax.ShapeDtypeStruct((1, 1, *size), np.float32), jax.ShapeDtypeStruct((1, 1, kernel, kernel), np.float32)
      out = jax.eval_shape(
        lambda x, k, s=stride, p=padding: jax.lax.conv_general_dilated(x, k, (s, s), ((p, p), (p, p))), *shapes
      )
      assert Grid(np.array(size)).layer(kernel, stride, padding).size.tolist() == list(out.shape[2:])


def test_the_images_of_a_batch_have_the_sizes_that_they_have_alone():
  sizes = np.array([[40, 17], [23, 31], [16, 16]])
  for kernel, stride, padding in LAYERS:
    for ceil in (False, True):
      together = Grid(sizes).layer(kernel, stride, padding, ceil=ceil).upsampled(4, stride)
      alone = [Grid(size).layer(kernel, stride, padding, ceil=ceil).upsampled(4, stride).size for size in sizes]
      assert np.array_equal(together.size, alone)


def positions(stride, count):
  """Where the first features of a map sit in the image: a 3x3 convolution moves nothing, a pooling takes a mean."""
  places = np.arange(count * stride, dtype=float)
  while stride > 1:
    places, stride = (places[0::2] + places[1::2]) / 2, stride // 2
  return places


def crop_that_aligns(coarse, fine):
  """How many rows too far a transposed convolution puts features of one stride on the grid of a finer one."""
  factor, count = coarse // fine, 4
  kernel = 2 * factor
  reached = np.array([np.arange(kernel) + factor * i for i in range(count)])  # rows that feature i is added to
  finer = positions(fine, count * factor)
  wanted = np.interp(positions(coarse, count), finer, np.arange(len(finer)))
  offsets = reached.mean(axis=1) - wanted
  assert np.all(offsets == offsets[0])
  return offsets[0]


def test_feature_i_sits_in_the_middle_of_its_cell():
  for stride in STRIDES:
    assert np.array_equal(positions(stride, 5), stride * np.arange(5) + (stride - 1) / 2)


@pytest.mark.parametrize(
  ('net', 'offsets'),
  [(32, [16]), (16, [1, 8]), (8, [1, 1, 4]), (4, [1, 1, 1, 2]), (2, [1, 1, 1, 1, 1])],
)
def test_crops_align_with_pixels(net, offsets):
  strides = [s for s in STRIDES if s >= net] + [1]
  steps = list(itertools.pairwise(strides))
  assert [crop_that_aligns(coarse, fine) for coarse, fine in steps] == offsets
  assert crops('aligned', net) == [(0, n) for n in offsets]


def crops(geometry, net):
  """For each step from fc7 to pixels, the crop offsets of the skip and of the upsampled scores."""
  pixels = Grid(np.array([375, 500]))
  grids, found = VGG16(geometry=geometry).grids(pixels), []
  now = grids['fc7']
  for skip, stride in SKIPS.items():
    if stride >= net:
      assert now.kernel_to(grids[skip]) == 4
      risen = now.upsampled(4, 2)
      ahead = risen.offset(grids[skip])
      found.append((max(-ahead, 0), max(ahead, 0)))
      now = grids[skip] if ahead >= 0 else risen
  assert now.kernel_to(pixels) == 2 * now.stride
  return [*found, (0, now.upsampled(2 * now.stride, now.stride).offset(pixels))]


@pytest.mark.parametrize(
  ('net', 'expected'),
  [(32, [(0, 19)]), (16, [(5, 0), (0, 27)]), (8, [(5, 0), (9, 0), (0, 31)])],
)
def test_caffe_crops_are_those_of_the_authors_networks(net, expected):
  """`crop` layers of their prototxt files: score_pool4c 5, score_pool3c 9, score 19, 27 and 31."""
  assert crops('caffe', net) == expected


@pytest.mark.parametrize('geometry', ['aligned', 'caffe'])
@pytest.mark.parametrize('shrink', [1, 2])
def test_grids_of_vgg_sit_where_their_features_are_followed_to(geometry, shrink):
  """Each layer as a slow walk: the mean of the places that a feature is computed from."""
  first, fc6 = PADDINGS[geometry]
  size = 301
  places = np.arange(-(-size // shrink)) * shrink + (shrink - 1) / 2
  cells = Grid(np.array([size, size])).layer(shrink, stride=shrink, ceil=True)
  grids = VGG16(geometry=geometry).grids(cells)

  def convolved(places, kernel, padding):
    step = places[1] - places[0]
    padded = places[0] + step * np.arange(-padding, len(places) + padding)
    return np.array([padded[i : i + kernel].mean() for i in range(len(padded) - kernel + 1)])

  places = convolved(places, 3, first)
  for number in range(1, 6):
    found = grids[f'conv{number}']
    assert (found.start, found.size[0]) == (places[0], len(places))
    if len(places) % 2:
      places = np.append(places, places[-1] + places[1] - places[0])
    places = (places[0::2] + places[1::2]) / 2
    assert (grids[f'pool{number}'].start, grids[f'pool{number}'].size[0]) == (places[0], len(places))
  places = convolved(places, 7, fc6)
  assert (grids['fc7'].start, grids['fc7'].size[0], grids['fc7'].stride) == (places[0], len(places), 32 * shrink)


def test_sizes_of_caffe_are_those_of_the_authors_networks():
  """A 500x500 image: conv1 698, pool5 22, fc7 16, and 34 after one upsampling."""
  grids = VGG16(geometry='caffe').grids(Grid(np.array([500, 500])))
  assert [grids[name].size[0] for name in ('conv1', 'pool1', 'pool5', 'fc7')] == [698, 349, 22, 16]
  assert grids['fc7'].upsampled(4, 2).size[0] == 34 and grids['fc7'].upsampled(64, 32).size[0] == 544


def test_grids_that_do_not_align_are_an_error():
  pixels = Grid(np.array([8, 8]))
  with pytest.raises(ValueError, match='do not align'):
    pixels.offset(Grid(np.array([8, 8]), 0.5))
  with pytest.raises(ValueError, match='do not align'):
    pixels.offset(pixels.layer(2, stride=2))


def test_halving_repeatedly_is_one_division_that_rounds_up():
  sizes = np.arange(1, 300)
  halved = Grid(sizes)
  for stride in reversed(STRIDES):
    halved = halved.layer(2, stride=2, ceil=True)
    assert np.array_equal(halved.size, np.ceil(sizes / stride))
    assert np.array_equal(halved.size, Grid(sizes).layer(stride, stride=stride, ceil=True).size)
    assert halved.start == (stride - 1) / 2 and halved.stride == stride


@pytest.mark.parametrize('geometry', ['aligned', 'caffe'])
def test_the_taps_have_the_strides_that_their_names_are_listed_with(geometry):
  """The check of a config reads `names.TAPS`, without the backbone. FCN upsamples by 2 from each tap to the next."""
  grids = VGG16(geometry=geometry).grids(Grid(np.array([64, 64])))
  assert VGG16.taps == TAPS['vgg16'] == {name: grids[name].stride for name in VGG16.taps}
  assert all(coarse == 2 * fine for coarse, fine in itertools.pairwise(STRIDES))


@pytest.mark.parametrize('compiled', [False, True])
def test_valid_mask_is_true_within_each_image_alone(compiled):
  sizes = np.array([[1, 1], [3, 5], [4, 2], [4, 6]], np.int32)
  make = jax.jit(grid.valid_mask, static_argnums=(1, 2)) if compiled else grid.valid_mask
  mask = np.asarray(make(sizes, 4, 6))
  assert mask.dtype == bool
  expected = np.zeros((4, 4, 6, 1), bool)
  for number, (height, width) in enumerate(sizes):
    expected[number, :height, :width] = True
  assert np.array_equal(mask, expected)


def test_a_layout_masks_by_the_sizes_of_the_images():
  canvas, images = Grid(np.array([4, 6])), Grid(np.array([[3, 5], [1, 2]]))
  layout = grid.Layout({'x': canvas}, {'x': images})
  assert np.array_equal(layout.mask('x'), grid.valid_mask(images.size, 4, 6))
  assert grid.Layout({'x': canvas}).mask('x') is None
