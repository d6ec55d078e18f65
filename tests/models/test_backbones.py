"""ResNet and AlexNet under FCN-32s, FCN-16s and FCN-8s: places and padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cheap import by_stride, check_padding, network, quick_jit, random_params, scores

from fcn_jax.models.alexnet import AlexNet
from fcn_jax.models.grid import Grid
from fcn_jax.models.resnet import ResNet18, ResNet50

NARROW = {'width': 1 / 16, 'group_size': 2, 'platform': 'cpu', 'name': 'trunk'}
BACKBONES = {
  'resnet18': ResNet18(**NARROW),
  'resnet50, frozen': ResNet50(norm='frozen_batch', **NARROW),
  'alexnet': AlexNet(fc_channels=256, **NARROW),
  'alexnet, caffe': AlexNet(fc_channels=256, geometry='caffe', **NARROW),
}
STRIDES = (32, 8)


@functools.cache
def several(name):
  """Networks of all strides over one backbone: a function of (params, images, size) to their scores; parameters."""
  return by_stride({stride: network(BACKBONES[name], stride=stride) for stride in STRIDES})


@pytest.mark.slow
@pytest.mark.parametrize('name', BACKBONES)
def test_a_padded_batch_gives_each_image_the_scores_that_it_gets_alone(name):
  check_padding(*several(name), [(33, 50), (1, 1)])


@pytest.mark.slow
@pytest.mark.parametrize('name', ['resnet18', 'alexnet', 'alexnet, caffe'])
def test_an_image_shifted_by_the_coarsest_stride_gives_shifted_scores(name):
  """Without GroupNorm, whose statistics would be those of other pixels."""
  apply, params = several(name)
  if name == 'resnet18':
    net = network(ResNet18(**NARROW | {'norm': 'frozen_batch'}), stride=8)
    above = random_params(net)
    params, apply = above, quick_jit(lambda params, images: {8: scores(net, params, images)})
  scene = np.random.default_rng(0).integers(0, 256, (576, 576, 3), np.uint8)
  first, second = scene[:544, :544], scene[32:, 32:]
  for stride, (before, after) in apply(params, np.stack([first, second])).items():
    expected, found = before[256:320, 256:320], after[224:288, 224:288]
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() < 1e-4 * scale, stride
    assert np.abs(after[225:289, 224:288] - expected).max() > 1e-2 * scale, stride


@pytest.mark.parametrize('name', BACKBONES)
def test_every_map_has_the_size_of_its_grid(name):
  backbone = BACKBONES[name]
  for size in ((1, 1), (33, 50), (97, 131)):
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    maps, _ = jax.eval_shape(
      lambda x, b=backbone: b.init_with_output(jax.random.key(0), x, lambda n: None, False), image
    )
    grids = backbone.grids(Grid(np.array(size)))
    assert all(tuple(grids[tap].size) == maps[tap].shape[1:3] for tap in backbone.taps)
    assert {tap: grids[tap].stride for tap in backbone.taps} == backbone.taps


def test_the_last_upsampling_of_fcn_alexnet_is_the_published_one():
  """Kernel 63 and crop 18, in Caffe's geometry."""
  pixels = Grid(np.array([500, 334]))
  fc7 = BACKBONES['alexnet, caffe'].grids(pixels)['fc7']
  assert (fc7.start, fc7.stride, fc7.kernel_to(pixels)) == (13, 32, 63)
  assert fc7.upsampled(63, 32).offset(pixels) == 18
