"""Two sides that take turns; if one side is PyTorch, it runs in a separate process.

PyTorch's speed depends on how the process gets its memory, in other ways than the speed of our code, and a process
cannot change that after its start. So PyTorch runs in several configurations (`WAYS`), and the fastest counts. Nothing
here imports jax or PyTorch.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = {'float32': 1e-3, 'bfloat16': 0.05}  # relative to the largest number
# Where rounding decides a maximum or the side of a ReLU, gradients jump: by up to 1 % of the largest, as observed.
MOMENTUM_TOLERANCE = 0.05


@dataclasses.dataclass(frozen=True)
class Way:
  """A configuration of PyTorch: `malloc`, tunables of glibc; `compiled`, by torch.compile."""

  malloc: str = ''
  compiled: bool = False


_KEPT = 'glibc.malloc.arena_max=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776'
WAYS = {
  'plain': Way(),
  'memory kept': Way(_KEPT),  # freed memory stays with the process
  'huge pages': Way('glibc.malloc.hugetlb=1'),
  'compiled': Way(_KEPT, compiled=True),
}


class Peer:
  """A process of `benchmarks/peer.py`.

  Attributes:
    numbers: the results that it computed from the same arrays, by name.
  """

  def __init__(self, way: Way, task: dict, arrays: dict[str, np.ndarray]):
    env = {name: value for name, value in os.environ.items() if name not in ('GLIBC_TUNABLES', 'XLA_FLAGS')}
    with tempfile.TemporaryDirectory() as folder:
      folder = pathlib.Path(folder)
      (folder / 'task.json').write_text(json.dumps(task | {'compiled': way.compiled}))
      np.savez(folder / 'arrays.npz', **arrays)
      self._process = subprocess.Popen(
        [sys.executable, '-m', 'benchmarks.peer', folder],
        cwd=ROOT,
        env=env | ({'GLIBC_TUNABLES': way.malloc} if way.malloc else {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
      )
      self._answer()
      with np.load(folder / 'numbers.npz') as numbers:
        self.numbers = dict(numbers)

  def _answer(self) -> str:
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError(f'{self._process.args} ended with exit code {self._process.wait()}; expected an answer')
    return line

  def seconds(self) -> float:
    """The duration of a turn, as the process measures it."""
    self._process.stdin.write('\n')
    self._process.stdin.flush()
    return float(self._answer())

  def close(self) -> None:
    """Ends the process."""
    self._process.stdin.close()
    self._process.stdout.close()
    self._process.wait()


def against_peer(ours: Callable, task: dict, arrays: dict, numbers: dict, ways: list[str], rounds: int) -> dict:
  """Compares a function of ours with PyTorch in its fastest configuration.

  Args:
    ours: the function to time.
    task: see `benchmarks/peer.py`.
    arrays: see `benchmarks/peer.py`.
    numbers: results that PyTorch must reproduce, by name; `task['dtype']` determines the tolerance.
    ways: keys of `WAYS`; if empty, only our side is timed.
    rounds: timed calls of each side.

  Returns:
    The timing part of a row: see `row`.
  """
  if not ways:
    return row(interleaved({'ours': timed(ours)}, rounds), None)
  found = {}
  for way in ways:
    with contextlib.closing(Peer(WAYS[way], task, arrays)) as peer:
      check(numbers, peer.numbers, TOLERANCE[task['dtype']])
      found[way] = interleaved({'ours': timed(ours), way: peer.seconds}, rounds)
  best = min(ways, key=lambda way: statistics.median(found[way][way]))
  all_ms = {way: {side: [1000 * x for x in times] for side, times in pair.items()} for way, pair in found.items()}
  return row(found[best], best) | {'all_ms': all_ms}


def against_ourselves(ours: Callable, other: Callable, name: str, rounds: int) -> dict:
  """Compares two functions of ours; `name` describes the other one. Returns the timing part of a row: see `row`."""
  return row(interleaved({'ours': timed(ours), name: timed(other)}, rounds), name)


def row(times: dict[str, list[float]], other: str | None) -> dict:
  """The median times of both sides in ms, and the ratio: the other's time over ours; above 1, ours is faster."""
  ours, peer = (1000 * statistics.median(times[name]) if name else None for name in ('ours', other))
  return {'ours_ms': ours, 'peer_ms': peer, 'peer': other, 'ratio': peer / ours if peer else None}


def check(ours: dict, peers: dict, tolerance: float) -> None:
  """Raises `AssertionError` if the two sides did not compute the same numbers."""
  if ours.keys() != peers.keys():
    raise AssertionError(f'PyTorch computed {sorted(peers)}; expected {sorted(ours)}')
  for name, value in ours.items():
    error = np.abs(peers[name] - value).max() / np.abs(value).max()
    allowed = MOMENTUM_TOLERANCE if name.startswith('momentum/') else tolerance
    if not error <= allowed:
      raise AssertionError(
        f"{name}: PyTorch's differs from ours by {error:.1e} of the largest number; expected at most {allowed:.0e}"
      )


def interleaved(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
  """The seconds that each side returns, in rounds with one turn per side; the first round does not count."""
  times = {name: [] for name in sides}
  for number in range(rounds + 1):
    for name, side in sides.items():
      seconds = side()
      if number:
        times[name].append(seconds)
  return times


def timed(function: Callable) -> Callable[[], float]:
  """A turn: the seconds of a call. An untimed call precedes it, so that caches are filled as they are in a run."""

  def turn() -> float:
    function()
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun

  return turn


def queued(function: Callable, wait: Callable, *, calls: int, warmup: int = 3, spans: int = 3) -> float:
  """Seconds per call of a function that queues work on an accelerator, in the fastest of several spans.

  Args:
    function: returns before its work is done.
    wait: called with the last result; returns when the device is done.
    calls: calls per span.
    warmup: calls before the first span.
    spans: number of spans.
  """

  def span(count: int) -> float:
    begun, result = time.perf_counter(), None
    for _ in range(count):
      result = function()
    wait(result)
    return (time.perf_counter() - begun) / count

  span(warmup)
  return min(span(calls) for _ in range(spans))


def momentum(arrays: Iterable[tuple[str, np.ndarray]], most: int = 10**5) -> dict[str, np.ndarray]:
  """At most about `most` equally spaced numbers of each array, for `check`: the network has 134 million."""
  return {f'momentum/{path}': np.ravel(x)[:: max(1, np.size(x) // most)] for path, x in arrays}
