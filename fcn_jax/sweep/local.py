"""What runs the runs of a sweep: processes on this machine, or tasks on a Ray cluster.

Both have `start(run)`, `ended()`, `stop(signal)`, `room(...)` and `describe()`, and give a run its own cores and
chips. A run is the plain command in a process of its own in either.
"""

import dataclasses
import functools
import os
import signal
import subprocess
import tempfile
import time

from etils import epath

from fcn_jax import files
from fcn_jax.sweep import points, slots

_COPY = 10.0  # seconds between copies of a log to a bucket


@dataclasses.dataclass(frozen=True)
class Ending:
  """How the process of a run ended.

  Attributes:
    name: of the run.
    code: its exit code, or minus the signal that killed it; None where its machine was lost.
    text: the same for people.
  """

  name: str
  code: int | None
  text: str


class Log:
  """`log.txt` of a run: what its processes say, one after the other; copied now and then where it is in a bucket."""

  def __init__(self, path: epath.Path):
    self._path, self._copied = path, time.time()
    if files.is_remote(path):
      self.file = tempfile.TemporaryFile()  # noqa: SIM115, closed by `close`
      self.file.write(path.read_bytes() if path.exists() else b'')
      self.file.flush()
    else:
      path.parent.mkdir(parents=True, exist_ok=True)
      self.file = path.open('ab')

  def copy(self, *, now: bool = False) -> None:
    if files.is_remote(self._path) and (now or time.time() - self._copied > _COPY):
      self._copied = time.time()
      descriptor = self.file.fileno()
      files.write(self._path, os.pread(descriptor, os.fstat(descriptor).st_size, 0))

  def close(self) -> None:
    self.copy(now=True)
    self.file.close()


def begin(command: list[str], log: Log, slot: slots.Slot, **options) -> subprocess.Popen:
  """Starts the command of a run, which ends with this process."""
  return subprocess.Popen(
    command,
    env=slots.environment(slot),
    stdin=subprocess.DEVNULL,
    stdout=log.file,
    stderr=subprocess.STDOUT,
    process_group=0,  # Ctrl-C is for this process, which passes it on once
    preexec_fn=functools.partial(slots.settle, slot),
    **options,
  )


class Local:
  """Processes on this machine, each in a slot of it."""

  poll = 0.1  # seconds between looks at the directories of the runs

  def __init__(self, count: int | None):
    self._free = slots.slots(count)
    self.slots = len(self._free)
    self._processes = {}  # by name: (process, slot, log)

  def describe(self) -> str:
    return f'{self.slots} at a time on this machine'

  def room(self, *, prepared: bool) -> bool:
    """Whether another run can start: the first one alone, since it prepares the data for all."""
    return bool(self._free) and (prepared or not self._processes)

  def start(self, run: points.Run) -> None:
    slot, log = self._free.pop(0), Log(run.workdir / 'log.txt')
    self._processes[run.name] = begin(run.command(), log, slot), slot, log

  def ended(self) -> list[Ending]:
    """What ended since the last call."""
    endings = []
    for name, (process, slot, log) in list(self._processes.items()):
      log.copy()
      if process.poll() is not None:
        del self._processes[name]
        log.close()
        self._free.append(slot)
        self._free.sort(key=lambda s: s.cores)
        endings.append(Ending(name, process.returncode, _said(process.returncode)))
    return endings

  def stop(self, number: signal.Signals) -> None:
    """Returns when all have saved and ended."""
    for process, _, _ in self._processes.values():
      process.send_signal(number)
    for process, _, log in self._processes.values():
      process.wait()
      log.close()


def _said(code: int) -> str:
  return f'killed by {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
