"""The sweep command and its driver, with real runs of the smallest size."""

import functools
import json
import os
import pathlib
import signal
import sys
import time

import pytest
import tiny
from etils import epath

from fcn_jax.sweep.driver import Driver
from fcn_jax.sweep.points import Run

EXPERIMENT = """
from fcn_jax.config import default

def get_config(dataset='scenes'):
  config = default(dataset)
  config.update_from_flattened_dict({settings})
  return config

def sweep():
  return {points}
"""
GOOD = [{'seed': 0}, {'seed': 1}]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return tiny.prepare(tmp_path_factory.mktemp('small') / 'data')


def command(folder, data, points, *flags, **settings) -> list[str]:
  """The command of a sweep whose runs have the size of `tiny`."""
  changed = tiny.SETTINGS | {'data.dir': str(data), 'model.stride': 32} | settings
  changed['data.train_size'] = (32, 32)
  path = folder / 'experiment.py'
  path.write_text(EXPERIMENT.format(settings=changed, points=points))
  return [sys.executable, '-m', 'fcn_jax.sweep', f'--config={path}', f'--workdir={folder / "sweep"}', *flags]


def status(folder, name) -> dict:
  path = folder / 'sweep' / name / 'status.json'
  return json.loads(path.read_text()) if path.exists() else {}


def scores(folder, name) -> bytes:
  return (folder / 'sweep' / name / 'metrics.jsonl').read_bytes()


def wait_for(condition, process):
  end = time.time() + 200
  while not condition():
    assert process.poll() is None, process.communicate()
    assert time.time() < end
    time.sleep(0.01)


