"""The training step on one and eight devices, and what the loop promises."""

import types

import jax
import numpy as np
import pytest
import tiny

from fcn_jax import config as config_lib
from fcn_jax import evaluation, losses, optim, train
from fcn_jax.data.builders import scenes
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError
from fcn_jax.models import fcn
from fcn_jax.run import checkpoint, devices

CLASSES = 4
COMPILATIONS = []  # a duration each


def _listen(event: str, seconds: float, **_):
  if event == '/jax/core/compile/backend_compile_duration':
    COMPILATIONS.append(seconds)


jax.monitoring.register_event_duration_secs_listener(_listen)


def small_config(**overrides):
  config = config_lib.default('scenes')
  config.update_from_flattened_dict(
    {
      'model.width': 1 / 16,
      'model.fc_channels': 256,
      'model.group_size': 4,
      'model.dropout': 0.0,
      'optim.warmup': 0,
      'train.steps': 10,
    }
    | overrides
  )
  return config


def small_batch(count: int = 8) -> dict:
  """Random pictures of several sizes, the first almost without labels, the last with all of them."""
  rng = np.random.default_rng(0)
  label = rng.integers(0, CLASSES, (count, 32, 32)).astype(np.uint8)
  for number, picture in enumerate(label):
    picture[rng.random((32, 32)) < 1 - number / (count - 1)] = IGNORE
  size = rng.integers(20, 33, (count, 2)).astype(np.int32)
  image = rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
  return {'image': image, 'label': label, 'size': size, 'signal': np.zeros(count, np.int32)}


def steps(config, batch: dict, count: int, weights=None):
  """The state after so many steps on a batch, and the numbers of each."""
  model = fcn.from_config(config, CLASSES)
  optimizer = optim.make(config.optim, config.train.steps)
  state = devices.replicate(train.init_state(model, optimizer, config.seed))
  step, numbers = train.make_train_step(model, optimizer, config, weights), []
  for number in range(count):
    if number == 1:
      COMPILATIONS.clear()
    state, out = step(state, devices.share(batch))
    numbers.append({name: float(x.addressable_data(0)) for name, x in jax.block_until_ready(out).items()})
  assert not COMPILATIONS, 'the step was compiled more than once'
  return state, numbers


@pytest.fixture
def one_device(monkeypatch):
  """Only the first of the eight devices is there."""
  device = jax.local_devices()[:1]
  monkeypatch.setattr(jax, 'local_devices', lambda: device)
  monkeypatch.setattr(jax, 'local_device_count', lambda: 1)


@pytest.fixture(scope='module')
def on_eight():
  # SGD, whose update is linear in the gradient; Adam's divides by it, and would blow up what is rounding.
  config = small_config(**{'optim.name': 'sgd', 'optim.lr': 0.1})
  return config, *steps(config, small_batch(), 3)


def assert_same(run, other):
  (state, numbers), (other_state, other_numbers) = run, other
  for mine, theirs in zip(numbers, other_numbers, strict=True):
    assert mine == pytest.approx(theirs, rel=1e-4)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-3, atol=1e-5),
    state.params,
    other_state.params,
  )


def test_one_device_and_eight_learn_the_same(on_eight, one_device):
  """With very unevenly many ignored pixels: a mean of the devices' means would be far off."""
  config, *eight = on_eight
  assert_same(eight, steps(config, small_batch(), 3))


def test_accumulation_changes_nothing(on_eight, one_device):
  config, *eight = on_eight
  config = small_config(**{'optim.name': 'sgd', 'optim.lr': 0.1, 'train.accumulation': 4})
  assert_same(eight, steps(config, small_batch(), 3))


WEIGHTS = np.array([0.1, 0.3, 2.0, 5.0], np.float32)


@pytest.fixture(scope='module')
def balanced_on_eight():
  return steps(small_config(**{'optim.name': 'sgd', 'optim.lr': 0.1}), small_batch(), 3, WEIGHTS)


def test_balanced_one_device_in_parts_and_eight_learn_the_same(balanced_on_eight, on_eight, one_device):
  """Sums of weights are as unlike as can be: the first picture is nearly without labels."""
  config = small_config(**{'optim.name': 'sgd', 'optim.lr': 0.1, 'train.accumulation': 4})
  assert_same(balanced_on_eight, steps(config, small_batch(), 3, WEIGHTS))
  first, balanced = on_eight[2], balanced_on_eight[1]
  # Scores start at zero: whatever the weights, the mean of ln C over their sum is ln C.
  assert first[0]['loss'] == pytest.approx(balanced[0]['loss'], rel=1e-5) == pytest.approx(np.log(CLASSES), rel=1e-5)
  assert first[2]['loss'] != pytest.approx(balanced[2]['loss'], rel=1e-3)


def test_a_batch_of_little_weight_is_divided_by_that_weight():
  """One labelled pixel of the lightest class: the mean is its loss, as for any other."""
  batch = small_batch()
  batch['label'] = np.full_like(batch['label'], IGNORE)
  batch['label'][3, 5, 5] = 0
  _, numbers = steps(small_config(**{'optim.name': 'sgd', 'optim.lr': 0.1}), batch, 2, WEIGHTS)
  assert numbers[0]['loss'] == pytest.approx(np.log(CLASSES), rel=1e-5)


