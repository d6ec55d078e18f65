"""The commands of `benchmarks/gpu.sh`, one after the other, the most valuable ones first, and never after the deadline.

Each command is a part of a stage and has a time limit, so that one that hangs or compiles for long costs only the least
valuable ones. OUT gets `results.jsonl`, with every row as soon as it is measured; `summary.md`, the same as tables;
`log.txt`, the other output; and `report/` in stage 2. A part that is measured again replaces its rows. Imports neither
jax nor PyTorch.
"""

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import threading
import time
from typing import BinaryIO

from benchmarks.gpu import rows
from fcn_jax import files, machine

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = {1: 240, 2: 540}  # of a stage
_LEAST = 5  # seconds before SIGTERM: in less time, no part measures anything
_CPU = {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''}
_DETERMINISTIC = {'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {machine.DETERMINISTIC}=true'.strip()}
_PACKAGES = ('jax', 'jaxlib', 'jax-cuda13-plugin', 'jax-cuda12-plugin', 'nvidia-cudnn-cu13', 'flax', 'numpy', 'torch')


@dataclasses.dataclass(frozen=True)
class Part:
  """A command of a stage.

  Attributes:
    arguments: of Python.
    limit: seconds until the command is killed.
    grace: how many seconds before that it gets SIGTERM.
    on_demand: only runs if --only names it.
    env: environment variables that differ.
    package: the module that it requires, if that is not one of ours.
  """

  arguments: tuple[str, ...]
  limit: int
  grace: int = 3
  on_demand: bool = False
  env: dict[str, str] = dataclasses.field(default_factory=dict)
  package: str = ''


def stages(given: argparse.Namespace) -> dict[int, dict[str, Part]]:
  """The parts of both stages by name, in their order; see `parse`."""
  small, data = ['--small'] * given.small, f'--archive={given.archive}'
  factor = 5 if given.small else 1  # a CPU may be slow

  def part(module: str, *arguments: str, limit: int, **settings) -> Part:
    return Part(('-m', f'benchmarks.gpu.{module}', *arguments, *small), factor * limit, **settings)

  def torch(*configurations: str, **settings) -> Part:
    return part('torch_peer', *(f'--configuration={name}' for name in configurations), package='torch', **settings)

  def sweep(stride: int, **settings) -> Part:
    only, size = (f'stride={stride},fold=0', ':small') if given.small else (f'stride={stride}', '')
    command = ('-m', 'fcn_jax.sweep', f'--config=benchmarks/gpu/full_size.py{size}', f'--only={only}', '--slots=3')
    command += (f'--config.data.archive={given.archive}', f'--workdir={given.runs}')
    return Part(command, limit=factor * 470, grace=25, **settings)  # 25 s: to save all runs

  return {
    1: {
      'steps': part('training', '--part=base', limit=130),
      'run': part('real_run', data, limit=110),
      'input': part('input', data, limit=40, env=_CPU),
      'torch': torch('plain', 'fc6 unfolded', limit=60),
      'parity': part('parity', limit=60),
      'forward': part('forward', limit=60),
      'run_again': part('real_run', data, limit=60),  # all programs are in the compilation cache
      'run_host': part('real_run', data, '--augment_on=host', limit=110, on_demand=True),
      'float32': part('training', '--part=float32', limit=120, on_demand=True),
      'large': part('training', '--part=large', limit=120, on_demand=True),
      'kernels': part('training', '--part=kernels', limit=150, on_demand=True),
      'deterministic': part('training', '--part=base', limit=150, on_demand=True, env=_DETERMINISTIC),
      'torch_compiled': torch('cudnn.benchmark', 'compiled', 'fc6 unfolded, compiled', limit=180, on_demand=True),
      'variants': part('training', '--part=variants', limit=235, on_demand=True),
    },
    2: {
      'fcn8s': sweep(8),
      'fcn16s': sweep(16, on_demand=True),
      'fcn32s': sweep(32, on_demand=True),
      'runs': Part(('-m', 'benchmarks.gpu.timings', str(given.runs)), limit=factor * 20),
      'report': Part(('-m', 'fcn_jax.report', str(given.runs), f'--out={given.out / "report"}'), limit=factor * 60),
    },
  }


class Results:
  """The files in OUT.

  Attributes:
    log: `log.txt`, open for writing.
  """

  def __init__(self, out: pathlib.Path, order: list[str]):
    """`order` is that of the parts in the summary."""
    out.mkdir(parents=True, exist_ok=True)
    self._out, self._order, self._path = out, order, out / 'results.jsonl'
    lines = self._path.read_text().splitlines() if self._path.exists() else []
    self._rows = [row for line in lines if (row := rows.read(line))]
    self.log = (out / 'log.txt').open('ab')

  def close(self) -> None:
    """Closes `log.txt`."""
    self.log.close()

  def begin(self, part: str) -> None:
    """Drops the rows of an earlier measurement of a part."""
    self._rows = [row for row in self._rows if row['part'] != part]
    files.write(self._path, ''.join(f'{json.dumps(row)}\n' for row in self._rows))

  def add(self, part: str, row: dict) -> None:
    """Adds a row to the files, and prints it."""
    self._rows.append({'part': part} | row)
    with self._path.open('a') as file:
      file.write(f'{json.dumps(self._rows[-1])}\n')
    print(f'{part}: {rows.text(row)}', flush=True)
    sections = []
    names = [*self._order, *sorted({row['part'] for row in self._rows} - {*self._order})]  # of an older version, too
    for name in names:
      of_part = [{key: x for key, x in row.items() if key != 'part'} for row in self._rows if row['part'] == name]
      if of_part:
        sections.append(f'## {name}\n\n{rows.tables(of_part)}')
    files.write(self._out / 'summary.md', '\n'.join(sections))


