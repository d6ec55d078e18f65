"""Runs a sweep as processes on this machine, each with its own cores and accelerators.

`Local` here and `Ray` (`ray.py`) are the two engines of a sweep. Both have the attributes `slots` and `poll` and the
methods `describe`, `has_room`, `start`, `ended` and `stop`. Both start a run as a separate process.
"""

import dataclasses
import functools
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time

from etils import epath

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.sweep import points, slots

logger = logging.getLogger(__name__)

_COPY_EVERY = 10.0  # seconds between copies of a log to a bucket


@dataclasses.dataclass(frozen=True)
class Ending:
  """How the process of a run ended.

  Attributes:
    name: the name of the run.
    code: the exit code, or minus the signal that killed the process; None if its machine was lost.
    text: the same in words.
  """

  name: str
  code: int | None
  text: str


class Log:
  """`log.txt` of a run: the output of all its processes, appended.

  For a run directory in a bucket, the log is a temporary file that is copied to the bucket at intervals.
  """

  def __init__(self, path: epath.Path):
    self._path, self._copied = path, time.time()
    with files.explained(path, 'write'):
      if files.is_remote(path):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115, closed by `close`
        self.file.write(path.read_bytes() if path.exists() else b'')
        self.file.flush()
      else:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open('ab')

  def copy(self, *, now: bool = False) -> None:
    """Copies a log to its bucket if the last copy is old enough, or `now`; does nothing for a log on a disk."""
    if files.is_remote(self._path) and (now or time.time() - self._copied > _COPY_EVERY):
      self._copied = time.time()
      descriptor = self.file.fileno()
      try:
        files.write(self._path, os.pread(descriptor, os.fstat(descriptor).st_size, 0))
      except UserError as error:  # a network that fails for a while must not end the sweep
        logger.warning('%s', error)

  def close(self) -> None:
    self.copy(now=True)
    self.file.close()


def begin(command: list[str], log: Log, slot: slots.Slot, **options) -> subprocess.Popen:
  """Starts a run's command in a slot; the process gets SIGTERM when this process ends."""
  return subprocess.Popen(
    command,
    env=slots.environment(slot),
    stdin=subprocess.DEVNULL,
    stdout=log.file,
    stderr=subprocess.STDOUT,
    process_group=0,  # Ctrl-C reaches only this process, which forwards it once
    preexec_fn=functools.partial(slots.enter, slot),
    **options,
  )


def describe_exit(code: int) -> str:
  """An exit code in words: 'exit code 1', or 'killed by SIGKILL' for -9."""
  return f'killed by {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'


class Local:
  """Processes on this machine, one per slot.

  Attributes:
    slots: how many runs fit at a time.
    poll: seconds between checks of the run directories.
  """

  poll = 0.1

  def __init__(self, count: int | None):
    """Divides the machine into `count` slots, by default one per GPU, TPU chip or core."""
    self._free = slots.slots(count)
    self.slots = len(self._free)
    self._processes = {}  # run name -> (process, slot, log)

  def describe(self) -> str:
    parts = sorted({f'{float(slot.env[slots.MEMORY]):.0%}' for slot in self._free if slots.MEMORY in slot.env})
    shared = f'; runs on the same GPU use {" or ".join(parts)} of its memory each' if parts else ''
    return f'{self.slots} at a time on this machine{shared}'

  def has_room(self, *, prepared: bool) -> bool:
    """Whether another run can start; until the data is prepared, the first run has the machine to itself."""
    return bool(self._free) and (prepared or not self._processes)

  def start(self, run: points.Run) -> None:
    """Starts the process of a run; `UserError` if that is impossible, for example because of a missing permission."""
    log = Log(run.workdir / 'log.txt')
    with files.explained(sys.executable, 'start'):
      process = begin(run.command, log, self._free[0])
    self._processes[run.name] = process, self._free.pop(0), log

  def ended(self) -> list[Ending]:
    """The runs that ended since the last call."""
    endings = []
    for name, (process, slot, log) in list(self._processes.items()):
      log.copy()
      if process.poll() is not None:
        del self._processes[name]
        log.close()
        self._free.append(slot)
        self._free.sort(key=lambda s: s.cores)
        endings.append(Ending(name, process.returncode, describe_exit(process.returncode)))
    return endings

  def stop(self, number: signal.Signals) -> None:
    """Sends the signal to all runs and returns when all have saved and ended."""
    for process, _, _ in self._processes.values():
      process.send_signal(number)
    for process, _, log in self._processes.values():
      process.wait()
      log.close()
