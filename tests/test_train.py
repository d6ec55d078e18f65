"""The training step: on one device and on eight, in parts, with several heads, and its random numbers."""

import jax
import noise
import numpy as np
import pytest
from cheap import network, vgg
from small_training import (
  CLASSES,
  ONE_HEAD,
  SGD,
  TWO_HEADS,
  assert_same,
  no_signal,
  read,
  small_batch,
  small_config,
  use_one_device,
)
from toy_backbone import Toy

from fcn_jax import losses, optim, train
from fcn_jax.data import pipeline
from fcn_jax.data.dataset import IGNORE
from fcn_jax.run import devices, signals

COMPILATIONS = []  # their durations


def _listen(event: str, seconds: float, **_):
  if event == '/jax/core/compile/backend_compile_duration':
    COMPILATIONS.append(seconds)


jax.monitoring.register_event_duration_secs_listener(_listen)


def with_label(batch: dict, label: np.ndarray) -> dict:
  return batch | {'labels': {'semantic': label}}


def make(config, heads=ONE_HEAD, seed=None, weights=None, backbone=None):
  """A small FCN-8s, its state at step 0 on the devices, and its training step."""
  backbone = backbone or Toy(dropout=config.model.dropout, name='trunk')
  model = network(backbone, heads=heads, upsample=config.model.upsample)
  optimizer = optim.make(config.optim, config.train.steps)
  state = devices.replicate(train.init_state(model, optimizer, config.seed if seed is None else seed))
  return model, state, train.make_train_step(model, optimizer, config, weights)


def steps(config, batch: dict, count: int, weights=None, heads=ONE_HEAD, backbone=None):
  """The state after `count` steps on a batch, and the numbers of each step."""
  _, state, step = make(config, heads, weights=weights, backbone=backbone)
  numbers = []
  for index in range(count):
    if index == 1:
      COMPILATIONS.clear()
    state, out = step(state, devices.shard(batch), no_signal())
    numbers.append(read(out))
  assert not COMPILATIONS, 'the step was compiled more than once'
  return state, numbers


@pytest.fixture
def one_device(monkeypatch):
  use_one_device(monkeypatch)


@pytest.fixture(scope='module')
def on_eight():
  return steps(small_config(**SGD), small_batch(), 3)


def test_one_device_and_eight_learn_the_same(on_eight, one_device):
  """The devices have very different numbers of ignored pixels: a mean of their means would be far off."""
  assert_same(on_eight, steps(small_config(**SGD), small_batch(), 3))


@pytest.mark.slow
def test_accumulation_changes_nothing(on_eight, one_device):
  config = small_config(**SGD, **{'train.accumulation': 4})
  assert_same(on_eight, steps(config, small_batch(), 3))


@pytest.mark.slow
def test_a_step_augments_a_batch_that_the_host_has_not():
  """With the draws of the host, on eight devices, also in parts."""
  numbers = []
  for on, parts in (('host', 1), ('device', 1), ('device', 2)):
    data = noise.settings(augment_on=on, scale=(0.5, 2.0), flip=0.5, jitter=4, blur=1.0, noise=9.0)
    batch = next(pipeline.train_batches(noise.make_split(), data, batch_size=16, seed=3))
    assert ('draws' in batch) == (on == 'device')
    _, state, step = make(small_config(**SGD, **{'train.accumulation': parts}), {'semantic': 8})
    found = step(state, devices.shard(batch), no_signal())[1]
    numbers.append({name: float(x.addressable_data(0)) for name, x in found.items()})
  assert numbers[0] == pytest.approx(numbers[1], rel=1e-5) and numbers[1] == pytest.approx(numbers[2], rel=1e-5)


# Class weights.

WEIGHTS = {'semantic': np.array([0.1, 0.3, 2.0, 5.0], np.float32)}


@pytest.fixture(scope='module')
def balanced_on_eight():
  return steps(small_config(**SGD), small_batch(), 3, WEIGHTS)


