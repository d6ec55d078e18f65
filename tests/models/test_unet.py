"""U-Net: padding, any size, streams and heads."""

import jax
import numpy as np
import pytest
from cheap import quick_jit, random_params

from fcn_jax import config as config_lib
from fcn_jax import models
from fcn_jax.errors import UserError
from fcn_jax.models.unet import UNet

RGB = {'mean': {'rgb': (122.7, 116.7, 104.0)}, 'std': {'rgb': (64.0, 64.0, 64.0)}}


def unet(**fields) -> UNet:
  return UNet(
    **{'heads': {'semantic': 5}, 'depth': 3, 'width': 1 / 16, 'group_size': 2, 'platform': 'cpu'} | RGB | fields
  )


@pytest.mark.parametrize('norm', ['none', 'group'])
def test_a_padded_batch_gives_each_image_the_scores_that_it_gets_alone(norm):
  net = unet(norm=norm)
  params = random_params(net)
  apply = quick_jit(lambda params, images, size=None: net.apply({'params': params}, {'rgb': images}, size)['semantic'])
  sizes = np.array([(33, 50), (64, 17), (1, 1)], np.int32)
  canvases = np.random.default_rng(0).integers(0, 256, (3, 64, 97, 3), np.uint8)  # garbage around the images
  together = apply(params, canvases, sizes)
  for number, (height, width) in enumerate(sizes):
    alone = apply(params, canvases[number : number + 1, :height, :width])[0]
    scale = np.abs(alone).max()
    assert alone.shape == (height, width, 5) and scale > 0.01
    assert np.abs(together[number, :height, :width] - alone).max() < 1e-4 * scale


def test_width_1_and_depth_4_are_the_published_network():
  """31.0 million parameters without the last layer; with two classes, as published."""
  shapes = jax.eval_shape(
    unet(heads={'semantic': 2}, depth=4, width=1.0).init, jax.random.key(0), {'rgb': np.zeros((1, 9, 9, 3))}
  )
  by_layer = {name: layer['kernel'].shape for name, layer in shapes['params'].items()}
  assert by_layer['down0_conv1'] == (3, 3, 3, 64) and by_layer['down4_conv2'] == (3, 3, 1024, 1024)
  assert by_layer['up3'] == (2, 2, 1024, 512) and by_layer['up3_conv1'] == (3, 3, 1024, 512)
  assert by_layer['score'] == (1, 1, 64, 2) and len(by_layer) == 10 + 4 + 8 + 1


def test_streams_and_heads():
  net = unet(
    heads={'a': 5, 'b': 2}, mean={'rgb': (0.0,) * 3, 'depth': (1.0,)}, std={'rgb': (1.0,) * 3, 'depth': (2.0,)}
  )
  params = random_params(net)
  rng = np.random.default_rng(0)
  rgb, depth = rng.normal(size=(1, 20, 31, 3)), rng.normal(size=(1, 20, 31, 1))
  found = quick_jit(lambda p, x: net.apply({'params': p}, x))(params, {'rgb': rgb, 'depth': depth})
  assert {head: x.shape for head, x in found.items()} == {'a': (1, 20, 31, 5), 'b': (1, 20, 31, 2)}
  other = quick_jit(lambda p, x: net.apply({'params': p}, x))(params, {'rgb': rgb, 'depth': depth + 1})
  assert np.abs(found['a'] - other['a']).max() > 1e-3


def test_build_makes_it_from_a_config():
  config = config_lib.default('scenes')
  config.model.update(name='unet', depth=2)
  config_lib.validate(config)
  net = models.build(config.model, {'rgb': 3}, {'semantic': 8})
  assert (net.depth, net.width, net.norm, net.stride, net.taps) == (2, 0.125, 'group', 1, {'down2': 4})
  with pytest.raises(UserError, match='has no backbone'):
    models.build(config.model, {'rgb': 3}, {'semantic': 8}, freeze_backbone=True)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'name': 'unet', 'stride': 16}, 'model.stride is 16, but unet has no such setting'),
    ({'name': 'unet', 'norm': 'frozen_batch'}, "model.norm is 'frozen_batch'; expected none or group for unet"),
    (
      {'backbone': 'resnet50', 'geometry': 'caffe'},
      "model.geometry is 'caffe', but fcn on resnet50 has no such setting",
    ),
    ({'backbone': 'resnet18', 'fc_channels': 512}, 'model.fc_channels is 512, but fcn on resnet18 has no such setting'),
    (
      {'backbone': 'resnet18', 'norm': 'none'},
      "model.norm is 'none'; expected group or frozen_batch for fcn on resnet18",
    ),
    ({'backbone': 'alexnet', 'at_once': True}, 'model.at_once is True, but fcn on alexnet has no such setting'),
    ({'depth': 3}, 'model.depth is 3, but fcn on vgg16 has no such setting'),
    ({'backbone': 'resnet18', 'skips': 'pool4'}, "model.skips has 'pool4'"),
  ],
)
def test_settings_that_a_network_does_not_have_are_refused(changes, words):
  config = config_lib.default('scenes')
  config.model.update(changes)
  with pytest.raises(UserError, match=words):
    config_lib.validate(config)