def run(name: str, part: Part, seconds: float, results: Results) -> str:
  """Runs a part, and kills it after at most `seconds`; returns what went wrong, or ''."""
  begun = time.monotonic()
  results.begin(name)
  results.log.write(f'\n=== {name}: {" ".join(part.arguments)}\n'.encode())
  results.log.flush()
  process = subprocess.Popen(
    [sys.executable, *part.arguments],
    cwd=ROOT,
    env=os.environ | {'PYTHONUNBUFFERED': '1'} | part.env,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=results.log,
    process_group=0,
  )
  reader = threading.Thread(target=_read, args=(process.stdout, name, results), daemon=True)
  reader.start()
  try:
    code, stopped = process.wait(max(0.0, seconds - part.grace)), False
  except subprocess.TimeoutExpired:
    os.killpg(process.pid, signal.SIGTERM)
    code, stopped = _wait(process, part.grace), True
  finally:
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
      process.wait()
  reader.join(2)  # a program that it started may keep the pipe open
  spent = f'{time.monotonic() - begun:.0f} s'
  if stopped:
    return f'stopped after {spent}'
  print(f'{name}: ended after {spent}', flush=True)
  return f'failed with exit code {code}: see log.txt' if code else ''


def _wait(process: subprocess.Popen, seconds: float) -> int | None:
  try:
    return process.wait(seconds)
  except subprocess.TimeoutExpired:
    return None


def _read(output: BinaryIO, name: str, results: Results) -> None:
  """Adds the rows of a part to the results until its output ends."""
  with output:
    for line in output:
      row = rows.read(line.decode(errors='replace'))
      if row:
        results.add(name, row)
      else:
        results.log.write(line)
        results.log.flush()


def versions() -> dict:
  """What is measured, where and when."""
  found = {'date': f'{datetime.datetime.now(datetime.UTC):%Y-%m-%d}'}
  found['commit'] = _output('git', '-C', str(ROOT), 'describe', '--always', '--dirty') or 'unknown'
  query = '--query-gpu=name,memory.total,driver_version'
  found['GPU, memory, driver'] = _output('nvidia-smi', query, '--format=csv,noheader') or 'none'
  found |= {'cores': len(os.sched_getaffinity(0)), 'Python': platform.python_version()}
  for package in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[package] = importlib.metadata.version(package)
  return found


def _output(*command: str) -> str:
  """The output of a command on one line, or '' if it fails or does not exist."""
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
  except (OSError, subprocess.TimeoutExpired):
    return ''
  return '; '.join(done.stdout.split('\n')).strip('; ') if done.returncode == 0 else ''


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
  """The arguments of the command: stage, archive, out, only, runs, seconds, small."""
  parser = argparse.ArgumentParser(prog='gpu.sh', allow_abbrev=False)
  parser.add_argument('stage', type=int, choices=SECONDS)
  parser.add_argument('archive', type=pathlib.Path, help='iccv09Data.tar.gz')
  parser.add_argument('out', type=pathlib.Path, nargs='?', default='gpu', help='folder for the results; default: gpu')
  parser.add_argument('--only', default='', help='parts to run, separated by commas')
  parser.add_argument('--runs', type=pathlib.Path, help='directory of the sweep of stage 2; default: OUT/runs')
  parser.add_argument('--seconds', type=float, help='time for the stage; default: 240 for stage 1, 540 for stage 2')
  parser.add_argument('--small', action='store_true', help='tiny networks, to try everything on a CPU')
  given = parser.parse_args(arguments)
  if not given.archive.is_file():
    parser.error(f'there is no file {given.archive}; expected iccv09Data.tar.gz')
  given.archive, given.out = given.archive.resolve(), given.out.resolve()
  given.runs = (given.runs or given.out / 'runs').resolve()
  given.seconds = given.seconds or SECONDS[given.stage]
  given.only = [name for name in given.only.split(',') if name]
  names = list(stages(given)[given.stage])
  if wrong := set(given.only).difference(names):
    parser.error(f'stage {given.stage} has no part {", ".join(sorted(wrong))}; it has {", ".join(names)}')
  return given


def main() -> int:
  """The command; returns 0 if all parts were run and none failed."""
  given, begun = parse(), time.monotonic()
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the command that is running, too
  parts = stages(given)
  chosen = {n: p for n, p in parts[given.stage].items() if (n in given.only if given.only else not p.on_demand)}
  with contextlib.closing(Results(given.out, ['versions', *parts[1], 'stage 1', *parts[2], 'stage 2'])) as results:
    return run_all(chosen, f'stage {given.stage}', begun, given.seconds, results)


def run_all(parts: dict[str, Part], notes: str, begun: float, seconds: float, results: Results) -> int:
  """Runs parts until `seconds` after `begun`; what goes wrong becomes rows of the part called `notes`."""
  for name in ('versions', notes):
    results.begin(name)
  results.add('versions', versions())
  faults, late = [], []
  for name, part in parts.items():
    left = seconds - (time.monotonic() - begun)
    if part.package and not importlib.util.find_spec(part.package):
      results.add(notes, {'note': f'{name}: not run, because {part.package} is not installed'})
    elif left < _LEAST + part.grace:
      late.append(name)
    elif fault := run(name, part, min(part.limit, left - 1), results):
      faults.append(name)
      results.add(notes, {'note': f'{name}: {fault}'})
  spent = f'{time.monotonic() - begun:.0f} of {seconds:.0f} s'
  rest = f'not run: {", ".join(late)}; run them with --only={",".join(late)}' if late else 'all parts were run'
  results.add(notes, {'note': f'{spent}; {rest}'})
  return 1 if faults or late else 0


if __name__ == '__main__':
  sys.exit(main())
