"""The kernels of a function on a GPU, by jax's profiler."""

import collections
import dataclasses
import gzip
import json
import pathlib
import tempfile
from collections.abc import Callable

import jax


@dataclasses.dataclass(frozen=True)
class Kernels:
  """Microseconds per call on the GPU, by name of the kernel, and by the operation that it belongs to."""

  by_kernel: collections.Counter
  by_operation: collections.Counter


def profile(function: Callable, *, calls: int = 5) -> Kernels:
  """Profiles calls of a function whose programs are compiled already; the result has no kernels if there is no GPU."""
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(calls):
        result = function()
      jax.block_until_ready(result)
    (path,) = pathlib.Path(folder).rglob('*.trace.json.gz')
    events = json.loads(gzip.decompress(path.read_bytes()))['traceEvents']
  return tally(events, calls)


def tally(events: list[dict], calls: int) -> Kernels:
  """Sums up the events of a trace in Chrome's format that belong to a stream of a GPU."""
  named = [event for event in events if event.get('ph') == 'M' and 'args' in event]
  processes = {e['pid']: str(e['args'].get('name')) for e in named if e['name'] == 'process_name'}
  threads = {(e['pid'], e['tid']): str(e['args'].get('name')) for e in named if e['name'] == 'thread_name'}
  found = Kernels(collections.Counter(), collections.Counter())
  for event in events:
    place = event.get('pid'), event.get('tid')
    if event.get('ph') != 'X' or 'GPU' not in processes.get(place[0], '') or 'Stream' not in threads.get(place, ''):
      continue
    details = event.get('args', {})
    operation = details.get('tf_op') or details.get('name') or '?'
    found.by_kernel[event['name'][:110]] += event['dur'] / calls
    found.by_operation[f'{operation[-100:]} | {details.get("hlo_op", "")[:40]}'] += event['dur'] / calls
  return found


def as_rows(kernels: Kernels, most: int = 30) -> list[dict]:
  """The kernels, then the operations, that take the most time: microseconds per call, and percent of all kernels."""
  total = sum(kernels.by_kernel.values())
  return [
    {'us': us, 'percent': 100 * us / total, title: name}
    for title, counter in (('kernel', kernels.by_kernel), ('operation', kernels.by_operation))
    for name, us in counter.most_common(most)
  ]