@pytest.mark.slow
def test_with_class_weights_one_device_in_parts_and_eight_learn_the_same(balanced_on_eight, on_eight, one_device):
  """The sums of weights differ as much as possible: the first image has almost no labels."""
  config = small_config(**SGD, **{'train.accumulation': 4})
  assert_same(balanced_on_eight, steps(config, small_batch(), 3, WEIGHTS))
  first, balanced = on_eight[1], balanced_on_eight[1]
  # Scores start at zero: whatever the weights, the mean of ln C over their sum is ln C.
  assert first[0]['loss'] == pytest.approx(balanced[0]['loss'], rel=1e-5) == pytest.approx(np.log(CLASSES), rel=1e-5)
  assert first[2]['loss'] != pytest.approx(balanced[2]['loss'], rel=1e-3)


def test_a_batch_of_little_weight_is_divided_by_that_weight():
  """With one labeled pixel, of the class with the smallest weight, the mean is the loss of that pixel."""
  label = np.full((8, 32, 32), IGNORE, np.uint8)
  label[3, 5, 5] = 0
  _, numbers = steps(small_config(**SGD), with_label(small_batch(), label), 2, WEIGHTS)
  assert numbers[0]['loss'] == pytest.approx(np.log(CLASSES), rel=1e-5)


@pytest.mark.slow
def test_with_focal_and_dice_one_device_in_parts_and_eight_learn_the_same(one_device, monkeypatch):
  """One image has no labels at all, and counts in no mean."""
  label = small_batch()['labels']['semantic'].copy()
  label[5] = IGNORE
  batch, settings = with_label(small_batch(), label), SGD | {'loss.name': 'focal+0.5*dice'}
  in_parts = steps(small_config(**settings, **{'train.accumulation': 4}), batch, 3, WEIGHTS)
  monkeypatch.undo()
  assert_same(steps(small_config(**settings), batch, 3, WEIGHTS), in_parts)


# Several heads.


@pytest.fixture(scope='module')
def two_heads_on_eight():
  return steps(small_config(**SGD), small_batch(heads=TWO_HEADS), 3, heads=TWO_HEADS)


@pytest.mark.slow
def test_with_two_heads_one_device_in_parts_and_eight_learn_the_same(two_heads_on_eight, one_device):
  config = small_config(**SGD, **{'train.accumulation': 4})
  assert_same(two_heads_on_eight, steps(config, small_batch(heads=TWO_HEADS), 3, heads=TWO_HEADS))


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_the_loss_of_two_heads_is_the_sum_of_their_losses(reduction):
  """Computed by hand, in float64, from the scores before the step."""
  config, batch = small_config(**SGD, **{'loss.reduction': reduction}), small_batch(heads=TWO_HEADS)
  model, state, step = make(config, TWO_HEADS)
  rng = np.random.default_rng(1)  # score layers start at zero, which would make both losses constants
  params = jax.tree.map(lambda x: np.asarray(x) + 0.05 * rng.normal(size=x.shape).astype(np.float32), state.params)
  logits = jax.jit(model.apply)({'params': params}, batch['inputs'], batch['size'])
  expected = 0.0
  for head, label in batch['labels'].items():
    x = np.asarray(logits[head], np.float64)
    counts = label != IGNORE
    of_label = np.take_along_axis(x, np.where(counts, label, 0)[..., None].astype(int), -1)[..., 0]
    of_pixels = (np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1)) + x.max(-1) - of_label)[counts]
    expected += of_pixels.mean() if reduction == 'mean' else of_pixels.sum()
  _, numbers = step(state.replace(params=devices.replicate(params)), devices.shard(batch), no_signal())
  assert float(numbers['loss'].addressable_data(0)) == pytest.approx(expected, rel=1e-4)


# Signals.


@pytest.mark.parametrize('number', [15, signals.SUPERSEDED])
def test_the_signal_of_one_device_reaches_all(number):
  """Each device gets the signal of its host; on several hosts, their devices differ."""
  _, state, step = make(small_config(**SGD))
  sent = np.zeros(8, np.int32)
  sent[[2, 5]] = 2, number
  _, numbers = step(state, devices.shard(small_batch()), devices.shard(sent))
  assert [int(shard.data) for shard in numbers['signal'].addressable_shards] == [number] * 8


