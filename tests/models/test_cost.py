"""Parameters and FLOPs against counts by hand, and the distance of kernels from bilinear interpolation."""

import functools

import numpy as np
import pytest
from cheap import random_params, shapes_of

from fcn_jax import config as config_lib
from fcn_jax import models
from fcn_jax.models import cost, grid
from fcn_jax.models.grid import Grid
from fcn_jax.models.names import BACKBONES, NETWORKS
from fcn_jax.models.vgg import BLOCKS, VGG16


@pytest.mark.parametrize('side', [3, 4, 31, 32])
def test_the_distance_from_bilinear_is_relative_and_of_each_class(side):
  bilinear = grid.bilinear_kernel((side + 1) // 2, side)
  kernel = np.stack([bilinear, 0 * bilinear, 3 * bilinear], axis=-1)
  assert cost.kernel_distances(kernel) == pytest.approx([0, 1, 2])


def multiply_adds(model, classes: int, size: tuple[int, int]) -> int:
  """By hand: every convolution at every position, the scores of every tap, and 4 features per upsampled score."""
  cells = Grid(np.array(size)).layer(model.shrink, stride=model.shrink, ceil=True)
  grids = VGG16(geometry=model.geometry).grids(cells)
  channels, total = 3, 0
  for number, (out, convolutions) in enumerate(BLOCKS, 1):
    for _ in range(convolutions):
      total += 9 * channels * round(out * model.width) * np.prod(grids[f'conv{number}'].size)
      channels = round(out * model.width)
  fc = round(model.fc_channels * model.width)
  total += (49 * channels + fc) * fc * np.prod(grids['fc7'].size)
  taps = [('fc7', fc), ('pool4', round(512 * model.width)), ('pool3', round(256 * model.width))]
  for tap, inputs in [x for x in taps if VGG16.taps[x[0]] >= model.stride]:
    total += inputs * classes * np.prod(grids[tap].size)
    total += 4 * classes * np.prod(grids[tap].size) * (tap != 'fc7')  # upsampled to this tap
  return int(total + 4 * classes * np.prod(size))  # and to pixels


# On smaller images, more of XLA's products would be with padding.
SCENES, PHOTOGRAPHS, VOC = [(128, 160), (120, 96), (200, 300)], [(240, 320), (375, 500)], [(250, 330), (500, 334)]


@pytest.mark.parametrize(
  ('dataset', 'classes', 'fields', 'sizes'),
  [
    ('scenes', 8, {}, SCENES),
    ('scenes', 8, {'stride': 32}, SCENES),
    ('scenes', 8, {'shrink': 2, 'stride': 16}, PHOTOGRAPHS),
    ('voc2012', 21, {'geometry': 'aligned', 'stride': 32}, VOC),
    ('voc2012', 21, {'geometry': 'aligned', 'stride': 8}, VOC),
    ('voc2012', 21, {'geometry': 'caffe', 'stride': 32}, VOC),
    ('voc2012', 21, {'geometry': 'caffe', 'stride': 8}, VOC),
  ],
)
def test_flops_are_within_5_percent_of_a_count_by_hand(dataset, classes, fields, sizes):
  """XLA counts additions of biases, ReLUs and maxima too, and leaves out products with the zeros of the padding."""
  model = config_lib.default(dataset).model
  model.update(fields)
  net = models.build(model, {'rgb': 3}, {'semantic': classes}, platform='cpu')
  for size in sizes:
    ratio = cost.flops(net, size) / (2 * multiply_adds(model, classes, size))
    assert ratio == pytest.approx(1, abs=0.05), size


OTHERS = [*(name for name in BACKBONES if name != 'vgg16'), *(name for name in NETWORKS if name != 'fcn')]


@functools.cache
def flops_on_scenes(recipe: str) -> int:
  model = config_lib.default(f'scenes,recipe={recipe}').model
  return cost.flops(models.build(model, {'rgb': 3}, {'semantic': 8}, platform='cpu'), (128, 160))


@pytest.mark.parametrize('name', OTHERS)
def test_the_small_recipe_of_a_network_needs_about_the_flops_of_the_narrow_vgg(name):
  """`experiments/networks.py` compares them; a new network needs such a recipe."""
  ratio = flops_on_scenes(f'scratch_small+small_{name}') / flops_on_scenes('scratch_small')
  assert ratio == pytest.approx(1, abs=0.2)


def test_flops_do_not_depend_on_the_platform():
  model = config_lib.default('scenes').model
  nets = [models.build(model, {'rgb': 3}, {'semantic': 8}, platform=platform) for platform in ('cpu', 'tpu')]
  assert len({cost.flops(net, (120, 160)) for net in nets}) == 1


def test_parameters_of_fcn_32s_are_those_of_the_paper():
  """14,714,688 of the convolutions of VGG-16, 119,545,856 of fc6 and fc7, and 4096 * 21 + 21 of the scores."""
  model = config_lib.default('voc2012').model
  model.update(stride=32, upsample='bilinear_fixed')
  params = shapes_of(models.build(model, {'rgb': 3}, {'semantic': 21}, platform='cpu'))
  assert cost.parameters(params) == 134_346_581


def test_parameters_are_counted_in_arrays_too():
  model = config_lib.default('scenes').model
  params = random_params(models.build(model, {'rgb': 3}, {'semantic': 8}, platform='cpu'))
  layers = _layers(params)
  weights = [layer[name].size for layer in layers for name in ('kernel', 'bias', 'scale') if name in layer]
  assert cost.parameters(params) == sum(weights) > 0


def _layers(tree):
  return [tree] if any(hasattr(x, 'size') for x in tree.values()) else [x for y in tree.values() for x in _layers(y)]
