"""How fast this code is, compared with the same network in PyTorch (extra `[bench]`).

  python -m benchmarks.run --json=speed.json --archive=/path/iccv09Data.tar.gz
  python -m benchmarks.run --only=narrow --rounds=15
  python -m benchmarks.run --suite=gpu --peer=none

Both sides of a row start from the same numbers, and the benchmark first checks that they compute the same results.
Then they take turns, so that other work on the machine affects both. `ratio` is the other side's median time divided
by ours: above 1, ours is faster. PyTorch runs in a separate process, in several configurations
(`benchmarks/turns.py`); the fastest counts. In some rows the other side is a variant of our code, which its name gives.
Rows of Stanford Background require `--archive`.
"""

import importlib.metadata
import json
import os
import pathlib
import platform

import jax
from absl import flags

from benchmarks import around, steps, turns
from fcn_jax import cli
from fcn_jax.errors import UserError

COLUMNS = {
  'workload': 'workload',
  'ours_ms': 'ours, ms',
  'peer_ms': 'other, ms',
  'peer': 'other',
  'ratio': 'ratio',
  'gflops': 'GFLOP/s',
  'share_of_peak': 'of the peak',
  'compile_seconds': 'compile, s',
  'temporary_gib': 'temporary, GiB',
}


def define_flags() -> None:
  """Defines the flags of the command."""
  flags.DEFINE_enum('suite', 'cpu', list(steps.SUITES), 'Which workloads.')
  flags.DEFINE_enum('peer', 'torch', ['torch', 'none'], 'What to compare with.')
  flags.DEFINE_multi_enum('way', list(turns.WAYS), list(turns.WAYS), 'Configurations of PyTorch; all by default.')
  flags.DEFINE_multi_string('only', [''], 'Only rows whose names contain this text.')
  flags.DEFINE_integer('rounds', 7, 'Timed rounds per row, after the warmup.', lower_bound=7)
  flags.DEFINE_string('archive', '', 'iccv09Data.tar.gz, for the rows of Stanford Background.')
  flags.DEFINE_string('json', '', 'A JSON file to write, after each row.')


def main(_) -> None:
  """The command."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # PyTorch needs its share of a GPU
  jax.config.update('jax_enable_compilation_cache', False)  # it might have a program whose compilation is timed
  measure_all()


def measure_all() -> None:
  """Measures the rows that the flags choose, and prints a table."""
  given = flags.FLAGS
  ways = [] if given.peer == 'none' else given.way
  found = {
    'machine': f'{platform.machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}',
    'versions': versions(),
    'matrix_peak_gflops': steps.matrix_peak('float32') / 1e9,
    'rows': [],
  }
  print(f'{found["machine"]}; {found["versions"]}; float32 matrix product {found["matrix_peak_gflops"]:.0f} GFLOP/s')
  if not given.archive:
    print('evaluation, input and real data are skipped: they require --archive')
  print(f'| {" | ".join(COLUMNS.values())} |\n|{"---|" * len(COLUMNS)}')
  rows = steps.rows(given.suite, ways, given.rounds) | around.rows(given.archive, ways, given.rounds)
  for name, measure in rows.items():
    if any(part in name for part in given.only):
      row = {'workload': name} | measure()
      found['rows'].append(row)
      print(f'| {" | ".join(text(row.get(name)) for name in COLUMNS)} |', flush=True)
      if given.json:
        pathlib.Path(given.json).write_text(json.dumps(found, indent=1) + '\n')


def text(value) -> str:
  """A value as a cell of the table."""
  if value is None:
    return ''
  return value if isinstance(value, str) else f'{value:.3g}'


def versions() -> str:
  """The versions of jax and PyTorch."""
  if flags.FLAGS.peer == 'none':
    return f'jax {jax.__version__}'
  try:
    return f'jax {jax.__version__}, torch {importlib.metadata.version("torch")}'
  except importlib.metadata.PackageNotFoundError as error:
    raise UserError(
      "PyTorch is not installed; run pip install -e '.[bench]', or pass --peer=none to time our side alone"
    ) from error


if __name__ == '__main__':
  cli.run(main, define_flags)
