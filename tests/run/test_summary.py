"""The first lines of a run give its recipe, network, data and devices, and the shapes to compile."""

import types

import numpy as np
import pytest

from fcn_jax import config as config_lib
from fcn_jax.config import normalization
from fcn_jax.data.dataset import Classes
from fcn_jax.models import names
from fcn_jax.run import summary

SKY, GROUND = Classes(('sky', 'tree'), ((0, 0, 9), (0, 9, 0))), Classes(('flat', 'steep'), ((9, 0, 0), (9, 9, 0)))


class Images(list):
  def sizes(self):
    return np.array([[120, 160]] * len(self))


def lines(monkeypatch, config, heads):
  """The lines by their first word."""
  monkeypatch.setattr(summary.cost, 'flops', lambda model, size: 1.5e9, raising=False)
  monkeypatch.setattr(summary.shares, 'class_shares', lambda split, head, classes: np.array([0.75, 0.25]))
  data = types.SimpleNamespace(
    heads=heads,
    watched='validation',
    splits={'train': Images([0] * 400), 'validation': Images([0] * 40)},
    fingerprint='x 1',
  )
  return [line.split(maxsplit=1) for line in summary.startup_lines(config, data, None, 1_234_567)]


def test_the_summary_names_recipe_network_data_devices_and_shapes(monkeypatch):
  config = config_lib.default()
  config.optim.lr = 0.5
  found = lines(monkeypatch, config, {'semantic': SKY})
  assert [name for name, _ in found] == ['recipe', 'network', 'data', 'classes', 'devices', 'shapes']
  texts = dict(found)
  assert texts['recipe'].startswith('scratch_small: model.norm=group, ') and 'data.scale=0.9,1.1' in texts['recipe']
  assert 'optim.lr' not in texts['recipe'], 'an override is not from the recipe'
  assert texts['network'] == (
    'FCN-8s, backbone vgg16, skips pool4+pool3, upsampling bilinear_fixed: 1,234,567 parameters, 1.50 GFLOP per '
    '128x160 image'
  )
  assert texts['data'] == 'x 1: 400 train, 40 validation'
  assert texts['classes'] == 'sky 75.0 %, tree 25.0 %'
  assert texts['devices'].endswith('batch size 8, 800 steps, 16.0 epochs') and texts['devices'].startswith('8 x ')
  assert texts['shapes'] == ('2 to compile: training at 128x160 (batch size 8), evaluation at 128x160 (batch size 20)')


@pytest.mark.parametrize(('shrink', 'name'), [(1, 'FCN-16s,'), (2, 'FCN-16s (stride 32 px),')])
def test_the_stride_is_given_in_pixels_if_the_image_is_shrunk(monkeypatch, shrink, name):
  config = config_lib.default()
  config.model.stride, config.model.shrink, config.model.skips = 16, shrink, 'none'
  network = dict(lines(monkeypatch, config, {'semantic': SKY}))['network']
  assert network.startswith(name) and 'skips none' in network


def test_several_heads_have_a_line_each(monkeypatch):
  found = lines(monkeypatch, config_lib.default(), {'semantic': SKY, 'geometry': GROUND})
  assert [text for name, text in found if name == 'classes'] == [
    'semantic: sky 75.0 %, tree 25.0 %',
    'geometry: flat 75.0 %, steep 25.0 %',
  ]


def test_the_normalization_of_the_input_is_named_with_its_source():
  config = config_lib.default()
  config.init.weights, config.model.mean = 'vgg.npz', (1.0, 2.5, 3.0)
  resolved = normalization.resolve(config, names.PREPROCESSING['caffe'], 'vgg.npz')
  assert summary.input_line(config, resolved) == 'input    mean 1,2.5,3 (model.mean), std 1,1,1 (vgg.npz)'


def test_a_summed_loss_has_a_note_on_the_learning_rate(monkeypatch):
  config = config_lib.default('scenes,recipe=pami16_heavy')
  assert dict(lines(monkeypatch, config, {'semantic': SKY}))['lr'] == (
    '1e-10 on the summed loss of 1 x 128x160 pixels is equivalent to 2e-06 on the mean loss; momentum 0.99 multiplies '
    'the effect of a step by 100 in the long run'
  )
