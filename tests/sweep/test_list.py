"""The list of runs that `runs`, `sweep --list` and a sweep show: states, faults, and names that are never cut."""

import dataclasses
import fcntl
import io
import json
import os
import socket
import sys
import time

import ordinary_user
import pytest
import tiny
from etils import epath
from rich.console import Console
from small_sweep import SCORE, begin

from fcn_jax import runs as runs_command
from fcn_jax.errors import UserError
from fcn_jax.run import progress
from fcn_jax.sweep import points, status


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
    assert '1 damaged, 1 done, 1 waiting' in text and 'done     800/800  50.00 %' in text
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
  assert f'1 {now.replace("running", "stopped")}, 1 done' in text and '120/800            3.0 h' in text
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
  assert f'{name}  failed  800/800  50.00 %   no [/x] in :cat: \\x1b[31m[red' in text and '\x1b' not in text
  begin(odd, '[/b]')
  assert '1 [/b]' in shown([odd])
  progress.show_table('[/t]', ['[/c]'], [['[/r] :cat:']])
  table = capsys.readouterr().out
  assert all(text in table for text in ('[/t]', '[/c]', '[/r] :cat:'))


@pytest.mark.parametrize('width', [30, 50, 80, 120])
@pytest.mark.parametrize('is_live', [False, True])
def test_names_are_whole_and_messages_are_cut(runs, monkeypatch, width, is_live):
  """In a list and in the live table, in an encoding without special characters."""
  output = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
  console = Console(file=output, width=width, height=50, force_terminal=is_live, soft_wrap=True, color_system=None)
  monkeypatch.setattr(progress, 'console', console)
  long = dataclasses.replace(runs[0], name='stride=8,' + 'x' * (width - 9))
  begin(long, 'failed', error='a long reason ' * 20)
  shown, states = [long, *runs[1:]], {run.name: 'failed' for run in (long, *runs[1:])}
  if is_live:
    display = status.Display(shown)
    with display.live:
      display.show(states, {}, lambda: 5400.0)
  else:
    status.show(shown, states)
  output.seek(0)
  text = output.read()
  if is_live:
    assert text.startswith('\x1b[?25l3 failed, 90 min left') and text.rstrip('\x1b[?25h\n').endswith('\x1b[2K')
    text = text.partition('\x1b[2K')[0]
  else:
    text = text.partition('\n')[2]  # without the path
  lines = [line.rstrip() for line in text.splitlines()]
  assert {long.name, *(line.split()[0] for line in lines if 'seed=' in line)} >= {run.name for run in shown}
  assert any(line == long.name for line in lines) and max(map(len, lines)) <= width
  assert any('a long reason'[: width - 30] in line for line in lines)


def test_runs_lists_all_runs_below_a_folder(runs, tmp_path, capsys, messages):
  for name, lr in (('a', 0.5), ('b', 0.25)):
    config = runs[0].config.copy_and_resolve_references()
    config.optim.lr, config.train.log_every = lr, int(1 / lr)
    run = dataclasses.replace(runs[0], workdir=epath.Path(tmp_path / 'more' / name), config=config)
    begin(run, 'preempted', 120, time=time.time() - 3 * 3600)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(progress.console, 'width', 80)
    runs_command.main([str(tmp_path)])
    text = capsys.readouterr().out
    runs_command.main([str(tmp_path / 'more' / 'a')])
    alone = capsys.readouterr().out
  assert text.splitlines() == [
    f'{tmp_path}/more: 2 preempted',
    'run  state      step     age',
    'a    preempted  120/800  3.0 h  lr=0.5',
    'b    preempted  120/800  3.0 h  lr=0.25',
    f'{tmp_path}/sweep: 2 done, 1 waiting',
    'run         state    step     mean IoU',
    'seed=0      done     800/800  50.00 %',
    'seed=1      done     800/800  50.00 %',
    'run=seed=0  waiting',
    'next:',
    f'  python -m fcn_jax.report {tmp_path}/sweep',
  ]
  assert alone.splitlines()[-1] == 'a    preempted  120/800  3.0 h'


@pytest.mark.parametrize(('folder', 'words'), [('none', 'there is no folder'), ('empty', 'holds no run; expected run')])
def test_runs_of_a_folder_without_runs_are_an_error(tmp_path, folder, words):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UserError, match=words):
    runs_command.main([str(tmp_path / folder)])


def test_the_list_command_in_a_home_folder(runs, tmp_path):
  """A damaged run changes no exit code; the output may have an encoding without the characters of the table."""
  (runs[1].workdir / 'status.json').write_text('')
  begin(runs[2], 'failed', error='a reason [/x] 字')
  path = tmp_path / 'experiment.py'
  path.write_text(path.read_text().replace('[{"seed": 0}, ', '[{"seed": 7}, '))  # the list is that of sweep.json
  command = [sys.executable, '-m', 'fcn_jax.sweep', '--config=~/experiment.py', '--workdir=~/sweep', '--list']
  done = tiny.run(command, env={'HOME': str(tmp_path), 'PYTHONIOENCODING': 'ascii'})
  assert done.returncode == 0 and done.stderr == '', done.stderr
  assert '/sweep: 1 done, 1 damaged, 1 failed' in done.stdout and 'seed=1: damaged: ' in done.stdout
  assert 'a reason [/x] \\u5b57' in done.stdout
