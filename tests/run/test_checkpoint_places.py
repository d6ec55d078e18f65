"""Checkpoints in folders of any name, and in folders that are full, gone, or of another user."""

import contextlib
import gc
import os
import pathlib
import resource
import shutil
import threading

import jax
import numpy as np
import ordinary_user
import pytest
from checkpoints import assert_same, make_state, opened, restore, save

from fcn_jax.errors import UserError
from fcn_jax.run import checkpoint

# At a full disk, Orbax never awaits some of its coroutines.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


@pytest.fixture(autouse=True)
def collect_coroutines():
  """Otherwise Python warns about them at some later time, in another test."""
  yield
  gc.collect()


UNSAFE = ['run[1]', '[*?]a**b', 'back\\slash', os.fsdecode(b'latin\xe9')]
SAFE = ' two\nlines\t\r"it\'s" %41=b,c;$HOME~#a:b&{d}|<(`!)>^@+é中\U0001f600\x01\x7f'


@pytest.mark.parametrize('name', [*UNSAFE, SAFE], ids=range(5))
def test_a_run_directory_may_have_any_name(tmp_path, name):
  """The siblings would match, or be written to, if the name was a pattern or had its backslashes turned to slashes."""
  names = {name, 'run1', '?aXb', 'back', 'a'}
  for each in names:
    (tmp_path / each).mkdir()
  save(tmp_path / '?aXb', 2)
  workdir = tmp_path / name
  save(workdir, 3, 6, 9, keep=2)
  shutil.copytree(workdir / 'checkpoints' / '9', workdir / 'checkpoints' / '12.orbax-checkpoint-tmp')
  assert_same(restore(workdir), make_state(9))
  step, params = checkpoint.load_params(workdir)
  assert step == 9
  assert_same(params, jax.tree.map(np.asarray, make_state(9).params))
  assert {path.name for path in (workdir / 'checkpoints').iterdir()} == {'6', '9'}
  best = checkpoint.Checkpoints(workdir, 1, 'best')
  best.save(5, make_state(5))
  best.close()
  assert checkpoint.load_params(workdir, 'best')[0] == 5
  assert {path.name for path in tmp_path.iterdir()} == names


def test_a_name_that_cannot_work_is_refused(monkeypatch):
  checkpoint.check_path(f'gs://bucket/{SAFE}')
  for name in UNSAFE:
    checkpoint.check_path(name)
    with pytest.raises(UserError, match='checkpoints in a bucket cannot have'):
      checkpoint.check_path(f'gs://bucket/{name}')
  monkeypatch.setattr(checkpoint, '_DESCRIPTORS', pathlib.Path('/missing'))  # another system than Linux
  checkpoint.check_path(SAFE)
  with pytest.raises(UserError, match='cannot have'):
    checkpoint.check_path(UNSAFE[0])


@contextlib.contextmanager
def full_disk(room):
  """No file may become larger than `room` bytes."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_a_user_error_and_earlier_checkpoints_are_intact(tmp_path):
  save(tmp_path, 3)
  with pytest.raises(UserError) as caught, full_disk(100_000), opened(tmp_path) as checkpoints:
    checkpoints.save(6, make_state(6, side=128))
  message = str(caught.value)
  assert f'cannot save a checkpoint in {tmp_path}/checkpoints' in message
  assert 'File too large' in message, 'the reason'
  assert 'The checkpoint of step 3 is intact' in message and 'Free some space' in message
  assert_same(restore(tmp_path), make_state(3))
  save(tmp_path, 6)
  assert_same(restore(tmp_path), make_state(6))


def test_the_message_about_a_full_disk_at_the_first_checkpoint_names_no_step(tmp_path):
  none = pytest.raises(UserError, match='No checkpoint was saved before')
  with none, full_disk(100_000), opened(tmp_path) as checkpoints:
    checkpoints.save(6, make_state(6, side=128))


@contextlib.contextmanager
def mode(path, bits):
  """The path has other permissions, which apply to this user."""
  before = path.stat().st_mode
  path.chmod(bits)
  try:
    with ordinary_user.without_root():
      yield
  finally:
    path.chmod(before)


def test_a_folder_that_may_not_be_written_is_no_full_disk(tmp_path):
  save(tmp_path, 3)
  with mode(tmp_path / 'checkpoints', 0o555), pytest.raises(UserError) as caught, opened(tmp_path) as checkpoints:
    checkpoints.save(6, make_state(6))
  message = str(caught.value)
  assert f'cannot save a checkpoint in {tmp_path}/checkpoints: Permission denied. The checkpoint of step 3' in message
  assert 'space' not in message
  assert not [thread.name for thread in threading.enumerate() if 'Signaling' in type(thread).__name__]
  with mode(tmp_path, 0o555), pytest.raises(UserError, match=f'cannot open {tmp_path}/best: Permission denied'):
    checkpoint.Checkpoints(tmp_path, 1, 'best')


@pytest.mark.parametrize(
  'part', ['checkpoints', 'checkpoints/6', 'checkpoints/6/state', 'checkpoints/6/state/_METADATA']
)
def test_a_checkpoint_that_may_not_be_read_is_not_damaged_and_not_deleted(tmp_path, part):
  save(tmp_path, 3, 6)
  for read in (restore, checkpoint.load_params):
    with (
      mode(tmp_path / part, 0),
      pytest.raises(UserError, match=f'cannot (open|read) {tmp_path}/{part}.*: Permission'),
    ):
      read(tmp_path)
  assert_same(restore(tmp_path), make_state(6))


def test_a_folder_that_is_deleted_during_training_is_no_full_disk(tmp_path):
  with opened(tmp_path) as checkpoints:
    checkpoints.save(3, make_state(3))
    checkpoints._manager.wait_until_finished()
    shutil.rmtree(tmp_path / 'checkpoints')
    with pytest.raises(UserError, match='checkpoints is gone: another program has deleted or moved it'):
      checkpoints.save(6, make_state(6))
  assert not (tmp_path / 'checkpoints').exists()
