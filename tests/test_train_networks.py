"""The training step of other networks: on one device and on eight, in parts with remat, resumed, and in bfloat16."""

import types

import jax
import numpy as np
import pytest
from cheap import random_params
from checkpoints import assert_same as assert_equal
from checkpoints import opened
from small_training import ONE_HEAD, SGD, assert_same, no_signal, read, small_batch, small_config, use_one_device

from fcn_jax import models, optim, train
from fcn_jax.models.resnet import ResNet18
from fcn_jax.run import devices

pytestmark = pytest.mark.slow

SMALL = SGD | {'optim.lr': 0.01, 'optim.weight_decay': 0.1, 'model.width': 0.125, 'model.group_size': 4}
NETWORKS = {
  'resnet18': {'model.backbone': 'resnet18'},
  'resnet18, frozen': {'model.backbone': 'resnet18', 'model.norm': 'frozen_batch'},
  'alexnet': {'model.backbone': 'alexnet', 'model.fc_channels': 256},
  'unet': {'model.name': 'unet', 'model.depth': 2},
}
STEPS = 3
# With frozen statistics, everything but the statistics is as with GroupNorm.
without_frozen = pytest.mark.parametrize('on_eight', [x for x in NETWORKS if 'frozen' not in x], indirect=True)


def make(name: str, **changes):
  """A state at step 0 with random parameters, and a training step (state) -> (state, numbers) on one batch."""
  config = small_config(**SMALL | NETWORKS[name] | changes)
  model = models.build(config.model, {'rgb': 3}, ONE_HEAD)
  params, optimizer = random_params(model), optim.make(config.optim, config.train.steps)
  state = devices.replicate(train.TrainState(np.int32(0), params, optimizer.init(params), np.int32(0)))
  inputs = devices.shard(small_batch()), no_signal()
  quick = {'xla_backend_optimization_level': 0}  # compiles in half the time
  step = train.make_train_step(model, optimizer, config).lower(state, *inputs).compile(compiler_options=quick)
  return state, lambda state: step(state, *inputs)


def trained(state, step):
  """The state after three steps, and the numbers of each."""
  numbers = []
  for _ in range(STEPS):
    state, out = step(state)
    numbers.append(read(out))
  return state, numbers


@pytest.fixture(scope='module', params=NETWORKS)
def on_eight(request):
  """A network before and after three steps on eight devices."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(ResNet18, 'blocks', (1, 1, 1, 1))  # compiles in half the time
    state, step = make(request.param)
    before = jax.device_get(state)
    after, numbers = trained(state, step)
    yield types.SimpleNamespace(
      name=request.param, step=step, before=before, after=jax.device_get(after), numbers=numbers
    )


@without_frozen
def test_one_device_in_parts_with_remat_and_eight_learn_the_same(on_eight, monkeypatch):
  use_one_device(monkeypatch)
  frugal = trained(*make(on_eight.name, **{'train.accumulation': 2, 'model.remat': True}))
  assert_same((on_eight.after, on_eight.numbers), frugal)


@without_frozen
def test_bfloat16_learns_about_the_same(on_eight):
  _, numbers = trained(*make(on_eight.name, **{'model.dtype': 'bfloat16'}))
  for mine, expected in zip(numbers, on_eight.numbers, strict=True):
    assert mine['loss'] == pytest.approx(expected['loss'], rel=0.02)
    assert mine['gradient_norm'] == pytest.approx(expected['gradient_norm'], rel=0.1)
  assert numbers[-1]['loss'] < numbers[0]['loss']


def test_training_changes_every_parameter_but_the_statistics_of_frozen_batch_norm(on_eight):
  """Neither the gradient nor weight decay changes them."""
  after = dict(jax.tree_util.tree_leaves_with_path(on_eight.after.params))
  for path, x in jax.tree_util.tree_leaves_with_path(on_eight.before.params):
    assert np.array_equal(x, after[path]) == (path[-1].key in ('mean', 'var')), path


def test_a_restored_state_goes_on_as_if_nothing_had_happened(on_eight, tmp_path):
  state = devices.replicate(on_eight.after)
  with opened(tmp_path) as checkpoints:
    checkpoints.save(STEPS, state)
  expected, numbers = on_eight.step(state)
  with opened(tmp_path) as checkpoints:
    restored = checkpoints.restore(devices.replicate(on_eight.before))
  found, again = on_eight.step(restored)
  assert_equal(found, expected)
  assert read(again) == read(numbers)
