"""Drives a sweep: starts its runs and handles how they end."""

import collections
import time

from rich.table import Table

from fcn_jax import files
from fcn_jax.run.signals import EXIT_CODES, Stop
from fcn_jax.sweep import local, points, ray
from fcn_jax.sweep.status import (
  BLOCKED,
  DIVERGED,
  DONE,
  ENDED,
  FAILED,
  QUEUED,
  WAITING,
  Display,
  _console,
  last_lines,
  say,
  state,
  table,
)

_POLL = 0.1  # seconds


class Driver:
  """Starts runs as the engine and the runs that they start from allow, and sees to their ends."""

  def __init__(
    self, chosen: list[points.Run], engine: local.Local | ray.Ray, *, retries: int = 0, node_retries: int = 5
  ):
    self._runs, self._engine = {run.name: run for run in chosen}, engine
    self.states = {run.name: state(run) for run in chosen}
    for name, known in self.states.items():
      if known != DONE:
        self.states[name] = WAITING  # what failed before is tried again: that is what the command is given for
    self._began = {}  # seconds since the epoch, of those that the engine has
    self._attempts = {}  # of those, the attempt before
    self._looked = 0.0  # seconds since the epoch
    self._failures, self._losses = collections.Counter(), collections.Counter()
    self._seconds = []  # of each run that was done here
    self._prepared = False
    self._retries, self._node_retries = retries, node_retries

  def drive(self) -> int:
    """Until all has ended or a signal comes; the exit code."""
    with Stop(say) as stop, Display() as display:
      while not stop.signal and not self._ended():
        self._start_what_can()
        for ending in self._engine.ended():
          self._conclude_one(ending, display)
        self._look()
        display.show(self)
        time.sleep(_POLL)
      if stop.signal:
        self._engine.stop(stop.signal)
        self.states |= dict.fromkeys(self._began, 'preempted')
        display.show(self)
    if stop.signal:
      say('the runs are stopped and saved; the same command goes on from there')
      return EXIT_CODES[stop.signal]
    return self._conclude()

  def _ended(self) -> bool:
    return all(known in ENDED for known in self.states.values())

  def _start_what_can(self) -> None:
    for name, run in self._runs.items():
      if self.states[name] != WAITING:
        continue
      source = self.states[run.source] if run.source else DONE
      if source in (FAILED, DIVERGED, BLOCKED):
        self.states[name] = BLOCKED
      elif source == DONE and self._engine.room(prepared=self._prepared):
        self._began[name], self.states[name] = time.time(), QUEUED
        self._attempts[name] = _attempt(run)
        self._engine.start(run)

  def _look(self) -> None:
    """Which of the started runs are running by now; a Ray cluster may still be without a node for one."""
    if time.time() - self._looked < self._engine.poll:
      return
    self._looked = time.time()
    for name in self._began:
      if self.states[name] == QUEUED and _attempt(self._runs[name]) != self._attempts[name]:
        self.states[name], self._began[name] = 'running', time.time()
      # A run tells of the data in env.json once they are prepared.
      self._prepared = self._prepared or (self._runs[name].workdir / 'env.json').exists()

  def _conclude_one(self, ending: local.Ending, display: 'Display') -> None:
    name, run = ending.name, self._runs[ending.name]
    took = time.time() - self._began.pop(name)
    self._prepared = True
    known = state(run)
    if ending.code == 0 and known == DONE:
      self.states[name] = DONE
      self._seconds.append(took)
      return
    if known == DIVERGED:
      self.states[name] = DIVERGED  # the same again would diverge again
      return
    counts, budget = (self._losses, self._node_retries) if ending.code is None else (self._failures, self._retries)
    counts[name] += 1
    self.states[name] = WAITING if counts[name] <= budget else FAILED
    if self.states[name] == FAILED or not display.live:
      say(f'{name}: {ending.text} ({run.workdir / "log.txt"}):\n{last_lines(run)}')

  def _conclude(self) -> int:
    _console.print(table(list(self._runs.values()), self.states, {}))
    for name, known in self.states.items():
      if known == BLOCKED:
        say(f'{name}: blocked, since {self._runs[name].source}, which it starts from, did not get done')
      elif known == DIVERGED:
        say(f'{name}: diverged:\n{last_lines(self._runs[name])}')
    for counts, flag, budget in (
      (self._failures, 'retries', self._retries),
      (self._losses, 'node_retries', self._node_retries),
    ):
      for name, count in counts.items():
        what = 'failed' if counts is self._failures else 'lost its node'
        say(f'{name}: {what} {count} times, of which --{flag}={budget} are made up for')
    return 0 if set(self.states.values()) == {DONE} else 1

  def table(self) -> Table:
    """Of what is going on, or went wrong: a sweep has more runs than a terminal has lines."""
    return table(list(self._runs.values()), self.states, self._began, self.forecast(), hidden=(WAITING, DONE))

  def forecast(self) -> float | None:
    """Seconds until all is done, if runs take as long as those before; None while none is done."""
    if not self._seconds:
      return None
    each = sum(self._seconds) / len(self._seconds)
    running = [begun for name, begun in self._began.items() if self.states[name] == 'running']
    spent = sum(min(each, time.time() - begun) for begun in running)
    left = sum(known not in ENDED for known in self.states.values())
    return (left * each - spent) / min(self._engine.slots, max(left, 1))


def _attempt(run: points.Run) -> str | None:
  """The id of the newest start of the run."""
  return files.read_json(run.workdir / 'attempt.json', {}).get('id')
