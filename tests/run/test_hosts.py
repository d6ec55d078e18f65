"""One run on several hosts: processes that each fake some devices and communicate by gloo."""

import json
import shutil
import signal
import time

import pytest
import tiny

pytestmark = pytest.mark.slow

EPOCHS = {'train__epochs': 4, 'train__steps': 0}  # as many as `tiny.STEPS`


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tiny.prepare(tmp_path_factory.mktemp('hosts') / 'data')


def start(hosts: int, data_dir, workdir, devices: int = 8, **settings) -> list:
  """Starts the processes of a run that have `devices` devices together; `workdir` may be a list, one per process."""
  port, processes = tiny.free_port(), []
  for number in range(hosts):
    place = workdir[number] if isinstance(workdir, list) else workdir
    command = tiny.command(data_dir, place, **settings)
    if hosts > 1:
      command += [f'--coordinator=localhost:{port}', f'--num_processes={hosts}', f'--process_id={number}']
    env = {'XLA_FLAGS': f'{tiny.QUICK["XLA_FLAGS"]} --xla_force_host_platform_device_count={devices // hosts}'}
    processes.append(tiny.start(command, env=env))
  return processes


def ends(processes, patience: float = 300) -> list[tuple[int, str]]:
  """Exit code and standard error of each process."""
  until = time.time() + patience
  try:
    return [(p.returncode, e) for p in processes for _, e in [p.communicate(timeout=max(until - time.time(), 1))]]
  finally:
    for process in processes:
      process.kill()


def train(hosts: int, data_dir, workdir):
  """Trains to the end; the rows of the log."""
  for code, errors in ends(start(hosts, data_dir, workdir, **EPOCHS)):
    assert code == 0, errors
  assert json.loads((workdir / 'status.json').read_text())['state'] == 'done'
  return rows(workdir)


def rows(workdir) -> list[dict]:
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def assert_same(these, those):
  assert [row.keys() for row in these] == [row.keys() for row in those]
  for mine, theirs in zip(these, those, strict=True):
    assert mine == pytest.approx(theirs, rel=2e-3, abs=1e-5)  # sums over devices differ in their order


@pytest.fixture(scope='module')
def alone(data_dir, tmp_path_factory):
  """The rows that one process on eight devices logs."""
  return train(1, data_dir, tmp_path_factory.mktemp('hosts') / 'alone')


def test_two_hosts_learn_the_same_as_one(alone, data_dir, tmp_path):
  assert_same(train(2, data_dir, tmp_path / 'run'), alone)
  env = json.loads((tmp_path / 'run' / 'env.json').read_text())
  assert len(env) == 1 and len(env[0]['devices']) == 8  # only one host writes
  scores = json.loads((tmp_path / 'run' / 'eval' / 'validation.json').read_text())
  assert scores['images'] == 8 and (tmp_path / 'run' / 'eval' / 'examples.png').exists()


def until_saved(workdir, processes) -> None:
  """Returns when the run has its first checkpoint."""
  tiny.until(lambda: any(path.name.isdigit() for path in (workdir / 'checkpoints').glob('*')), *processes)


@pytest.fixture(scope='module')
def stopped(data_dir, tmp_path_factory):
  """A run on two hosts, the second of which received SIGTERM, in a directory with a name that Orbax misinterprets."""
  workdir = tmp_path_factory.mktemp('hosts') / 'stopped[1]'
  processes = start(2, data_dir, workdir, **EPOCHS)
  until_saved(workdir, processes)
  processes[1].send_signal(signal.SIGTERM)
  assert [code for code, _ in ends(processes)] == [75, 75]
  return workdir


def test_sigterm_to_one_host_makes_all_hosts_save_at_the_same_step(stopped):
  status = json.loads((stopped / 'status.json').read_text())
  assert status['state'] == 'preempted' and 3 <= status['step'] < tiny.STEPS
  assert max(int(path.name) for path in (stopped / 'checkpoints').iterdir()) == status['step']


@pytest.mark.parametrize('hosts', [1, 4])
def test_a_run_of_two_hosts_resumes_on_any_number_of_hosts(alone, stopped, data_dir, tmp_path, hosts):
  shutil.copytree(stopped, tmp_path / 'run')
  assert_same(train(hosts, data_dir, tmp_path / 'run'), alone)


@pytest.mark.parametrize('killed', [0, 1])
def test_if_one_host_is_killed_the_other_stops_soon_with_the_reason(data_dir, tmp_path, killed):
  processes = start(2, data_dir, tmp_path / 'run', devices=4, train__steps=100_000, eval__every=0)
  until_saved(tmp_path / 'run', processes)
  processes[killed].kill()
  begun = time.time()
  try:
    _, errors = processes[1 - killed].communicate(timeout=90)
  finally:
    processes[1 - killed].kill()
    processes[killed].communicate()
  assert time.time() - begun < 60
  # Either the failing step or jax's heartbeat detects the loss first. jax ends the process by SIGABRT, always if the
  # coordinator is lost.
  messages = {75: 'another host of this run seems to be gone', -signal.SIGABRT: 'another task died'}
  code = processes[1 - killed].returncode
  assert code in messages and messages[code] in errors, (code, errors)
  if code == 75:
    assert 'Run the same command on all hosts to resume' in errors and errors.count('error: ') == 1


def test_hosts_that_do_not_share_the_directory_are_a_user_error(data_dir, tmp_path):
  (tmp_path / 'theirs').mkdir()
  both = ends(start(2, data_dir, [tmp_path / 'mine', tmp_path / 'theirs'], devices=2))
  assert [code for code, _ in both] == [1, 1]
  for _, errors in both:
    assert 'different numbers of starts in env.json: 1, 0; expected the same on all. --workdir must be' in errors
  assert not list((tmp_path / 'theirs').iterdir())
