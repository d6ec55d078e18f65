"""The signals that stop a run: SIGTERM (the machine is about to be shut down) and SIGINT (Ctrl-C)."""

import logging
import os
import signal

logger = logging.getLogger(__name__)

SUPERSEDED = 1000  # not a signal: a newer start of the run holds its lock, and this one must not write any more
# 75 is EX_TEMPFAIL of sysexits.h, "try again later". 130 is 128 + SIGINT, what shells expect after Ctrl-C.
EXIT_CODES = {signal.SIGTERM: 75, signal.SIGINT: 130, SUPERSEDED: 75}


class StopSignals:
  """A context in which a first signal is only recorded, so that the loop can save; a second one ends the process.

  Attributes:
    signal: the signal that was received, or None.
  """

  def __init__(self):
    self.signal = None

  def __enter__(self) -> 'StopSignals':
    self._previous = {number: signal.signal(number, self._record) for number in (signal.SIGTERM, signal.SIGINT)}
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _record(self, number, _) -> None:
    if self.signal:
      os._exit(EXIT_CODES[number])
    self.signal = signal.Signals(number)
    logger.info('%s: stopping and saving after this step; repeat the signal to end at once', self.signal.name)
