"""How fast this is, beside the same network in PyTorch (extra `[bench]`).

  python -m benchmarks.run --json=speed.json --archive=/path/iccv09Data.tar.gz
  python -m benchmarks.run --only=narrow --rounds=15
  python -m benchmarks.run --suite=gpu --peer=none

Both sides of a row start from the same numbers, and what they compute is compared first; then they take turns, so that
what else the machine does meets both. `ratio` is the other's median time over ours: above 1 ours is faster. PyTorch
runs in a process of its own, in several ways (`benchmarks/turns.py`), of which the fastest counts. In rows where the
other one is ours too, its name says what it is. Rows of Stanford Background need `--archive`.
"""

import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import tempfile

from absl import app, flags

from fcn_jax import machine

machine.tune_for_cpu()  # as all commands do, before jax is imported
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # the peer needs its share of a GPU

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import around, steps, turns

_SUITE = flags.DEFINE_enum('suite', 'cpu', list(steps.SUITES), 'Which workloads.')
_PEER = flags.DEFINE_enum('peer', 'torch', ['torch', 'none'], 'What to compare with.')
_WAYS = flags.DEFINE_multi_enum('way', list(turns.WAYS), list(turns.WAYS), 'How PyTorch runs; all are tried.')
_ONLY = flags.DEFINE_multi_string('only', [''], 'Only rows with this in their name.')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Timed rounds a row, after the warm-up.', lower_bound=7)
_ARCHIVE = flags.DEFINE_string('archive', '', 'iccv09Data.tar.gz, for the rows of Stanford Background.')
_JSON = flags.DEFINE_string('json', '', 'A file to write, after each row.')

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


def main(_) -> None:
  with tempfile.TemporaryDirectory() as folder:
    # Compiled once to be looked at and once to be called. The user's own cache would have it already.
    jax.config.update('jax_compilation_cache_dir', folder)
    measure_all()


def measure_all() -> None:
  ways = [] if _PEER.value == 'none' else _WAYS.value
  found = {
    'machine': f'{platform.machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}',
    'versions': versions(),
    'matrix_peak_gflops': matrix_peak('float32') / 1e9,
    'rows': [],
  }
  print(f'{found["machine"]}; {found["versions"]}; float32 matrix product {found["matrix_peak_gflops"]:.0f} GFLOP/s')
  if not _ARCHIVE.value:
    print('without --archive, there are no rows of Stanford Background: evaluation, input, real data')
  print(f'| {" | ".join(COLUMNS.values())} |\n|{"---|" * len(COLUMNS)}')
  rows = steps.rows(_SUITE.value, matrix_peak, ways, _ROUNDS.value) | around.rows(_ARCHIVE.value, ways, _ROUNDS.value)
  for name, measure in rows.items():
    if any(part in name for part in _ONLY.value):
      row = {'workload': name} | measure()
      found['rows'].append(row)
      print(f'| {" | ".join(text(row.get(name)) for name in COLUMNS)} |', flush=True)
      if _JSON.value:
        pathlib.Path(_JSON.value).write_text(json.dumps(found, indent=1) + '\n')


def text(value) -> str:
  if value is None:
    return ''
  return value if isinstance(value, str) else f'{value:.3g}'


def versions() -> str:
  if _PEER.value == 'none':
    return f'jax {jax.__version__}'
  try:
    return f'jax {jax.__version__}, torch {importlib.metadata.version("torch")}'
  except importlib.metadata.PackageNotFoundError:
    sys.exit("error: PyTorch is not here: pip install -e '.[bench]', or --peer=none for our side alone")


@functools.cache
def matrix_peak(dtype: str) -> float:
  """FLOP/s of the best of seven products of square matrices."""
  n = 2048 if jax.default_backend() == 'cpu' else 8192
  x = jax.device_put(np.random.default_rng(0).normal(size=(n, n))).astype(jnp.dtype(dtype))
  product = jax.jit(jnp.matmul)
  turn = turns.timed(lambda: jax.block_until_ready(product(x, x)))
  return 2 * n**3 / min(turn() for _ in range(7))


if __name__ == '__main__':
  app.run(main)
