"""`models.build` is the one constructor; the platform that a network is built for is a value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cheap import shapes_of
from toy_backbone import Toy

from fcn_jax import config as config_lib
from fcn_jax import models
from fcn_jax.data.dataset import Classes
from fcn_jax.errors import UserError
from fcn_jax.models import names
from fcn_jax.models.fcn import AT_ONCE, FCN
from fcn_jax.models.vgg import VGG16

RGB, SEMANTIC = {'rgb': 3}, {'semantic': 5}


def settings(**fields):
  """The section `model` of a config."""
  model = config_lib.default('scenes').model
  model.update({'width': 1 / 16, 'fc_channels': 256, 'norm': 'none'} | fields)
  return model


def test_every_setting_reaches_the_network():
  model = config_lib.default('scenes').model
  fields = {
    'width': 0.25,
    'fc_channels': 512,
    'norm': 'none',
    'group_size': 2,
    'dropout': 0.3,
    'remat': True,
    'geometry': 'caffe',
  }
  mean, std = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
  model.update(stride=4, skips='pool3+pool2', upsample='learned_random', shrink=2, at_once=True, dtype='bfloat16')
  model.update(mean=mean, std=std, **fields)
  found = models.build(model, RGB, SEMANTIC, freeze_backbone=True, platform='tpu')
  dtype = jnp.dtype('bfloat16')
  assert found == FCN(
    heads=SEMANTIC,
    backbones={'rgb': VGG16(**fields, dtype=dtype, platform='tpu', name='trunk')},
    mean={'rgb': mean},
    std={'rgb': std},
    stride=4,
    skips=('pool3', 'pool2'),
    upsample='learned_random',
    shrink=2,
    tap_factors=AT_ONCE,
    freeze_backbone=True,
    dtype=dtype,
    platform='tpu',
  )
  assert not models.build(settings(), RGB, SEMANTIC).tap_factors
  assert set(model) == set(fields) | {
    *('name', 'depth', 'backbone', 'stride', 'skips', 'upsample', 'shrink', 'at_once', 'dtype', 'mean', 'std')
  }, 'a new setting of the model: test that it reaches the network'


def test_heads_are_numbers_or_collections_of_classes():
  classes = Classes(('sky', 'tree'), ((0, 0, 0), (1, 1, 1)))
  found = models.build(settings(), RGB, {'a': classes, 'b': 7, 'c': ['x', 'y', 'z']})
  assert dict(found.heads) == {'a': 2, 'b': 7, 'c': 3}


def test_the_names_of_layers_are_those_of_checkpoints():
  one = shapes_of(models.build(settings(upsample='bilinear_learned'), RGB, SEMANTIC))
  scores, steps = ['score_fr', 'score_pool4', 'score_pool3'], ['upsample_to_16', 'upsample_to_8', 'upsample_to_1']
  assert set(one) == {'trunk', *scores, *steps}
  assert set(one['trunk']) >= {'conv1_1', 'conv5_3', 'fc6', 'fc7'}
  model = settings(upsample='bilinear_learned', mean=(0.0,) * 4, std=(1.0,) * 4)
  several = shapes_of(models.build(model, {'rgb': 3, 'depth': 1}, SEMANTIC))
  assert set(several) == {'trunk_rgb', 'trunk_depth', *steps, *(f'{x}_{s}' for x in scores for s in ('rgb', 'depth'))}
  assert several['trunk_depth']['conv1_1']['kernel'].shape == (3, 3, 1, 4)
  heads = shapes_of(models.build(settings(upsample='bilinear_learned'), RGB, {'a': 5, 'b': 2}))
  assert set(heads) == {'trunk', *(f'{name}_{head}' for name in scores + steps for head in ('a', 'b'))}


def test_mean_and_std_are_cut_into_the_streams():
  model = settings(mean=(1.0, 2.0, 3.0, 4.0), std=(5.0, 6.0, 7.0, 8.0))
  found = models.build(model, {'rgb': 3, 'depth': 1}, SEMANTIC)
  assert found.mean == {'rgb': (1.0, 2.0, 3.0), 'depth': (4.0,)}
  assert found.std == {'rgb': (5.0, 6.0, 7.0), 'depth': (8.0,)}
  assert {stream: x.shape for stream, x in found.example_inputs().items()} == {
    'rgb': (1, 1, 1, 3),
    'depth': (1, 1, 1, 1),
  }


@pytest.mark.parametrize('field', ['mean', 'std'])
@pytest.mark.parametrize('values', [(1.0,) * 3, (1.0,) * 5])
def test_a_wrong_number_of_constants_is_an_error(field, values):
  model = settings(**{'mean': (0.0,) * 4, 'std': (1.0,) * 4} | {field: values})
  expected = rf'model\.{field} has {len(values)} numbers, but the images have 4 channels \(3 of rgb, 1 of depth\)'
  with pytest.raises(UserError, match=expected):
    models.build(model, {'rgb': 3, 'depth': 1}, SEMANTIC)


def test_networks_and_backbones_are_looked_up_by_name(monkeypatch):
  for table in (names.NETWORKS, names.BACKBONES):
    assert all(isinstance(names.load_class(entry.path), type) for entry in table.values())
  assert all(names.load_class(entry.path).taps == entry.taps for entry in names.BACKBONES.values())

  class Other(Toy):
    """A backbone with the fields that `build` gives to every backbone."""

    width: float = 1.0
    fc_channels: int = 0
    norm: str = 'none'
    group_size: int = 1
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    geometry: str = 'aligned'
    platform: str | None = None

  monkeypatch.setitem(names.BACKBONES, 'other', names.Backbone('somewhere:Other', Toy.taps))
  load = names.load_class
  monkeypatch.setattr(names, 'load_class', lambda path: Other if path == 'somewhere:Other' else load(path))
  found = models.build(settings(backbone='other'), RGB, SEMANTIC)
  assert found.skips == ('stage2', 'stage1')
  assert set(shapes_of(found)) == {'trunk', 'score_fr', 'score_stage2', 'score_stage1'}


@pytest.fixture
def no_backend(monkeypatch):
  """Asking jax which hardware is present is an error."""

  def fail():
    raise AssertionError('asked for the backend of this process')

  monkeypatch.setattr(jax, 'default_backend', fail)


def gradient_of(platform):
  """A function of (params, images) to the gradient of the sum of scores, and shapes of both."""
  net = models.build(settings(), RGB, SEMANTIC, platform=platform)
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8)
  return jax.grad(lambda p, x: net.apply({'params': p}, {'rgb': x})['semantic'].sum()), shapes_of(net), images


def test_the_form_of_convolutions_is_that_of_the_platform_and_not_of_the_machine(no_backend):
  """On CPUs, 3x3 convolutions padded by 1 have another gradient, with strips if there are few images."""
  programs = {}
  for platform in ('cpu', 'gpu', 'tpu'):
    net = models.build(settings(), RGB, SEMANTIC, platform=platform)
    gradient, *shapes = gradient_of(platform)
    forward = jax.make_jaxpr(lambda p, x, net=net: net.apply({'params': p}, {'rgb': x}))(*shapes)
    assert ('_convolution_3x3' in str(forward)) == (platform == 'cpu')
    programs[platform] = str(jax.make_jaxpr(gradient)(*shapes))
  assert programs['gpu'] == programs['tpu'] != programs['cpu']


@pytest.mark.parametrize(('platform', 'lowered_for'), [('tpu', 'tpu'), ('gpu', 'cuda')])
def test_a_program_is_lowered_for_hardware_that_is_not_there(no_backend, platform, lowered_for):
  gradient, *shapes = gradient_of(platform)
  text = jax.jit(gradient).trace(*shapes).lower(lowering_platforms=(lowered_for,)).as_text()
  assert text.count('stablehlo.convolution') > 13


def test_by_default_the_platform_is_that_of_this_process(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  found = models.build(settings(), RGB, SEMANTIC)
  assert found.platform == found.backbones['rgb'].platform == 'tpu'
