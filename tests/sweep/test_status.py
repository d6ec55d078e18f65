"""How the driver of a sweep counts runs that are done, damaged, stopped or elsewhere."""

import os
import shutil
import time

import ordinary_user
import pytest
from etils import epath
from small_sweep import begin

from fcn_jax.sweep import driver, local


class Engine:
  """Trains a run in an instant: writes the files of a run that is done."""

  slots, poll = 1, 0.0

  def __init__(self, runs):
    self._runs, self._ended, self.started = {run.name: run for run in runs}, [], []

  def has_room(self, *, prepared: bool) -> bool:
    return True

  def start(self, run) -> None:
    self.started.append(run.name)
    begin(run)
    self._ended.append(local.Ending(run.name, 0, 'exit code 0'))

  def ended(self) -> list:
    ended, self._ended = self._ended, []
    return ended


def drive(runs, engine) -> driver.Driver:
  driven = driver.Driver(runs, engine, retries=1, node_retries=0)
  driven.code = driven.drive()
  return driven


def test_a_damaged_run_counts_as_failed_and_the_others_are_trained(runs, messages):
  (runs[0].workdir / 'status.json').write_text('')
  shutil.rmtree(runs[1].workdir)
  engine = Engine(runs)
  driven = drive(runs, engine)
  assert driven.code == 1 and engine.started == ['seed=1']
  assert driven.states == {'seed=0': 'damaged', 'seed=1': 'done', 'run=seed=0': 'skipped'}
  assert any(line.startswith('seed=0: damaged: ') and 'status.json is empty' in line for line in messages)
  assert 'run=seed=0: skipped: it depends on seed=0 (damaged)' in messages


def test_a_killed_run_is_unfinished_and_trained_again(runs):
  begin(runs[0], 'running', 120)
  engine = Engine(runs)
  assert drive(runs, engine).code == 0 and engine.started == ['seed=0', 'run=seed=0']


def test_a_run_that_cannot_start_or_is_damaged_when_it_ends_fails_alone(runs, messages, monkeypatch):
  for run in runs[:2]:
    shutil.rmtree(run.workdir)
  engine = Engine(runs)
  damaged = runs[1].workdir / 'metrics.jsonl'
  slots, start = local.Local(1), engine.start

  def start_one(run):
    if run is runs[0]:
      os.mkdir(run.workdir, 0o500)
      slots.start(run)
    start(run)
    damaged.write_text('{')

  monkeypatch.setattr(engine, 'start', start_one)
  with ordinary_user.without_root():
    driven = drive(runs, engine)
  assert driven.code == 1 and driven.states == {'seed=0': 'failed', 'seed=1': 'damaged', 'run=seed=0': 'skipped'}
  assert f'seed=0: cannot write {runs[0].workdir}/log.txt: Permission denied' in messages
  assert slots.has_room(prepared=True)  # the slot is free again


def test_the_time_left_is_estimated_before_the_first_run_is_done(runs):
  for run in runs[:2]:
    begin(run, 'running', 200)  # 60 s for a quarter
  driven = driver.Driver(runs, Engine(runs), retries=0, node_retries=0)
  assert driven._seconds_left() is None
  driven.states |= {run.name: 'running' for run in runs[:2]}
  driven._began |= {run.name: time.time() - 60 for run in runs[:2]}
  assert driven._seconds_left() == pytest.approx(3 * 240 - 2 * 60, abs=5)


def test_a_log_that_cannot_be_copied_to_its_bucket_for_a_while_is_a_warning(monkeypatch, messages, tmp_path):
  monkeypatch.setattr(local.files, 'is_remote', lambda path: True)
  (tmp_path / 'file').write_text('')
  log = local.Log(epath.Path(tmp_path / 'file' / 'log.txt'))
  log.file.write(b'text')
  log.file.flush()
  log.copy(now=True)
  assert 'cannot write' in messages[0] and 'log.txt' in messages[0]
  (tmp_path / 'file').unlink()
  (tmp_path / 'file').mkdir()
  log.close()
  assert (tmp_path / 'file' / 'log.txt').read_text() == 'text'
