"""One start of a run at a time holds its lock, and everybody sees whether it is alive."""

import errno
import logging
import os
import subprocess
import sys
import time

import pytest

from fcn_jax.errors import UserError
from fcn_jax.run import lock
from fcn_jax.run.directory import RunDirectory


@pytest.fixture
def directory(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, '_POLL', 0.02)
  monkeypatch.setattr(lock, '_PROBE', 0.3)
  return RunDirectory(tmp_path)


@pytest.fixture(params=[errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EBADF])
def no_locks(monkeypatch, request):
  """A disk whose file system has no locks."""

  def flock(*_):
    raise OSError(request.param, os.strerror(request.param))

  monkeypatch.setattr(lock.fcntl, 'flock', flock)


def until(condition):
  end = time.time() + 10
  while not condition():
    assert time.time() < end
    time.sleep(0.01)


def test_a_second_start_is_refused_until_the_first_one_ends(directory):
  with lock.RunLock(directory, take_over=False) as first:
    assert directory.read_json('attempt.json', None)['pid'] == os.getpid()
    with (
      pytest.raises(UserError, match=f'another process is training in {directory}; .*--take_over'),
      lock.RunLock(directory, take_over=False),
    ):
      raise AssertionError('never reached')
    time.sleep(0.1)
    assert not first.superseded, 'a start that is refused changes nothing'
  with lock.RunLock(directory, take_over=False):
    pass


def test_a_start_that_takes_over_supersedes_the_first_one(directory):
  first = lock.RunLock(directory, take_over=False)
  first.__enter__()
  # The new start waits for the lock: it is free as soon as the first one has read the new id and ended.
  second = lock.RunLock(directory, take_over=True)
  second._write_id()
  until(lambda: first.superseded)
  first.__exit__()
  with second:
    time.sleep(0.1)
    assert not second.superseded


def test_in_a_bucket_the_newest_start_holds_the_lock(directory, monkeypatch):
  """There are no file locks: an id in a file decides."""
  monkeypatch.setattr(lock.files, 'is_remote', lambda path: True)
  newest_start_holds_the_lock(directory)


def test_on_a_disk_without_locks_too_after_one_warning(directory, no_locks, caplog):
  caplog.set_level(logging.WARNING, 'fcn_jax')
  newest_start_holds_the_lock(directory)
  assert len(caplog.messages) == 2 and all(f'{directory} cannot be locked (' in line for line in caplog.messages)


def newest_start_holds_the_lock(directory):
  with lock.RunLock(directory, take_over=False) as first, lock.RunLock(directory, take_over=False) as second:
    until(lambda: first.superseded)
    assert not second.superseded


def test_a_probe_of_the_lock_does_not_refuse_a_start(directory, monkeypatch):
  probe = os.open(directory, os.O_RDONLY)
  lock.fcntl.flock(probe, lock.fcntl.LOCK_SH)
  monkeypatch.setattr(lock.time, 'sleep', lambda seconds: os.close(probe))  # the start waits; the probe ends
  with lock.RunLock(directory, take_over=False):
    pass


def test_a_run_is_training_while_its_process_holds_the_lock(directory):
  assert not lock.is_training(directory)
  with lock.RunLock(directory, take_over=False):
    assert lock.is_training(directory)
    directory.write_json('status.json', {'state': 'running', 'step': 3, 'time': time.time()})
    assert lock.is_training(directory) and lock.is_training(str(directory))
  assert not lock.is_training(directory), 'killed: the status is still running'
  assert not lock.is_training(directory.path / 'missing')


@pytest.fixture
def dead():
  """The number of a process that has ended."""
  process = subprocess.Popen([sys.executable, '-c', ''])
  process.wait()
  return process.pid


def test_without_locks_the_process_of_this_host_must_be_alive(directory, no_locks, dead):
  with lock.RunLock(directory, take_over=False):
    assert lock.is_training(directory)
  directory.write_json('attempt.json', directory.read_json('attempt.json', {}) | {'pid': dead})
  assert not lock.is_training(directory)


def test_in_a_bucket_a_run_that_has_ended_is_not_training_although_its_process_is_alive(directory, monkeypatch):
  monkeypatch.setattr(lock.files, 'is_remote', lambda path: True)
  directory.write_json('status.json', {'state': 'preempted', 'step': 3, 'time': time.time() - 5})
  with lock.RunLock(directory, take_over=False):
    assert lock.is_training(directory), 'the status is that of the start before'
    directory.write_json('status.json', {'state': 'done', 'step': 9, 'time': round(time.time(), 1)})
    assert not lock.is_training(directory)


@pytest.mark.parametrize(
  ('state', 'age', 'training'), [('running', 60, True), ('running', 700, False), ('done', 60, False)]
)
def test_a_run_of_another_host_must_have_written_its_status_in_the_last_ten_minutes(directory, state, age, training):
  began = time.time() - 5000
  directory.write_json('attempt.json', {'id': 'x', 'host': 'elsewhere', 'pid': 1, 'time': began, 'locked': True})
  directory.write_json('status.json', {'state': state, 'step': 3, 'time': time.time() - age})
  assert lock.is_training(directory) is training
