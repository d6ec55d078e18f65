"""One start of a run at a time holds its lock."""

import os
import time

import pytest

from fcn_jax.errors import UserError
from fcn_jax.run import lock
from fcn_jax.run.directory import RunDirectory


@pytest.fixture
def directory(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, '_POLL', 0.02)
  return RunDirectory(tmp_path)


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
  with lock.RunLock(directory, take_over=False) as first, lock.RunLock(directory, take_over=False) as second:
    until(lambda: first.superseded)
    assert not second.superseded
