"""A checkpoint is restored bit by bit; a damaged one is skipped with a message."""

import contextlib
import gc
import logging
import os
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from checkpoints import assert_same, make_state, opened, payloads, restore, save

from fcn_jax.errors import UserError
from fcn_jax.run import checkpoint, devices

# At a damaged file, Orbax never awaits some of its coroutines.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


def own(caplog) -> list[str]:
  """Our messages. After damage, asyncio adds those of Orbax's tasks whenever they are collected."""
  return [record.getMessage() for record in caplog.records if record.name.startswith('fcn_jax')]


@pytest.fixture(autouse=True)
def collect_coroutines():
  """Otherwise Python warns about them at some later time, in another test."""
  yield
  gc.collect()


@pytest.fixture(autouse=True)
def info(caplog):
  caplog.set_level(logging.INFO, 'fcn_jax')


def test_a_state_is_restored_bit_by_bit_on_the_same_devices(tmp_path, caplog):
  save(tmp_path, 5)
  state = make_state(0)
  restored = restore(tmp_path, state)
  assert_same(restored, make_state(5))
  for new, old in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
    assert new.sharding == old.sharding and new.committed == old.committed
    assert len(new.addressable_shards) == jax.device_count()
  assert own(caplog) == ['resuming from step 5']


def test_a_restored_state_compiles_nothing_again(tmp_path):
  """Its placement is that of the step's output."""
  save(tmp_path, 1)
  step = devices.pmap(lambda s, x: jax.tree.map(lambda y: y * 2, s), replicated_output=True, donate_state=True)
  batch, restored = devices.shard({'x': np.zeros((8, 1), np.float32)}), restore(tmp_path)
  state = step(make_state(1), batch)
  events = []
  jax.monitoring.register_event_duration_secs_listener(lambda event, seconds, **_: events.append(event))
  for again in (state, restored):
    step(step(again, batch), batch)
  assert not any('compile' in event for event in events)
  jax.jit(lambda x: x + 1)(1)
  assert any('compile' in event for event in events), 'the check above sees compilations'


def test_without_a_checkpoint_the_state_stays(tmp_path, caplog):
  state = make_state(3)
  assert restore(tmp_path, state) is state and own(caplog) == []


def test_the_newest_checkpoint_is_used(tmp_path, caplog):
  save(tmp_path, 3, 12, 6)  # as names, 12 sorts before 6
  assert int(restore(tmp_path).step) == 12 and own(caplog) == ['resuming from step 12']


def test_only_the_newest_are_kept(tmp_path):
  save(tmp_path, 3, 6, 9, 12, keep=2)
  with opened(tmp_path) as checkpoints:
    assert checkpoints.steps() == [9, 12]
  assert_same(restore(tmp_path), make_state(12))


def test_a_step_that_has_a_checkpoint_is_not_saved_again(tmp_path):
  save(tmp_path, 3)
  before = {path: path.stat().st_mtime_ns for path in payloads(tmp_path, 3)}
  with opened(tmp_path) as checkpoints:
    checkpoints.save(3, make_state(4))
  assert {path: path.stat().st_mtime_ns for path in payloads(tmp_path, 3)} == before
  assert_same(restore(tmp_path), make_state(3))


def test_a_state_may_be_donated_as_soon_as_save_returns(tmp_path):
  """On a CPU the device's memory could be written out while the next step already fills it."""
  overwrite = devices.pmap(
    lambda s, x: jax.tree.map(lambda y: jnp.full_like(y, -1), s), replicated_output=True, donate_state=True
  )
  state = make_state(3, side=128)
  with opened(tmp_path) as checkpoints:
    checkpoints.save(3, state)
    for _ in range(5):
      state = overwrite(state, devices.shard({'x': np.zeros((8, 1), np.float32)}))
  assert_same(restore(tmp_path, make_state(0, side=128)), make_state(3, side=128))


def cut(path):
  """Leaves half of each file with numbers, like a power failure."""
  for file in payloads(path.parent.parent, path.name):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(path):
  for file in payloads(path.parent.parent, path.name):
    file.write_bytes(b'')


def delete_numbers(path):
  for file in payloads(path.parent.parent, path.name):
    file.unlink()


def delete_state(path):
  for folder in [entry for entry in path.iterdir() if entry.is_dir()]:
    shutil.rmtree(folder)


DAMAGES = [cut, empty, delete_numbers, delete_state]


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_checkpoint_is_skipped_and_saved_again(tmp_path, damage, caplog):
  save(tmp_path, 3, 6)
  damage(tmp_path / 'checkpoints' / '6')
  with opened(tmp_path) as checkpoints:
    restored = checkpoints.restore(make_state(0))
    assert_same(restored, make_state(3))
    lines = own(caplog)
    assert 'step 6 cannot be read' in lines[0] and lines[-1] == 'resuming from step 3'
    assert all('\n' not in line for line in lines)
    checkpoints.save(6, make_state(6))
  assert_same(restore(tmp_path), make_state(6))


@pytest.mark.parametrize('damage', DAMAGES)
def test_if_no_checkpoint_can_be_read_it_is_an_error_and_nothing_is_deleted(tmp_path, damage):
  save(tmp_path, 3)
  damage(tmp_path / 'checkpoints' / '3')
  with pytest.raises(UserError, match=rf'none of the checkpoints in {tmp_path}/checkpoints can be read'):
    restore(tmp_path)
  assert (tmp_path / 'checkpoints' / '3').exists()


def test_a_network_of_another_shape_deletes_no_checkpoint(tmp_path):
  """The files are intact: the code or the config does not fit them."""
  save(tmp_path, 3, 6)
  with contextlib.suppress(UserError):
    restore(tmp_path, make_state(0, side=4))
  assert_same(restore(tmp_path), make_state(6))


def test_half_a_checkpoint_of_a_killed_run_is_removed(tmp_path, caplog):
  save(tmp_path, 3)
  left = tmp_path / 'checkpoints' / '6.orbax-checkpoint-tmp'
  shutil.copytree(tmp_path / 'checkpoints' / '3', left)
  assert int(restore(tmp_path).step) == 3 and own(caplog) == ['resuming from step 3']
  assert not left.exists()


def test_a_run_without_a_checkpoint_has_no_parameters(tmp_path):
  (tmp_path / 'empty' / 'checkpoints').mkdir(parents=True)
  for place in ('none', 'empty'):
    with pytest.raises(UserError, match=rf'{tmp_path / place} has no checkpoint'):
      checkpoint.load_params(tmp_path / place)


def test_a_damaged_run_has_no_parameters(tmp_path):
  save(tmp_path, 3)
  cut(tmp_path / 'checkpoints' / '3')
  with pytest.raises(UserError, match=str(tmp_path)):
    checkpoint.load_params(tmp_path)


ON_ONE_DEVICE = """
import sys
import jax, numpy as np
from fcn_jax.run import checkpoint
from checkpoints import assert_same, make_state, restore
assert jax.device_count() == 1
assert_same(restore(sys.argv[1]), make_state(3))
assert_same(checkpoint.load_params(sys.argv[1])[1], make_state(3).params)
"""


def test_one_device_restores_and_loads_a_checkpoint_of_eight_devices(tmp_path):
  save(tmp_path, 3)
  path = os.pathsep.join((str(tiny.ROOT), str(tiny.ROOT / 'tests'), str(tiny.ROOT / 'tests' / 'run')))
  done = tiny.run([sys.executable, '-c', ON_ONE_DEVICE, str(tmp_path)], env={'PYTHONPATH': path})
  assert done.returncode == 0, done.stderr