def processes_of(folder) -> list[str]:
  """The command lines of all processes that contain the folder; a zombie has no command line."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
    try:
      found.append(path.read_bytes().replace(b'\0', b' ').decode(errors='replace'))
    except OSError:
      continue  # the process has ended
  return [line for line in found if str(folder) in line]


def test_list_and_dry_run_start_nothing(tmp_path):
  listed = tiny.run(command(tmp_path, tmp_path, GOOD, '--list'))
  assert listed.returncode == 0 and 'seed=0' in listed.stdout and '2 waiting' in listed.stdout
  dry = tiny.run(command(tmp_path, tmp_path, GOOD, '--dry_run', '--only=seed=1'))
  (line,) = dry.stdout.splitlines()
  assert f'-m fcn_jax.main --config={tmp_path}/experiment.py --config.seed=1 --workdir={tmp_path}/sweep/seed=1' in line
  assert not (tmp_path / 'sweep').exists()


@pytest.mark.parametrize(
  ('points', 'flags', 'sentence'),
  [
    ([{'model.strid': 8}], [], 'point strid=8 of the sweep: there is no setting model.strid (did you mean'),
    (GOOD, ['--only=seed=7'], '--only=seed=7 matches no run'),
    (GOOD, ['--shard=2/2'], '--shard is 2/2; expected i/n'),
    (GOOD, ['surplus'], "unexpected argument 'surplus'"),
  ],
)
def test_bad_input_is_a_one_line_error_and_starts_nothing(tmp_path, points, flags, sentence):
  done = tiny.run(command(tmp_path, tmp_path, points, *flags))
  assert done.returncode == 1 and done.stderr.count('\n') == 1
  assert done.stderr.startswith('error: ') and sentence in done.stderr
  assert not (tmp_path / 'sweep').exists()


def test_a_file_without_a_sweep_and_a_directory_of_another_sweep_are_errors(tmp_path):
  arguments = [sys.executable, '-m', 'fcn_jax.sweep', f'--workdir={tmp_path}']
  plain = tiny.run([*arguments, f'--config={tiny.ROOT}/experiments/fcn16s.py'])
  assert plain.returncode == 1 and 'fcn16s.py defines no sweep(); expected one next to get_config()' in plain.stderr
  (tmp_path / 'sweep.json').write_text(json.dumps({'experiment': 'other.py', 'config': {}, 'runs': {}}))
  other = tiny.run([*arguments, f'--config={tiny.ROOT}/experiments/ablation.py'])
  assert other.returncode == 1 and 'holds the sweep other.py, not ablation.py' in other.stderr


@pytest.mark.slow
def test_a_failed_run_is_reported_and_skips_only_the_runs_that_start_from_it(data, tmp_path):
  points = [
    {'seed': 0},
    {'optim.lr': 1e15, 'optim.schedule': 'constant', 'optim.warmup': 0},
    {'init.run': 'lr=1e+15'.replace('lr=1e+15', 'lr=1000000000000000.0,schedule=constant,warmup=0'), 'seed': 3},
    {'init.run': 'seed=0', 'seed': 4},
    {'init.run': '/nowhere', 'seed': 5},
  ]
  done = tiny.run(command(tmp_path, data, points, '--slots=2', '--retries=1'))
  assert done.returncode == 1 and done.stderr == ''
  bad = 'lr=1000000000000000.0,schedule=constant,warmup=0'
  assert status(tmp_path, 'seed=0')['state'] == status(tmp_path, 'run=seed=0,seed=4')['state'] == 'done'
  assert status(tmp_path, bad)['state'] == 'diverged' and status(tmp_path, bad)['restarts'] == 0
  assert not (tmp_path / 'sweep' / f'run={bad.replace(",", "+")},seed=3').exists()
  assert f'skipped: it depends on {bad} (diverged)' in done.stdout
  for words in ('2 done', '1 diverged', '1 skipped', 'Try a lower optim.lr'):
    assert words in done.stdout
  # Each attempt of a failed run shows the end of its log.
  assert done.stdout.count('run=+nowhere,seed=5: exit code 1') == 2 and '/nowhere' in done.stdout
  log = (tmp_path / 'sweep' / 'run=seed=0,seed=4' / 'log.txt').read_text()
  assert f'of {tmp_path}/sweep/seed=0' in log and 'restored' in log

  before = (tmp_path / 'sweep' / 'seed=0' / 'status.json').stat().st_mtime_ns
  listed = tiny.run(command(tmp_path, data, points, '--list'))
  assert '2 done' in listed.stdout and 'mean IoU' in listed.stdout
  again = tiny.run(command(tmp_path, data, points, '--only=seed=0'))
  assert again.returncode == 0 and (tmp_path / 'sweep' / 'seed=0' / 'status.json').stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_sweep_that_is_stopped_or_killed_resumes_with_the_same_result(data, tmp_path):
  undisturbed, longer = tmp_path / 'undisturbed', {'train.steps': 1000, 'eval.every': 500, 'checkpoint.every': 50}
  undisturbed.mkdir()
  done = tiny.run(command(undisturbed, data, GOOD, **longer))
  assert done.returncode == 0, done.stdout + done.stderr

  process = tiny.start(command(tmp_path, data, GOOD, '--slots=2', **longer), start_new_session=True)
  try:
    wait_for(lambda: status(tmp_path, 'seed=1').get('state') == 'running', process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 130 and errors == '', errors
    assert 'the same command resumes them' in output
    assert {status(tmp_path, f'seed={seed}')['state'] for seed in (0, 1)} == {'preempted'}
    assert not processes_of(tmp_path / 'sweep')

    process = tiny.start(command(tmp_path, data, GOOD, '--slots=2', **longer), start_new_session=True)
    wait_for(lambda: len(processes_of(tmp_path / 'sweep')) == 3, process)  # the driver and two runs
    process.kill()
    process.communicate()
    end = time.time() + 60
    while processes_of(tmp_path / 'sweep'):
      assert time.time() < end, processes_of(tmp_path / 'sweep')
      time.sleep(0.1)
  finally:
    process.kill()
  done = tiny.run(command(tmp_path, data, GOOD, '--slots=2', **longer))
  assert done.returncode == 0, done.stdout
  for seed in (0, 1):
    assert scores(tmp_path, f'seed={seed}') == scores(undisturbed, f'seed={seed}')
  assert scores(tmp_path, 'seed=0') != scores(tmp_path, 'seed=1')


@pytest.mark.slow
def test_two_processes_cannot_train_in_one_directory(data, tmp_path):
  first = tiny.start(tiny.command(data, tmp_path / 'run'))
  try:
    wait_for(lambda: (tmp_path / 'run' / 'env.json').exists(), first)
    second = tiny.run(tiny.command(data, tmp_path / 'run'))
    first.communicate(timeout=100)
  finally:
    first.kill()
  assert first.returncode == 0
  assert second.returncode == 1 and f'another process is training in {tmp_path}/run' in second.stderr
  assert len(json.loads((tmp_path / 'run' / 'env.json').read_text())) == 1


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_forwarded_to_all_runs(tmp_path, request, number):
  # Under nohup, which tests may be started with, SIGHUP is ignored, and stays so.
  request.addfinalizer(functools.partial(signal.signal, number, signal.signal(number, signal.SIG_DFL)))

  class Engine:
    slots, poll, stopped = 1, 0, ()

    def has_room(self, *, prepared):
      return True

    def start(self, run):
      pass

    def ended(self):
      signal.raise_signal(number)
      return []

    def stop(self, number):
      self.stopped += (number,)

  engine = Engine()
  run = Run(name='seed=0', workdir=epath.Path(tmp_path / 'x'), config=None, command=[], point={}, source=None)
  assert Driver([run], engine, retries=0, node_retries=0).drive() == 75
  assert engine.stopped == (number,)


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path):
  (tmp_path / 'sweep').write_text('a file')
  done = tiny.run(command(tmp_path, tmp_path, GOOD))
  assert done.returncode == 1 and 'cannot write' in done.stderr and os.path.isfile(tmp_path / 'sweep')
