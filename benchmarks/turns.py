"""Two sides that take turns, the other one in a process of its own where it is PyTorch.

How fast PyTorch is hangs on how it gets its memory, differently from us, and that is settled when a process starts. It
is tried in several ways, and the fastest counts.
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
TOLERANCE = {'float32': 1e-3, 'bfloat16': 0.05}  # of the largest number
# Where rounding decides a maximum or the side of a ReLU, gradients jump: by up to 1 % of the largest, as was seen.
MOMENTUM_TOLERANCE = 0.05


@dataclasses.dataclass(frozen=True)
class Way:
  """How PyTorch runs: `malloc`, tunables of glibc; `compiled`, by torch.compile."""

  malloc: str = ''
  compiled: bool = False


_KEPT = 'glibc.malloc.arena_max=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776'
WAYS = {
  'plain': Way(),
  'memory kept': Way(_KEPT),  # what is freed stays with the process
  'huge pages': Way('glibc.malloc.hugetlb=1'),
  'compiled': Way(_KEPT, compiled=True),
}


class Peer:
  """A process of `benchmarks/peer.py`.

  Attributes:
    numbers: what it has computed from the same arrays, by name.
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
      raise RuntimeError(f'{self._process.args} ended with {self._process.wait()}')
    return line

  def seconds(self) -> float:
    self._process.stdin.write('\n')
    self._process.stdin.flush()
    return float(self._answer())

  def close(self) -> None:
    self._process.stdin.close()
    self._process.stdout.close()
    self._process.wait()


def against_peer(ours: Callable, task: dict, arrays: dict, numbers: dict, ways: list[str], rounds: int) -> dict:
  """The part of a row that says how long a function of ours takes, and PyTorch in the fastest of the ways.

  Args:
    ours: what is timed.
    task, arrays: see `benchmarks/peer.py`.
    numbers: what PyTorch must compute too, by name; `task['dtype']` says how exactly.
    ways: keys of `WAYS`; none: ours alone.
    rounds: timed calls of each side.
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
  """The part of a row that compares two functions of ours; `name` says what the other one is."""
  return row(interleaved({'ours': timed(ours), name: timed(other)}, rounds), name)


def row(times: dict[str, list[float]], other: str | None) -> dict:
  ours, peer = (1000 * statistics.median(times[name]) if name else None for name in ('ours', other))
  return {'ours_ms': ours, 'peer_ms': peer, 'peer': other, 'ratio': peer / ours if peer else None}


def check(ours: dict, peers: dict, tolerance: float) -> None:
  """Raises `AssertionError` where the two have not computed the same."""
  if ours.keys() != peers.keys():
    raise AssertionError(f'the peer has computed {sorted(peers)}, we {sorted(ours)}')
  for name, value in ours.items():
    error = np.abs(peers[name] - value).max() / np.abs(value).max()
    if not error <= (MOMENTUM_TOLERANCE if name.startswith('momentum/') else tolerance):
      raise AssertionError(f"{name}: PyTorch's differs from ours by {error:.1e} of the largest number")


def interleaved(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
  """The seconds that each side says, in rounds of one turn each; the first round does not count."""
  times = {name: [] for name in sides}
  for number in range(rounds + 1):
    for name, side in sides.items():
      seconds = side()
      if number:
        times[name].append(seconds)
  return times


def timed(function: Callable) -> Callable[[], float]:
  """A turn: the seconds of a call that follows one that is not timed, so that caches are as in a run."""

  def turn() -> float:
    function()
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun

  return turn


def momentum(arrays: Iterable[tuple[str, np.ndarray]], most: int = 10**5) -> dict[str, np.ndarray]:
  """Numbers to compare: of each array every so manieth, since there are 134 million."""
  return {f'momentum/{path}': np.ravel(x)[:: max(1, np.size(x) // most)] for path, x in arrays}