def test_weights_of_classes_are_of_all_training_pixels():
  """Not of the first 500 pictures, which would do for a line on the screen."""
  pictures = [{'label': np.array([[0, 0, 0, IGNORE]], np.uint8)}] * 600
  pictures += [{'label': np.array([[1, 1, 1, 1]], np.uint8)}] * 50
  data = types.SimpleNamespace(classes=('a', 'b', 'c'), splits={'train': pictures})
  weights = train.class_weights(small_config(**{'loss.balance': 'inverse'}), data)
  np.testing.assert_allclose(weights, [2000 / 1800 / 2, 2000 / 200 / 2, 0], rtol=1e-6)
  assert train.class_weights(small_config(), data) is None


def lowered(config):
  """The text of a step, which is what runs."""
  model = fcn.from_config(config, CLASSES)
  optimizer = optim.make(config.optim, config.train.steps)
  state = devices.replicate(train.init_state(model, optimizer, config.seed))
  return train.make_train_step(model, optimizer, config).lower(state, devices.share(small_batch())).as_text()


def test_cells_are_drawn_only_where_some_are_dropped_and_dropout_never_knows(monkeypatch):
  whole = lowered(small_config(**{'model.dropout': 0.5}))
  sampled = lowered(small_config(**{'model.dropout': 0.5, 'loss.sampling': 0.5}))
  assert sampled != whole
  monkeypatch.setattr(losses, 'sample_cells', lambda key, label, share, cell: label)
  # Where the cells are not looked at, nothing of their randomness is left, and all else is as it was.
  (numbers, same) = (
    steps(small_config(**{'model.dropout': 0.5, 'loss.sampling': x}), small_batch(), 3)[1] for x in (1.0, 0.5)
  )
  assert numbers == same


def test_cells_differ_between_devices_steps_and_seeds():
  """A cell a picture, a picture a device, and scores that stay at zero: the sum tells how many were kept."""
  batch = small_batch()
  batch['label'] = np.zeros_like(batch['label'])
  kept = []
  for seed in (0, 1):
    config = small_config(
      **{'seed': seed, 'loss.sampling': 0.5, 'loss.reduction': 'sum', 'optim.name': 'sgd', 'optim.lr': 0.0}
    )
    _, numbers = steps(config, batch, 8)
    kept.append([n['loss'] / (32 * 32 * np.log(CLASSES)) for n in numbers])
  np.testing.assert_allclose(kept, np.round(kept), atol=1e-4)
  assert np.isin(np.round(kept), range(1, 8)).any(), 'all devices drop the same cells'
  assert len(set(np.round(kept[0]))) > 1 and not np.array_equal(*np.round(kept))


def test_compilations_are_seen():
  """Else the assertion in `steps` could not fail."""
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


def test_two_pictures_are_learnt_by_heart(one_device):
  config = small_config(**{'train.steps': 150, 'optim.lr': 5e-3})
  batch = small_batch(2)
  # Blocks of one class, as large as the finest skip's stride can show.
  batch['label'] = np.kron(np.arange(32).reshape(2, 4, 4) % CLASSES, np.ones((8, 8))).astype(np.uint8)
  batch['size'] = np.full((2, 2), 32, np.int32)
  _, numbers = steps(config, batch, config.train.steps)
  assert numbers[0]['loss'] == pytest.approx(np.log(CLASSES), rel=1e-3)  # scores start at zero
  assert numbers[-1]['loss'] < 0.1 * numbers[0]['loss']


def test_seeds_share_one_compilation_and_differ_in_dropout():
  """What is lowered is what the compilation cache goes by."""
  texts, losses = set(), []
  for seed in (0, 1):
    config = small_config(**{'seed': seed, 'model.dropout': 0.5})
    model = fcn.from_config(config, CLASSES)
    optimizer = optim.make(config.optim, config.train.steps)
    state = devices.replicate(train.init_state(model, optimizer, 0))  # the same initial values
    state = state.replace(seed=devices.replicate(np.int32(seed)))
    step = train.make_train_step(model, optimizer, config)
    texts.add(step.lower(state, devices.share(small_batch())).as_text())
    for _ in range(2):  # at step 0 the scores are zero, whatever is dropped
      state, numbers = jax.block_until_ready(step(state, devices.share(small_batch())))
    losses.append(float(numbers['loss'].addressable_data(0)))
  assert len(texts) == 1
  assert losses[0] != losses[1]


def test_the_best_checkpoint_is_that_of_the_best_evaluation(tmp_path, monkeypatch):
  """Where a test split is kept apart; on it nothing is chosen."""
  config = config_lib.default('scenes')
  config.update_from_flattened_dict(tiny.SETTINGS | {'data.train_size': (32, 32), 'data.dir': str(tmp_path / 'data')})
  tiny.prepare(tmp_path / 'data')
  parts = {'train': 'train', 'validation': 'validation[:4]', 'test': 'validation[4:]'}
  monkeypatch.setattr(scenes, 'splits', lambda _: parts)
  scores = iter([0.2, 0.6, 0.4])  # at steps 4, 8 and 12
  write = evaluation.write
  monkeypatch.setattr(evaluation, 'write', lambda *args: write(*args) | {'mean_iou': next(scores)})
  assert train.run(config, str(tmp_path / 'run')) == 0
  assert checkpoint.load_params(tmp_path / 'run', 'best')[0] == 8
  assert checkpoint.load_params(tmp_path / 'run')[0] == 12


def test_without_a_test_split_there_is_no_best_checkpoint(tmp_path):
  (tmp_path / 'best').mkdir()
  with pytest.raises(UserError, match='has no best checkpoint; a run keeps one where it has a validation split beside'):
    checkpoint.load_params(tmp_path, 'best')
