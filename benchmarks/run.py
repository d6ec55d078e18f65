"""How fast this is, beside the same network in PyTorch (extra `[bench]`).

  python -m benchmarks.run --json=speed.json
  python -m benchmarks.run --only=narrow --rounds=15
  python -m benchmarks.run --suite=gpu --peer=none
  python -m benchmarks.run --only=around --archive=/path/iccv09Data.tar.gz

Both sides of a row start from the same numbers, which are compared first, and take turns, so that what else the machine
does meets both. `ratio` is the peer's median time over ours: above 1 ours is faster. Of what was tried for the peer
(as it is, and compiled), the faster counts. It has our huge pages, which can slow it (`results/speed.md`).
"""

import dataclasses
import functools
import json
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

from absl import app, flags

from fcn_jax import machine

machine.tune_for_cpu()  # as all commands do, before jax is imported; the peer gains by the huge pages too

import jax
import numpy as np

from benchmarks import around
from fcn_jax import optim, parallel, train
from fcn_jax.config import default
from fcn_jax.models import fcn

_SUITE = flags.DEFINE_enum('suite', 'cpu', ['cpu', 'gpu'], 'Which workloads.')
_PEER = flags.DEFINE_enum('peer', 'torch', ['torch', 'none'], 'What to compare with.')
_ONLY = flags.DEFINE_string('only', '', 'Only workloads with this in their name.')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Timed rounds a row, after the warm-up.', lower_bound=7)
_COMPILED = flags.DEFINE_bool('compiled_peer', True, 'Also try torch.compile.')
_ARCHIVE = flags.DEFINE_string('archive', '', 'iccv09Data.tar.gz, for what is measured on Stanford Background.')
_JSON = flags.DEFINE_string('json', '', 'A file to write, after each row.')

CLASSES, TOLERANCE = 21, 1e-3
COLUMNS = {
  'workload': 'workload',
  'ours_ms': 'ours, ms',
  'peer_ms': 'peer, ms',
  'peer': 'peer as',
  'ratio': 'ratio',
  'gflops': 'GFLOP/s',
  'share_of_peak': 'of the peak',
  'compile_seconds': 'compile, s',
  'temporary_gib': 'temporary, GiB',
}


@dataclasses.dataclass(frozen=True)
class Workload:
  """A row: train or forward of FCN-8s on pictures of a size."""

  name: str
  kind: str
  width: float
  batch: int
  size: tuple[int, int]
  dtype: str = 'float32'


SUITES = {
  'cpu': (
    Workload('train, narrow', 'train', 0.25, 16, (120, 160)),
    Workload('train, paper size, batch 1', 'train', 1.0, 1, (240, 320)),
    Workload('train, paper size, batch 4', 'train', 1.0, 4, (240, 320)),
    Workload('forward, one picture', 'forward', 1.0, 1, (500, 500)),
  ),
  'gpu': (
    Workload('train, batch 16', 'train', 1.0, 16, (500, 500), 'bfloat16'),
    Workload('train, batch 32', 'train', 1.0, 32, (500, 500), 'bfloat16'),
    Workload('forward, one picture', 'forward', 1.0, 1, (500, 500), 'bfloat16'),
  ),
}


def main(_) -> None:
  parallel.keep_compilations()
  peak = matrix_peak()
  found = {
    'machine': f'{platform.machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}',
    'versions': versions(),
    'matrix_peak_gflops': round(peak / 1e9, 1),
    'rows': [],
  }
  print(f'{found["machine"]}; {found["versions"]}; float32 matrix product {peak / 1e9:.0f} GFLOP/s')
  print(f'| {" | ".join(COLUMNS.values())} |\n|{"---|" * len(COLUMNS)}')
  rows = {workload.name: functools.partial(measure, workload, peak) for workload in SUITES[_SUITE.value]}
  rows |= {'around: evaluation': evaluation, 'around: input': input_pipeline, 'around: start': start}
  for name, make in rows.items():
    if _ONLY.value in name:
      row = {'workload': name} | make()
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
  import torch

  return f'jax {jax.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads'


def matrix_peak() -> float:
  """FLOP/s of the best of seven products of square float32 matrices."""
  n = 2048
  x = jax.device_put(np.random.default_rng(0).normal(size=(n, n)).astype(np.float32))
  product = jax.jit(jax.numpy.matmul)
  jax.block_until_ready(product(x, x))
  return 2 * n**3 / min(seconds(lambda: jax.block_until_ready(product(x, x))) for _ in range(7))


def seconds(function: Callable) -> float:
  begun = time.perf_counter()
  function()
  return time.perf_counter() - begun


