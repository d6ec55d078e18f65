"""Upper bounds are perfect if regions fill the cells, and lower for coarser strides; the files about a network."""

import json

import numpy as np
import pytest
from cheap import network, random_params, vgg

from fcn_jax import bounds, models
from fcn_jax import config as config_lib
from fcn_jax.data.builders import scenes
from fcn_jax.data.dataset import IGNORE, Classes, Data
from fcn_jax.errors import UserError
from fcn_jax.models import cost
from fcn_jax.run.directory import RunDirectory


def test_a_constant_label_is_perfect_at_every_stride():
  scores = bounds.upper_bounds([np.full((3, 5), 1, np.uint8), np.full((100, 40), 0, np.uint8)], 8)
  assert set(scores) == {128, 64, 32, 16, 8, 4, 2}
  assert all(score['mean_iou'] == score['pixel_accuracy'] == 1 for score in scores.values())
  assert scores[2]['iou'] == {'0': 1.0, '1': 1.0} | dict.fromkeys('234567')


def test_only_regions_that_fill_cells_are_perfect():
  """Stripes of 16 pixels, up to a stride of 16; coarser cells mix them."""
  stripes = np.broadcast_to((np.arange(8, dtype=np.uint8) % 3).repeat(16), (128, 128))
  scores = bounds.upper_bounds([stripes, stripes.T], 8)
  assert {stride for stride, score in scores.items() if score['mean_iou'] == 1} == {16, 8, 4, 2}
  assert scores[32]['mean_iou'] < 0.7


