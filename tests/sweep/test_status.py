"""What a sweep shows of runs that are done, damaged, stopped or elsewhere, and how its driver counts them."""

import dataclasses
import fcntl
import json
import logging
import os
import shutil
import socket
import sys
import time

import ordinary_user
import pytest
import small_sweep
import tiny
from etils import epath

from fcn_jax.run import directory, progress
from fcn_jax.sweep import driver, local, points, status

SCORE = {'step': 800, 'eval/mean_iou': 0.5}


@pytest.fixture
def runs(tmp_path):
  """A sweep of three runs, of which the first two are done, in a directory `sweep`; the third starts from the first."""
  (tmp_path / 'experiment.py').write_text(
    small_sweep.HEAD + small_sweep.CONFIG + small_sweep.returning('[{"seed": 0}, {"seed": 1}, {"init.run": "seed=0"}]')
  )
  path, folder = str(tmp_path / 'experiment.py'), epath.Path(tmp_path / 'sweep')
  base = points.load(path, '')[1]
  found = points.runs(path, base, folder)
  points.write_sweep(folder, 'experiment.py', base, found)
  for run in found[:2]:
    begin(run)
  return found


@pytest.fixture
def messages(monkeypatch):
  """What the sweep logs."""
  found = []
  for level in ('info', 'warning'):
    monkeypatch.setattr(logging.Logger, level, lambda _, text, *values: found.append(text % values))
  return found


def begin(run, state='done', step=800, **more):
  """Writes the files of a run."""
  written = directory.RunDirectory(run.workdir)
  directory.write_config(written, run.config)
  written.write_json('env.json', [{'data': 'scenes'}])
  written.write('metrics.jsonl', json.dumps(SCORE) + '\n')
  written.write('timing.jsonl', '{"step": 800}\n')
  written.write_json('status.json', {'state': state, 'step': step, 'steps': 800, 'wall_seconds': 60.0} | more)


@pytest.fixture
def shown(capsys, messages):
  """A function that returns the list of runs, with the lines below it."""

  def show(runs) -> str:
    status.show(runs, {run.name: status.state(run) for run in runs})
    return capsys.readouterr().out + '\n'.join(messages)

  return show


DAMAGE = {
  'status.json': ('', 'status.json is empty'),
  'status.json cut': ('{"state": "do', 'status.json is damaged'),
  'config.json': ('', 'config.json is empty'),
  'config.json cut': ('{"format": 2, "se', 'config.json is damaged'),
  'env.json': ('', 'env.json is empty'),
  'metrics.jsonl': ('', 'metrics.jsonl has no evaluation, although the run is done'),
  'metrics.jsonl cut': (json.dumps(SCORE) + '\n{"step": 80', 'metrics.jsonl is damaged: the last line is'),
  'timing.jsonl cut': ('{"st', 'timing.jsonl is damaged'),
}
DAMAGE |= {'config.json missing': (None, 'config.json is missing')}
DAMAGE |= {
  f'{name} folder': ('folder', f'{name} is a folder') for name in ('config.json', 'status.json', 'metrics.jsonl')
}


def test_a_run_without_its_timings_is_not_damaged(runs):
  (runs[1].workdir / 'timing.jsonl').unlink()
  assert status.state(runs[1]) == 'done'


@pytest.mark.parametrize('damage', DAMAGE)
def test_a_damaged_run_is_listed_with_its_fault_and_the_others_are_shown(runs, shown, damage):
  content, fault = DAMAGE[damage]
  path = runs[0].workdir / damage.split()[0]
  path.unlink()
  if content == 'folder':
    path.mkdir()
  elif content is not None:
    path.write_text(content)
  for listed in (runs, points.recorded(runs[0].workdir.parent)):
    text = shown(listed)
    assert '1 damaged, 1 done, 1 waiting' in text and 'mean IoU 50.00 %' in text
    assert f'seed=0: damaged: {path.parent}/' in text and fault in text


def test_runs_that_may_not_be_read_or_are_files_or_other_runs_are_damaged(runs, shown):
  os.chmod(runs[0].workdir, 0)
  runs[2].workdir.write_text('')
  begin(dataclasses.replace(runs[1], config=runs[0].config))
  with ordinary_user.without_root():
    text = shown(runs)
  os.chmod(runs[0].workdir, 0o700)
  assert '3 damaged' in text and 'Permission denied' in text and 'run=seed=0 is a file; expected a run' in text
  assert 'holds a run of another config: seed is 0 there, 1 here' in text


@pytest.mark.parametrize('now', ['running', 'preempted'])
def test_an_unfinished_run_is_shown_with_its_step_and_age(runs, shown, now):
  """A run is running only if a process trains there: kill -9 leaves `running` in its status.json."""
  run = runs[0]
  begin(run, now, 120, time=time.time() - 3 * 3600)
  attempt = {'id': 'x', 'host': socket.gethostname(), 'pid': os.getpid(), 'time': time.time() - 9999, 'locked': True}
  (run.workdir / 'attempt.json').write_text(json.dumps(attempt))
  text = shown(runs)
  assert f'1 {now.replace("running", "stopped")}, 1 done' in text and 'step 120/800, 3.0 h ago' in text
  lock = os.open(run.workdir, os.O_RDONLY)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX)  # what a training process holds
    assert ('1 running, 1 done' in shown(runs)) == (now == 'running')
  finally:
    os.close(lock)


def test_names_and_errors_are_printed_as_they_are(runs, shown, capsys):
  name = "run=[/x] :cat: [bold]'"
  odd = dataclasses.replace(runs[0], name=name, workdir=runs[0].workdir.parent / name)
  begin(odd, 'failed', error='no [/x] in :cat: \x1b[31m[red]\nor line', wall_seconds=7200.0)
  text = shown([odd])
  assert f'│ {name} │ failed │ 2.0 h │' in text and 'no [/x] in :cat:  [31m[red]' in text and '\x1b' not in text
  begin(odd, '[/b]')
  assert '1 [/b]' in shown([odd])
  progress.show_table('[/t]', ['[/c]'], [['[/r] :cat:']])
  table = capsys.readouterr().out
  assert all(text in table for text in ('[/t]', '[/c]', '[/r] :cat:'))
  long = dataclasses.replace(odd, name='x' * 70)
  begin(long, 'failed', error='a long reason ' * 20)
  assert shown([long]).replace(' ', '').replace('│', '').count('x') >= 70  # beside a text of any length


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


def test_the_list_command_in_a_home_folder(runs, tmp_path):
  """A damaged run changes no exit code; the output may have an encoding without the characters of the table."""
  (runs[1].workdir / 'status.json').write_text('')
  begin(runs[2], 'failed', error='a reason [/x] 字')
  command = [sys.executable, '-m', 'fcn_jax.sweep', '--config=~/experiment.py', '--workdir=~/sweep', '--list']
  done = tiny.run(command, env={'HOME': str(tmp_path), 'PYTHONIOENCODING': 'ascii'})
  assert done.returncode == 0 and done.stderr == '', done.stderr
  assert '1 done, 1 damaged, 1 failed' in done.stdout and 'seed=1: damaged: ' in done.stdout
  assert 'a reason [/x] \\u5b57' in done.stdout


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