def measure(workload: Workload, peak: float) -> dict:
  """A row of the table."""
  config = default('voc2011')
  config.model.update(width=workload.width, dropout=0.0, dtype=workload.dtype)
  config.optim.lr = 1e-6  # the numbers stay those of the start, whatever the number of rounds
  model = fcn.from_config(config, CLASSES)
  optimizer = optim.make(config.optim, steps=10**6)
  state = parallel.replicate(train.init_state(model, optimizer, seed=0))
  state = state.replace(params=around.with_scores(state.params))
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (workload.batch, *workload.size, 3), np.uint8)
  labels = rng.integers(0, CLASSES, images.shape[:3]).astype(np.uint8)
  params = jax.tree.map(np.asarray, state.params)
  make = {'train': our_train_step, 'forward': our_forward}[workload.kind]
  ours, compile_seconds, temporary = make(model, optimizer, config, state, images, labels)
  peers = {} if _PEER.value == 'none' else peers_of(workload, model, config, params, images, labels)
  numbers = {name: function() for name, function in {'ours': ours, **peers}.items()}
  for name, value in numbers.items():
    error = np.abs(np.asarray(value) - numbers['ours']).max() / np.abs(numbers['ours']).max()
    if error > (TOLERANCE if workload.dtype == 'float32' else 0.05):
      raise AssertionError(f'{workload.name}: {name} differs from ours by {error:.1e} of the largest number')
  row = compared({'ours': ours, **peers})
  flop = fcn.flops(model, *workload.size) * workload.batch * {'train': 3, 'forward': 1}[workload.kind]
  return row | {
    'gflops': flop / row['ours_ms'] / 1e6,
    'share_of_peak': 1000 * flop / row['ours_ms'] / peak,
    'compile_seconds': compile_seconds,
    'temporary_gib': temporary,
  }


def compared(functions: dict[str, Callable]) -> dict:
  """The part of a row that says how long ours takes, and the fastest of the others."""
  times = interleaved(functions)
  medians = {name: 1000 * statistics.median(x) for name, x in times.items()}
  best = min(functions.keys() - {'ours'}, key=medians.get, default=None)
  return {
    'ours_ms': medians['ours'],
    'peer_ms': medians.get(best),
    'peer': best,
    'ratio': medians[best] / medians['ours'] if best else None,
    'all_ms': {name: [1000 * x for x in seconds] for name, seconds in times.items()},
  }


def evaluation() -> dict:
  functions = around.evaluation(_ARCHIVE.value, _peer_module())
  matrices = [function() for function in functions.values()]
  for matrix in matrices[1:]:  # a rounding decides between two classes here and there
    if np.abs(matrix - matrices[0]).sum() > TOLERANCE * matrices[0].sum():
      raise AssertionError('evaluation: the confusion matrices differ')
  return compared(functions)


def input_pipeline() -> dict:
  """In milliseconds a picture."""
  rates = around.input_rate(_ARCHIVE.value, batches=20, with_peer=_PEER.value == 'torch')
  ours, peer = rates['ours'], rates.get('DataLoader')
  times = {'ours_ms': 1000 / ours, 'peer_ms': 1000 / peer if peer else None}
  return times | {'peer': 'DataLoader', 'ratio': ours / peer if peer else None}


def start() -> dict:
  """The cold start is the column of the peer: what the cache saves."""
  found = around.seconds_to_first_step()
  cold, cached = found['cold'], found['with the cache']
  return {'ours_ms': 1000 * cached, 'peer_ms': 1000 * cold, 'peer': 'ours, cold', 'ratio': cold / cached}


def _peer_module():
  if _PEER.value == 'none':
    return None
  from benchmarks import peer

  return peer


def interleaved(functions: dict[str, Callable]) -> dict[str, list[float]]:
  """Seconds of each function, in rounds of one call each, after one that is not timed: caches are as in a run."""
  for function in functions.values():
    function()
  times = {name: [] for name in functions}
  for _ in range(_ROUNDS.value):
    for name, function in functions.items():
      function()
      times[name].append(seconds(function))
  return times


def our_train_step(model, optimizer, config, state, images, labels):
  """A function that takes a step and returns its loss; seconds to compile; GiB of temporary memory."""
  step = train.make_train_step(model, optimizer, config)
  size = np.tile(np.array(images.shape[1:3], np.int32), (len(images), 1))
  host = {'image': images, 'label': labels, 'size': size, 'signal': np.zeros(len(images), np.int32)}
  lowered = step.lower(state, parallel.share(host))
  compile_seconds, temporary = _compiled(lowered)
  now = [state]

  def run():
    now[0], numbers = step(now[0], parallel.share(host))
    return float(numbers['loss'].addressable_data(0))

  return run, compile_seconds, temporary


def our_forward(model, optimizer, config, state, images, labels):
  del optimizer, config, labels
  forward = jax.jit(lambda params, images: model.apply({'params': params}, images))
  params = jax.device_put(jax.tree.map(np.asarray, state.params))
  compile_seconds, temporary = _compiled(forward.lower(params, images))
  return lambda: np.asarray(forward(params, images)), compile_seconds, temporary


def _compiled(lowered) -> tuple[float, float]:
  begun = time.perf_counter()
  compiled = lowered.compile()
  return time.perf_counter() - begun, compiled.memory_analysis().temp_size_in_bytes / 2**30


def peers_of(workload: Workload, model, config, params, images, labels) -> dict[str, Callable]:
  """The same in PyTorch: each way that is tried, as functions that return the same as ours."""
  import torch

  peer, found = _peer_module(), {}
  for way in ('eager', 'compiled') if _COMPILED.value else ('eager',):
    net = peer.from_ours(params, CLASSES, workload.width)
    called = torch.compile(net) if way == 'compiled' else net
    if workload.kind == 'train':
      optimizer = peer.make_optimizer(net, config.optim)
      step = peer.make_train_step(called, optimizer, model.mean, model.std)
      found[way] = lambda step=step: step(images, labels)
    else:

      def forward(called=called):
        with torch.inference_mode():
          return called(peer.normalised(images, model.mean, model.std)).permute(0, 2, 3, 1).contiguous().numpy()

      found[way] = forward
  return found


if __name__ == '__main__':
  app.run(main)