def slow_upper_bound(label, stride, classes):
  """The scores of each pixel: the class shares of cells, weighted by the distance of their centers along each axis."""
  height, width = (-(-n // stride) for n in label.shape)
  shares = np.zeros((height, width, classes))
  for y, x in np.ndindex(label.shape):
    if label[y, x] != IGNORE:
      shares[y // stride, x // stride, label[y, x]] += 1
  middles = [(np.arange(n) + 0.5) * stride - 0.5 for n in (height, width)]
  near = [
    np.maximum(0, 1 - np.abs(np.arange(n)[:, None] - m) / stride) for n, m in zip(label.shape, middles, strict=True)
  ]
  return np.einsum('yh,xw,hwc->yxc', *near, shares)


@pytest.mark.parametrize('stride', [4, 32])
def test_scores_are_those_of_a_slow_loop_over_the_label_alone(stride):
  label = scenes.image('train', 3)['label'][:75, :101].copy()
  label[30:50, 20:60] = IGNORE
  scores = slow_upper_bound(label, stride, 8)
  second, first = np.moveaxis(np.sort(scores), -1, 0)[-2:]
  label[first - second < 1e-3 * stride**2] = IGNORE  # rounding could decide; this changes the shares of cells a little
  scores = slow_upper_bound(label, stride, 8)
  second, first = np.moveaxis(np.sort(scores), -1, 0)[-2:]
  labeled = label != IGNORE
  close = np.count_nonzero(labeled & (first - second < 1e-5 * stride**2))
  right = np.count_nonzero(scores.argmax(-1)[labeled] == label[labeled])
  found = bounds.upper_bounds([label], 8)[stride]['pixel_accuracy']
  assert abs(found * labeled.sum() - right) <= close + 1e-3
  assert close < 5 and right < 0.99 * labeled.sum()


def test_finer_strides_have_higher_bounds_on_drawn_scenes():
  labels = [scenes.image('validation', index)['label'] for index in range(4)]
  scores = bounds.upper_bounds(labels, 8)
  reached = [scores[stride]['mean_iou'] for stride in sorted(scores, reverse=True)]
  assert reached == sorted(reached) and len(set(reached)) == len(reached)
  assert reached[0] < 0.5 and 0.9 < reached[-1] < 1


def test_unlabeled_pixels_are_not_scored():
  label = np.full((20, 20), IGNORE, np.uint8)
  label[3:5, 4:9] = 2
  scores = bounds.upper_bounds([label, np.full((4, 4), IGNORE, np.uint8)], 8)
  assert all(score['iou'] == dict.fromkeys('01234567') | {'2': 1.0} for score in scores.values())


def test_labels_without_any_class_are_an_error():
  with pytest.raises(UserError, match='no pixel of these labels has a class'):
    bounds.upper_bounds([np.full((4, 4), IGNORE, np.uint8)], 8)


class Labels(list):
  """A split that has only labels."""

  def ids(self):
    return [str(number) for number in range(len(self))]


def labels(seed):
  """A split of one label: blocks of three classes, of sizes that no stride divides."""
  blocks = np.random.default_rng(seed).integers(0, 3, (6, 7), np.uint8)
  label = np.kron(blocks, np.ones((7, 9), np.uint8))
  return Labels([{'labels': {'semantic': label, 'geometric': 0 * label}}])


def data(**splits):
  """The first head has three classes, the second one."""
  heads = {'semantic': Classes(('a', 'b', 'c'), ((0, 0, 0),) * 3), 'geometric': Classes(('flat',), ((0, 0, 0),))}
  return Data({'rgb': 3}, heads, splits, 'fingerprint')


def test_the_files_of_a_network_have_its_size_cost_bounds_and_kernels(tmp_path):
  directory = RunDirectory(tmp_path)
  directory.write('config.json', '{}')
  model = network(vgg(), classes=3, shrink=2, upsample='learned_random')
  params = random_params(model)
  for split, seed in (('validation', 1), ('train', 0)):
    bounds.write_network(directory, split, model, params, data(**{split: labels(seed)}), (48, 64))
  found = json.loads((tmp_path / 'eval' / 'network.json').read_text())
  assert found['parameters'] == cost.parameters(params)
  assert found['size'] == [48, 64] and found['gflop'] == cost.flops(model, (48, 64)) / 1e9
  for split, seed in (('train', 0), ('validation', 1)):  # the second did not replace the first
    label = labels(seed)[0]['labels']['semantic']
    expected = bounds.upper_bounds([label], 3)[16]  # stride 8 in cells of 2 pixels
    assert found['upper_bound'][split]['mean_iou'] == expected['mean_iou'] < 1
  with np.load(tmp_path / 'eval' / 'kernels.npz') as kernels:
    assert set(kernels) == {'upsample_to_16', 'upsample_to_8', 'upsample_to_1'} == set(found['kernel_distance'])
    for name, kernel in kernels.items():
      assert np.array_equal(kernel, params[name]['kernel'])
      assert found['kernel_distance'][name] == cost.kernel_distances(kernel)


@pytest.mark.parametrize(
  ('settings', 'stride'),
  [
    ({'backbone': 'vgg16', 'stride': 32}, 32),
    ({'backbone': 'resnet18', 'stride': 16}, 16),
    ({'backbone': 'alexnet', 'stride': 8}, 8),
    ({'name': 'unet', 'depth': 2}, 1),
  ],
)
def test_every_network_has_the_bound_of_its_stride_and_without_trained_upsampling_no_kernels(
  settings, stride, tmp_path
):
  config = config_lib.default('scenes').model
  config.update(settings | {'fc_channels': 512, 'group_size': 4})
  model = models.build(config, {'rgb': 3}, {'semantic': 3})
  params = random_params(model)
  bounds.write_network(RunDirectory(tmp_path), 'validation', model, params, data(validation=labels(0)), (48, 64))
  found = json.loads((tmp_path / 'eval' / 'network.json').read_text())
  (expected,) = bounds.upper_bounds([labels(0)[0]['labels']['semantic']], 3, (stride,)).values()
  assert found['upper_bound']['validation']['mean_iou'] == expected['mean_iou']
  assert (expected['mean_iou'] == 1) == (stride == 1)  # U-Net's finest scores are those of the pixels
  assert found['gflop'] > 0 and found['parameters'] == cost.parameters(params)
  assert found['kernel_distance'] == {}
  assert [path.name for path in (tmp_path / 'eval').iterdir()] == ['network.json']


def test_a_process_that_does_not_write_leaves_no_file(tmp_path):
  model = network(vgg(), classes=3, upsample='learned_random')
  directory = RunDirectory(tmp_path, writes=False)
  bounds.write_network(directory, 'validation', model, random_params(model), data(validation=labels(0)), (48, 64))
  assert not list(tmp_path.iterdir())
