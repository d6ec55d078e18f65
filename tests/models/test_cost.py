"""What a table says of a network beside its scores."""

import json

import numpy as np
import pytest
from cheap import random_params
from etils import epath

from fcn_jax import bounds
from fcn_jax.data import dataset
from fcn_jax.models import cost, fcn, grid
from fcn_jax.models.fcn import FCN
from fcn_jax.models.vgg import VGG


@pytest.mark.parametrize('stride', [2, 16])
def test_distance_from_bilinear_is_relative_and_of_each_class(stride):
  bilinear = grid.bilinear_kernel(stride)
  kernel = np.stack([bilinear, 0 * bilinear, 3 * bilinear], axis=-1)
  assert cost.distances(kernel) == pytest.approx([0, 1, 2])


class Labels(list):
  """Pictures of a split that are labels alone."""

  def ids(self):
    return [str(number) for number in range(len(self))]


def labels(seed):
  """Blocks of three classes, of sizes that no stride divides."""
  blocks = np.random.default_rng(seed).integers(0, 3, (6, 7), np.uint8)
  return Labels([{'label': np.kron(blocks, np.ones((7, 9), np.uint8))}])


def test_the_file_says_size_cost_bounds_and_kernels(tmp_path):
  data = dataset.Data(('a', 'b', 'c'), ((0, 0, 0),) * 3, {'train': labels(0), 'validation': labels(1)}, '')
  model = FCN(3, VGG(width=1 / 16, fc_channels=256), stride=8, shrink=2, upsample='learned_random')
  params = random_params(model, np.zeros((1, 1, 1, 3), np.uint8))
  for split in ('validation', 'train'):
    cost.write(epath.Path(tmp_path), split, model, params, data, (48, 64))
  said = json.loads((tmp_path / 'eval' / 'network.json').read_text())
  weights = [layer['kernel'].size + layer.get('bias', np.zeros(0)).size for layer in _layers(params)]
  assert said['parameters'] == sum(weights)
  assert said['size'] == [48, 64] and said['gflop'] == fcn.flops(model, 48, 64) / 1e9
  for split, seed in (('train', 0), ('validation', 1)):  # the second did not push out the first
    expected = bounds.upper_bounds([labels(seed)[0]['label']], 3)[16]  # the stride in pixels
    assert said['upper_bound'][split]['mean_iou'] == expected['mean_iou'] < 1
  with np.load(tmp_path / 'eval' / 'kernels.npz') as kernels:
    assert set(kernels) == {'upsample_to_16', 'upsample_to_8', 'upsample_to_1'} == set(said['kernel_distance'])
    for name, kernel in kernels.items():
      assert np.array_equal(kernel, params[name]['kernel'])
      assert said['kernel_distance'][name] == cost.distances(kernel)


def test_fixed_upsampling_leaves_no_kernels(tmp_path):
  data = dataset.Data(('a', 'b', 'c'), ((0, 0, 0),) * 3, {'validation': labels(0)}, '')
  model = FCN(3, VGG(width=1 / 16, fc_channels=256), stride=32, skips=())
  params = random_params(model, np.zeros((1, 1, 1, 3), np.uint8))
  cost.write(epath.Path(tmp_path), 'validation', model, params, data, (48, 64))
  assert json.loads((tmp_path / 'eval' / 'network.json').read_text())['kernel_distance'] == {}
  assert [path.name for path in (tmp_path / 'eval').iterdir()] == ['network.json']


def _layers(tree):
  return [tree] if 'kernel' in tree else [layer for branch in tree.values() for layer in _layers(branch)]
