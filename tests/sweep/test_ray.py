"""Sweeps on a Ray cluster of this machine, whose nodes have fake TPU chips; one node is lost during a sweep."""

import json
import re
import signal
import subprocess
import sys

import pytest
import tiny

EXPERIMENT = """
from fcn_jax.config import default
from fcn_jax.sweep import axis

def get_config(dataset='scenes'):
  config = default(dataset)
  config.model.stride = 32
  config.update_from_flattened_dict({settings})
  return config

def sweep():
  return axis('seed', [0, 1, 2])
"""
RUNS = ('seed=0', 'seed=1', 'seed=2')


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
  """A sweep of three seeds; each run takes a few seconds."""
  folder = tmp_path_factory.mktemp('ray')
  settings = tiny.SETTINGS | {'data.dir': tiny.prepare(folder / 'data'), 'data.train_size': (32, 32)}
  (folder / 'seeds.py').write_text(EXPERIMENT.format(settings=settings | {'train.steps': 40, 'eval.every': 20}))
  return folder / 'seeds.py'


def command(experiment, workdir, *arguments) -> list[str]:
  return [sys.executable, '-m', 'fcn_jax.sweep', f'--config={experiment}', f'--workdir={workdir}', *arguments]


@pytest.fixture
def cluster():
  """A cluster with two nodes: its process and its address."""
  process = tiny.start([sys.executable, tiny.ROOT / 'tests' / 'ray_nodes.py', '2'], stdin=subprocess.PIPE)
  try:
    address = process.stdout.readline().strip()
    assert re.fullmatch(r'[\d.]+:\d+', address), process.communicate(timeout=30)
    yield process, address
    process.communicate('', timeout=60)  # the end of its input
  finally:
    process.kill()


def attempts(workdir, run: str) -> list[str]:
  """The lines in a run's log that name the host, node and chips of each attempt."""
  return [line for line in (workdir / run / 'log.txt').read_text().splitlines() if line.startswith('--- ')]


@pytest.mark.slow
def test_a_lost_node_changes_no_result(experiment, cluster, tmp_path):
  process, address = cluster
  undisturbed = tiny.run(command(experiment, tmp_path / 'alone', '--backend=local', '--slots=1'))
  assert undisturbed.returncode == 0, undisturbed.stderr
  flags = ['--tpus_per_run=1', '--cpus_per_run=0.5']
  driver = tiny.start(command(experiment, tmp_path / 'ray', *flags), env={'RAY_ADDRESS': address})
  try:
    tiny.until(lambda: list(tmp_path.glob('ray/*/checkpoints/[0-9]*')), driver)
    process.stdin.write('lose one\n')
    process.stdin.flush()
    assert process.stdout.readline() == 'lost\n'
    output, errors = driver.communicate(timeout=300)
  finally:
    driver.kill()
  assert driver.returncode == 0, output + errors
  assert 'on a Ray cluster of 3 nodes with 2 CPU, 4 TPU; each run uses 0.5 CPU, 1 TPU' in output
  assert re.search(r'seed=\d: lost its node (once|\d times); --node_retries=5', output)
  tried = {run: attempts(tmp_path / 'ray', run) for run in RUNS}
  assert sum(map(len, tried.values())) > len(RUNS)  # at least one run resumed on another node
  for run, where in tried.items():
    assert all(re.fullmatch(r'--- \S+, node \w{8}, TPU [01]', line) for line in where)
    assert len(set(where)) == len(where)  # an attempt never returns to a lost node
    ours, theirs = tmp_path / 'ray' / run, tmp_path / 'alone' / run
    assert (ours / 'metrics.jsonl').read_bytes() == (theirs / 'metrics.jsonl').read_bytes()
    assert json.loads((ours / 'status.json').read_text())['state'] == 'done'
    assert 'another process is training' not in (ours / 'log.txt').read_text()
  first = [where[0] for where in tried.values()]
  assert len(set(first)) == len(first)  # each run has its own chip


@pytest.mark.slow
def test_ctrl_c_saves_and_stops_all_tasks(experiment, cluster, tmp_path):
  endless = ['--config.train.steps=100000', '--config.eval.every=0']
  driver = tiny.start(
    command(experiment, tmp_path / 'ray', '--cpus_per_run=0.5', *endless), env={'RAY_ADDRESS': cluster[1]}
  )
  try:
    tiny.until(lambda: list(tmp_path.glob('ray/*/checkpoints/[0-9]*')), driver)
    driver.send_signal(signal.SIGINT)
    output, errors = driver.communicate(timeout=120)
  finally:
    driver.kill()
  assert driver.returncode == 130 and 'all runs have saved and stopped' in output, output + errors
  states = {json.loads(path.read_text())['state'] for path in tmp_path.glob('ray/*/status.json')}
  assert states == {'preempted'}


def test_without_ray_or_a_cluster_there_is_a_one_line_error_and_nothing_is_written(experiment, tmp_path):
  (tmp_path / 'without').mkdir()
  (tmp_path / 'without' / 'ray.py').write_text('raise ImportError("no ray")')
  for env, words in (
    ({'PYTHONPATH': f'{tmp_path}/without:{tiny.ROOT}'}, "pip install 'fcn_jax[sweep]'"),
    ({'RAY_ADDRESS': '127.0.0.1:1'}, 'there is no Ray cluster at RAY_ADDRESS=127.0.0.1:1'),
  ):
    done = tiny.run(command(experiment, tmp_path / 'ray', '--backend=ray'), env=env)
    assert done.returncode == 1 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
    assert words in done.stderr and not (tmp_path / 'ray').exists()


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--backend=local', '--tpus_per_run=1'], '--tpus_per_run requires --backend=ray'),
    (['--backend=ray', '--slots=2'], '--slots requires --backend=local'),
  ],
)
def test_a_flag_of_the_other_engine_is_an_error(experiment, tmp_path, arguments, words):
  done = tiny.run(command(experiment, tmp_path / 'ray', *arguments))
  assert done.returncode == 1 and words in done.stderr and not (tmp_path / 'ray').exists()
