"""The signals that stop a program, and the exit codes of a program that they stop.

SIGTERM comes before a machine shuts down, SIGHUP when a terminal closes, SIGUSR1 from SLURM before a time limit (if the
job asks for it), SIGINT from Ctrl-C. A signal that was ignored when the program started (`nohup`) stays ignored.

Importing this module changes nothing and takes no time. Commands call `install` before they import anything else.
"""

import contextlib
import os
import signal
import sys
import time

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
SUPERSEDED = 1000  # not a signal: a newer start of the run holds its lock, and this one must not write any more
# 75 is EX_TEMPFAIL of sysexits.h, "try again later". 130 is 128 + SIGINT, what shells expect after Ctrl-C.
EXIT_CODES = dict.fromkeys((*SIGNALS, SUPERSEDED), 75) | {signal.SIGINT: 130}

# One cause may send a signal twice, for example a scheduler to all processes and a sweep to its runs.
_SAME = 1.0  # seconds
_SHOW_CURSOR = '\x1b[?25h\n'  # a progress bar hides it


def install() -> None:
  """Makes a signal end this program at once with its exit code and one line.

  A `StopSignals` replaces this as soon as there is something to save. Nothing is raised before: an exception during an
  import of jax aborts the process, and a library may catch it.
  """
  _handle(_end)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked by `blocked` before a restart


def _end(number, _) -> None:
  name = 'interrupted' if number == signal.SIGINT else f'stopped by {signal.Signals(number).name}'
  with contextlib.suppress(Exception):  # in the middle of a print, or the terminal is gone
    sys.stdout.flush()
    os.write(2, f'{_SHOW_CURSOR if os.isatty(2) else ""}{name}\n'.encode())
  os._exit(EXIT_CODES[number])


def _handle(handler) -> dict:
  """Sets the handler of all signals that are not ignored, and returns the previous ones."""
  # None: the handler is not Python's, but that of a library.
  numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
  return {number: signal.signal(number, handler) or signal.SIG_DFL for number in numbers}


@contextlib.contextmanager
def blocked():
  """A context in which signals wait, even if it ends with `os.exec`: then they reach the new program's `install`."""
  before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopSignals:
  """A context in which a first signal is only recorded, so that the loop can save; repeating it ends the process.

  Attributes:
    signal: the signal that was received, or None.
  """

  def __init__(self):
    self.signal, self._time = None, 0.0

  def __enter__(self) -> 'StopSignals':
    self._terminals = [number for number in (1, 2) if os.isatty(number)]
    self._previous = _handle(self._record)
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _record(self, number, _) -> None:
    before, now = (self.signal, self._time), time.monotonic()
    self.signal, self._time = signal.Signals(number), now
    if before[0] is None:
      import logging  # not above: until `install` is called, Ctrl-C is a traceback

      with contextlib.suppress(OSError):
        logging.getLogger(__name__).info(
          '%s: stopping and saving after this step; repeat the signal to end at once', self.signal.name
        )
    # SIGTERM often follows SIGUSR1 or SIGHUP while the program still saves: it is not a repetition.
    elif number in (before[0], signal.SIGINT) and now - before[1] > _SAME:
      _end(number, None)
    if number == signal.SIGHUP:  # a write to the closed terminal would be an error
      for terminal in self._terminals:
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
