"""FCN-32s, FCN-16s and FCN-8s over a backbone that is not VGG-16: places, crops, padding and training."""

import functools

import jax
import numpy as np
import pytest
from cheap import by_stride, check_padding, network, quick_jit, random_params
from toy_backbone import toy

from fcn_jax import config as config_lib
from fcn_jax import optim, train
from fcn_jax.data.dataset import IGNORE
from fcn_jax.models.grid import Grid
from fcn_jax.run import devices

CLASSES = 5
STRIDES = (32, 16, 8, 4)
IMAGE = np.zeros((1, 33, 33, 3), np.uint8)  # large enough for a pooling without padding


def places(grid: Grid) -> np.ndarray:
  """The pixel of each feature of a grid along its second axis."""
  return grid.start + grid.stride * np.arange(grid.size[-1])


@functools.cache
def several(padding):
  """Networks of all strides over one backbone: a function of (params, images, size) to their scores; parameters."""
  return by_stride(
    {stride: network(toy(padding), stride=stride, upsample='bilinear_learned') for stride in STRIDES}, {'rgb': IMAGE}
  )


@pytest.mark.parametrize('padding', [1, 0])
def test_features_sit_in_the_middle_of_the_pixels_that_they_depend_on(padding):
  """Impulses, one pixel per image, through positive weights: a feature responds to the pixels that it can see."""
  backbone, length = toy(padding), 200
  ones = jax.tree.map(np.ones_like, random_params(network(backbone), {'rgb': IMAGE}))['trunk']
  params = jax.tree.map(lambda x: x if x.ndim > 1 else 0 * x, ones)  # no biases
  impulses = np.zeros((length, 9, length, 3), np.float32)
  impulses[np.arange(length), :, np.arange(length)] = 1
  maps = quick_jit(lambda x: backbone.apply({'params': params}, x, lambda name: None, False))(impulses)
  grids = backbone.grids(Grid(np.array([9, length])))
  for tap, sees in (('stem', 11), ('stage1', 19), ('stage2', 35), ('stage3', 67)):  # pixels
    assert list(maps[tap].shape[1:3]) == list(grids[tap].size)
    compared = 0
    for column, place in enumerate(places(grids[tap])):
      seen = np.flatnonzero(maps[tap][:, 0, column, 0])
      if sees // 2 <= place < length - sees // 2:  # sees no pixel outside the image
        assert (seen.mean(), len(seen)) == (place, sees), tap
        compared += 1
    assert compared > 2


@pytest.mark.parametrize(('padding', 'start'), [(1, 0), (0, 2)])
def test_grids_align_with_odd_kernels_and_the_crops_that_places_ask_for(padding, start):
  """Compares where a transposed convolution puts a feature with where it should be, as in `test_grid.py`."""
  pixels = Grid(np.array([100, 131]))
  grids = toy(padding).grids(pixels) | {'pixels': pixels}
  steps = [('stage3', 'stage2'), ('stage2', 'stage1'), ('stage1', 'stem'), ('stage3', 'pixels'), ('stage1', 'pixels')]
  for coarse, fine in ((grids[a], grids[b]) for a, b in steps):
    factor = coarse.stride // fine.stride
    kernel = coarse.kernel_to(fine)
    middle = factor * 2 + (kernel - 1) / 2  # the row that feature 2 is in the middle of
    wanted = np.flatnonzero(places(fine) == places(coarse)[2]).item()
    assert kernel == 2 * factor - 1
    assert coarse.upsampled(kernel, factor).offset(fine) == middle - wanted
  assert {grid.start for name, grid in grids.items() if name.startswith('st')} == {start}


@pytest.mark.parametrize('padding', [1, 0])
def test_a_padded_batch_gives_each_image_the_scores_that_it_gets_alone(padding):
  sizes = [(33, 50), (64, 17), (21, 96), (32, 32)] + ([(1, 1), (2, 3)] if padding else [(7, 9)])
  check_padding(*several(padding), sizes)


def test_a_mirrored_image_gives_mirrored_scores():
  """With mirrored kernels, if the first and the last pixel are features. A crop off by one pixel would break it."""
  apply, params = several(1)
  mirrored = jax.tree.map(lambda x: x[::-1, ::-1] if x.ndim > 2 else x, params)
  images = np.random.default_rng(0).integers(0, 256, (1, 65, 97, 3), np.uint8)
  straight = apply(params, images)
  for stride, found in apply(mirrored, images[:, ::-1, ::-1]).items():
    expected, scale = straight[stride][:, ::-1, ::-1], np.abs(found).max()
    assert np.abs(found - expected).max() < 1e-4 * scale, stride
    assert np.abs(found - straight[stride]).max() > 1e-2 * scale, stride


@pytest.mark.parametrize('padding', [1, 0])
def test_an_image_shifted_by_the_coarsest_stride_gives_shifted_scores(padding):
  apply, params = several(padding)
  scene = np.random.default_rng(0).integers(0, 256, (352, 352, 3), np.uint8)
  first, second = scene[:320, :320], scene[32:, 32:]
  for stride, (before, after) in apply(params, np.stack([first, second])).items():
    expected, found = before[128:224, 128:224], after[96:192, 96:192]
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() < 1e-4 * scale, stride
    assert np.abs(after[97:193, 96:192] - expected).max() > 1e-2 * scale, stride


def batch(count=8):
  """Images of several sizes, each of one class and its color, with very unequal numbers of labeled pixels."""
  rng = np.random.default_rng(0)
  label = np.broadcast_to(np.arange(count)[:, None, None] % CLASSES, (count, 48, 48)).astype(np.uint8)
  image = 50 * label[..., None] + rng.integers(0, 50, (count, 48, 48, 3))
  label[rng.random(label.shape) < np.linspace(0.9, 0, count)[:, None, None]] = IGNORE
  size = rng.integers(40, 49, (count, 2)).astype(np.int32)
  return {'inputs': {'rgb': image.astype(np.uint8)}, 'labels': {'semantic': label}, 'size': size}


def trained(net, steps):
  """The losses of SGD on one batch, and the parameters after it."""
  config = config_lib.default('scenes')
  config.optim.update(name='sgd', lr=0.2, schedule='constant', warmup=0, weight_decay=0.0)
  optimizer = optim.make(config.optim, steps)
  state = devices.replicate(train.init_state(net, optimizer, seed=0))
  step, found = train.make_train_step(net, optimizer, config), []
  signal = devices.shard(np.zeros(jax.local_device_count(), np.int32))
  for _ in range(steps):
    state, numbers = jax.block_until_ready(step(state, devices.shard(batch()), signal))
    found.append(float(numbers['loss'].addressable_data(0)))
  return found, jax.tree.map(np.asarray, state.params)


@pytest.mark.slow
@pytest.mark.parametrize('stride', [32, 16, 8])
def test_it_learns_and_one_device_learns_what_eight_do(stride, monkeypatch):
  net = network(toy(), stride=stride, upsample='bilinear_learned')
  eight, params = trained(net, steps=12)
  assert eight[0] == pytest.approx(np.log(CLASSES), rel=1e-4)  # scores start at zero
  assert eight[-1] < 0.95 * eight[0]
  device = jax.local_devices()[:1]
  monkeypatch.setattr(jax, 'local_devices', lambda: device)
  monkeypatch.setattr(jax, 'local_device_count', lambda: 1)
  one, params_of_one = trained(net, steps=12)
  assert one == pytest.approx(eight, rel=1e-3)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4), params_of_one, params)
