"""How a run is asked to stop: SIGTERM (a machine that goes away) or SIGINT (Ctrl-C)."""

import os
import signal

# 75 is EX_TEMPFAIL of sysexits.h, "try again later"; 130 is 128 + SIGINT, what shells expect after Ctrl-C.
SUPERSEDED = 1000  # no signal: another start of the run has taken over, and nothing more may be written
EXIT_CODES = {signal.SIGTERM: 75, signal.SIGINT: 130, SUPERSEDED: 75}


class Stop:
  """Within it a signal is only remembered, in `signal`, until the loop can act; a second one ends the process."""

  def __init__(self, say):
    """`say` is told of the first signal."""
    self.signal = None
    self._say = say

  def __enter__(self) -> 'Stop':
    self._before = {number: signal.signal(number, self._remember) for number in (signal.SIGTERM, signal.SIGINT)}
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _remember(self, number, _) -> None:
    if self.signal:
      os._exit(EXIT_CODES[number])
    self.signal = signal.Signals(number)
    self._say(f'{self.signal.name}: stopping after this step, and saving; once more to end at once')