# Random numbers.


def lowered(config, seed: int = 0) -> str:
  """The program of a step; the compilation cache looks programs up by this text."""
  _, state, step = make(config, seed=seed)
  return step.lower(state, devices.shard(small_batch()), no_signal()).as_text()


def test_cells_are_drawn_only_if_some_are_dropped_and_dropout_does_not_depend_on_them(monkeypatch):
  fields = {'model.dropout': 0.5}
  assert lowered(small_config(**fields, **{'loss.sampling': 0.5})) != lowered(small_config(**fields))
  monkeypatch.setattr(losses, 'sample_cells', lambda key, label, share, cell: label)
  # If the drawn cells are not used, drawing them has no effect.
  numbers = [steps(small_config(**fields, **{'loss.sampling': x}), small_batch(), 3)[1] for x in (1.0, 0.5)]
  assert numbers[0] == numbers[1]


def test_cells_differ_between_devices_steps_and_seeds():
  """With one cell per image, one image per device and scores that stay at zero, the loss counts the kept cells."""
  batch, kept = with_label(small_batch(), np.zeros((8, 32, 32), np.uint8)), []
  fields = {'loss.sampling': 0.5, 'loss.reduction': 'sum', 'optim.name': 'sgd', 'optim.lr': 0.0}
  for seed in (0, 1):
    _, numbers = steps(small_config(seed=seed, **fields), batch, 8)
    kept.append([n['loss'] / (32 * 32 * np.log(CLASSES)) for n in numbers])
  np.testing.assert_allclose(kept, np.round(kept), atol=1e-4)
  assert np.isin(np.round(kept), range(1, 8)).any(), 'all devices drop the same cells'
  assert len(set(np.round(kept[0]))) > 1 and not np.array_equal(*np.round(kept))


def test_compilations_are_seen():
  """Otherwise the assertion in `steps` could not fail."""
  COMPILATIONS.clear()
  jax.jit(lambda x: x * 3 + 1)(np.arange(7.0))
  assert COMPILATIONS


def test_all_devices_hold_the_same_state_with_dropout():
  """`out_axes=None` does not check it."""
  state, _ = steps(small_config(**{'model.dropout': 0.5}), small_batch(), 3)
  for x in jax.tree.leaves(state):
    shards = [np.asarray(shard.data) for shard in x.addressable_shards]
    assert len(shards) == 8
    for shard in shards[1:]:
      np.testing.assert_array_equal(shards[0], shard)


@pytest.mark.slow
def test_two_images_are_memorized(one_device):
  config = small_config(**{'train.steps': 150, 'optim.lr': 5e-3})
  # Blocks of one class, which the stride of the finest skip connection can resolve.
  label = np.kron(np.arange(32).reshape(2, 4, 4) % CLASSES, np.ones((8, 8))).astype(np.uint8)
  batch = with_label(small_batch(2), label) | {'size': np.full((2, 2), 32, np.int32)}
  _, numbers = steps(config, batch, config.train.steps, backbone=vgg(norm='group', group_size=4, dropout=0.0))
  assert numbers[0]['loss'] == pytest.approx(np.log(CLASSES), rel=1e-3)  # scores start at zero
  assert numbers[-1]['loss'] < 0.1 * numbers[0]['loss']


def test_seeds_share_one_compilation_and_differ_in_dropout():
  configs = [small_config(**{'seed': seed, 'model.dropout': 0.5}) for seed in (0, 1)]
  assert lowered(configs[0], seed=0) == lowered(configs[1], seed=1)
  values = []
  for config in configs:
    _, state, step = make(config, seed=0)  # the same initial values
    state = state.replace(seed=devices.replicate(np.int32(config.seed)))
    for _ in range(2):  # at step 0 the scores are zero, whatever is dropped
      state, numbers = jax.block_until_ready(step(state, devices.shard(small_batch()), no_signal()))
    values.append(float(numbers['loss'].addressable_data(0)))
  assert values[0] != values[1]
