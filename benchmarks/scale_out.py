"""The overhead of distributing work: several hosts for one run, a Ray cluster for a sweep, and the loss of a node.

  python benchmarks/scale_out.py --out=scale_out.json

Everything runs on one machine: processes with simulated devices, and a Ray cluster with simulated nodes (extra
`[sweep]`). The benchmark measures the overhead, not a gain. The file is written after each measurement.
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHORT = ['--config.eval.every=0', '--config.optim.warmup=2']
SWEEP = """
from fcn_jax.config import default
from fcn_jax.sweep import axis

def get_config(dataset='scenes'):
  config = default(dataset)
  config.model.stride = 32
  config.eval.every = 0
  config.checkpoint.every = 20
  return config

def sweep():
  return axis('seed', [0, 1, 2, 3])
"""


def define_flags() -> None:
  """Defines the flags of the command."""
  flags.DEFINE_string('out', 'scale_out.json', 'A JSON file to write.')
  flags.DEFINE_list('parts', ['hosts', 'sweep', 'node'], 'What to measure.')
  flags.DEFINE_integer('rounds', 3, 'Measurements of each kind, interleaved.')


def main(_) -> None:
  """The command."""
  given, found = flags.FLAGS, {}

  def record(name, value) -> None:
    found.setdefault(name, []).append(value)
    pathlib.Path(given.out).write_text(json.dumps(found, indent=1) + '\n')
    print(name, value, flush=True)

  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    (folder / 'sweep.py').write_text(SWEEP)
    run_on_hosts(1, folder / 'warm', steps=3)  # prepares the data
    if 'hosts' in given.parts:
      for number in range(given.rounds):
        for hosts in (1, 2, 4):
          speed = run_on_hosts(hosts, folder / f'{hosts}-{number}', steps=60)
          record(f'images/s, {hosts} x {8 // hosts} devices', speed)
    if 'sweep' in given.parts:
      with nodes(1) as (_, address):
        sweep(folder, 'compiles', {}, steps=5)
        for number in range(given.rounds):
          for backend, env in (('local', {}), ('Ray', {'RAY_ADDRESS': address})):
            seconds = sweep(folder, f'{backend}-{number}', env, steps=5)
            record(f'seconds, four runs in sequence, {backend}', seconds)
    if 'node' in given.parts:
      for number in range(given.rounds):
        with nodes(1) as (cluster, address):
          for name, seconds in lose(folder, f'lost-{number}', cluster, address).items():
            record(name, seconds)
  print(json.dumps({name: statistics.median(values) for name, values in found.items()}, indent=1))


def start(module: str, arguments: list[str], env: dict) -> subprocess.Popen:
  """Starts a command of the package; `env` has further environment variables."""
  command = [sys.executable, '-m', f'fcn_jax.{module}', *arguments]
  env = os.environ | {'PYTHONPATH': str(ROOT)} | env
  return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)


def finish(*processes: subprocess.Popen) -> None:
  """Waits for the processes. If one fails, exits with an error."""
  for process in processes:
    if process.wait():
      sys.exit(f'error: a measured command ended with exit code {process.returncode}; expected 0')


def run_on_hosts(hosts: int, workdir: pathlib.Path, *, steps: int) -> float:
  """The median speed, in images/s, of a run on `hosts` hosts with eight devices in total."""
  with socket.socket() as one:
    one.bind(('localhost', 0))
    port = one.getsockname()[1]
  arguments = [f'--config={ROOT}/experiments/fcn8s.py', f'--workdir={workdir}', f'--config.train.steps={steps}', *SHORT]
  arguments += ['--config.eval.batch_size=24']
  processes = []
  for number in range(hosts):
    process = [f'--coordinator=localhost:{port}', f'--num_processes={hosts}', f'--process_id={number}']
    env = {'XLA_FLAGS': f'--xla_force_host_platform_device_count={8 // hosts}'}
    processes.append(start('main', arguments + (process if hosts > 1 else []), env))
  finish(*processes)
  rows = [json.loads(line) for line in (workdir / 'timing.jsonl').read_text().splitlines()]
  return statistics.median([row['images_per_second'] for row in rows if 'images_per_second' in row])


def sweep(folder: pathlib.Path, name: str, env: dict, *, steps: int) -> float:
  """Seconds of a sweep of four short runs, one at a time."""
  begun = time.time()
  arguments = [f'--config={folder}/sweep.py', f'--workdir={folder}/{name}', f'--config.train.steps={steps}', *SHORT]
  finish(start('sweep', arguments + ([] if env else ['--slots=1']), env))
  return time.time() - begun


@contextlib.contextmanager
def nodes(count: int):
  """A Ray cluster of `count` nodes (`tests/ray_nodes.py`): its process and its address."""
  command, pipe = [sys.executable, str(ROOT / 'tests' / 'ray_nodes.py'), str(count)], subprocess.PIPE
  process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
  try:
    yield process, process.stdout.readline().strip()
    process.communicate('')
  finally:
    process.kill()


def lose(folder: pathlib.Path, name: str, cluster: subprocess.Popen, address: str) -> dict[str, float]:
  """Seconds from the loss of a node, which is replaced at once, to the next start and the next step of its run."""
  workdir = folder / name / 'seed=0'
  arguments = [f'--config={folder}/sweep.py', f'--workdir={folder}/{name}', '--only=seed=0', *SHORT]
  driver = start('sweep', arguments, {'RAY_ADDRESS': address})
  log = workdir / 'log.txt'
  _until(lambda: (workdir / 'checkpoints').exists() and any((workdir / 'checkpoints').glob('[0-9]*')))
  begun = time.time()
  cluster.stdin.write('\n')
  cluster.stdin.flush()
  _until(lambda: log.read_text().count('--- ') == 2)
  started = time.time() - begun
  _until(lambda: re.search(r'\nstep ', log.read_text().rpartition('--- ')[2]))
  stepped = time.time() - begun
  driver.terminate()
  driver.wait()
  return {'seconds, lost node to next start': started, 'seconds, lost node to next step': stepped}


def _until(condition) -> None:
  while not condition():
    time.sleep(0.05)


if __name__ == '__main__':
  define_flags()
  app.run(main)  # not `cli.run`: the measured commands are to start as they do from a shell
