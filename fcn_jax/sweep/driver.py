"""Drives a sweep: starts its runs, restarts those that fail or lose their node, and stops them on a signal."""

import collections
import contextlib
import logging
import time

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import progress, saved
from fcn_jax.run.signals import EXIT_CODES, StopSignals
from fcn_jax.sweep import local, points, ray, status
from fcn_jax.sweep.status import DAMAGED, DIVERGED, DONE, ENDED, FAILED, PREEMPTED, QUEUED, RUNNING, SKIPPED, WAITING

_PAUSE = 0.1  # seconds between rounds of the driver's loop

logger = logging.getLogger(__name__)


class Driver:
  """Starts each run as soon as the engine has room and the run that it starts from is done.

  Attributes:
    states: the state of each run, by name; the states are listed in `status.py`.
  """

  def __init__(self, runs: list[points.Run], engine: local.Local | ray.Ray, *, retries: int, node_retries: int):
    """Reads the state of every run; runs that are neither done nor damaged will be started, including failed ones.

    Args:
      runs: the runs of the sweep, in the order in which they start.
      engine: where the runs are computed.
      retries: how often a failed run is restarted.
      node_retries: how often a run that lost its node is restarted.
    """
    self._runs, self._engine = {run.name: run for run in runs}, engine
    found = {run.name: status.state(run) for run in runs}
    self.states = {name: now if now in (DONE, DAMAGED) else WAITING for name, now in found.items()}
    self._began = {}  # run name -> seconds since the epoch; the runs that the engine has
    self._attempts = {}  # run name -> content of `attempt.json` before the current attempt
    self._looked = 0.0  # seconds since the epoch
    self._failures, self._losses = collections.Counter(), collections.Counter()
    self._seconds = []  # duration of each run that this process completed
    self._slots = 1  # how many runs fit at a time; on Ray this changes
    self._prepared = False  # whether the data is prepared
    self._retries, self._node_retries = retries, node_retries

  def drive(self) -> int:
    """Runs the sweep until every run has ended or a signal arrives; returns the exit code."""
    display = status.Display(list(self._runs.values()))
    with StopSignals() as stop, display.live or contextlib.nullcontext():
      while not stop.signal and not all(state in ENDED for state in self.states.values()):
        self._start_runs()
        for ending in self._engine.ended():
          self._end_run(ending, display)
        self._look()
        display.show(self.states, self._began, self._seconds_left)
        time.sleep(_PAUSE)
      if stop.signal:
        self._engine.stop(stop.signal)
        self.states |= dict.fromkeys(self._began, PREEMPTED)
        display.show(self.states, self._began, lambda: None)
    if stop.signal:
      logger.info('all runs have saved and stopped; the same command resumes them')
      return EXIT_CODES[stop.signal]
    return self._summarize()

  def _start_runs(self) -> None:
    for name, run in self._runs.items():
      if self.states[name] != WAITING:
        continue
      source = self.states[run.source] if run.source else DONE
      if source in (FAILED, DIVERGED, SKIPPED, DAMAGED):
        self.states[name] = SKIPPED
      elif source == DONE and self._engine.has_room(prepared=self._prepared):
        self._attempts[name] = _attempt(run)
        try:
          self._engine.start(run)
        except UserError as error:  # for example a folder that may not be written
          self.states[name] = FAILED
          logger.info('%s: %s', name, error)
        else:
          self._began[name], self.states[name] = time.time(), QUEUED

  def _look(self) -> None:
    """Marks queued runs as running once their process has started; on Ray, a run may wait for a node."""
    if time.time() - self._looked < self._engine.poll:
      return
    self._looked, self._slots = time.time(), self._engine.slots
    for name in self._began:
      if self.states[name] == QUEUED and _attempt(self._runs[name]) != self._attempts[name]:
        self.states[name], self._began[name] = RUNNING, time.time()
      # A run writes env.json after it has prepared the data.
      self._prepared = self._prepared or bool(_content(self._runs[name], 'env.json'))

  def _end_run(self, ending: local.Ending, display: status.Display) -> None:
    name, run = ending.name, self._runs[ending.name]
    seconds = time.time() - self._began.pop(name)
    self._prepared = True
    found = status.state(run)
    if ending.code == 0 and found == DONE:
      self.states[name] = DONE
      self._seconds.append(seconds)
      return
    if found in (DIVERGED, DAMAGED):
      self.states[name] = found  # no retry: a repeated run would diverge again, or refuse to start
      return
    counts, budget = (self._losses, self._node_retries) if ending.code is None else (self._failures, self._retries)
    counts[name] += 1
    self.states[name] = WAITING if counts[name] <= budget else FAILED
    if self.states[name] == FAILED or not display.live:
      logger.info('%s: %s (%s):\n%s', name, ending.text, run.workdir / 'log.txt', status.last_lines(run))

  def _summarize(self) -> int:
    """Displays how every run ended; the exit code is 0 if all are done."""
    status.show(list(self._runs.values()), self.states)
    for name, state in self.states.items():
      if state == SKIPPED:
        source = self._runs[name].source
        logger.info('%s: skipped: it depends on %s (%s)', name, source, self.states[source])
      elif state == DIVERGED:
        logger.info('%s: diverged:\n%s', name, status.last_lines(self._runs[name]))
    for name, count in self._failures.items():
      logger.info('%s: failed %s; --retries=%d', name, _times(count), self._retries)
    for name, count in self._losses.items():
      logger.info('%s: lost its node %s; --node_retries=%d', name, _times(count), self._node_retries)
    if DONE in self.states.values():
      progress.show_next(('report', str(next(iter(self._runs.values())).workdir.parent)))
    return 0 if set(self.states.values()) == {DONE} else 1

  def _seconds_left(self) -> float | None:
    """Estimated seconds until the sweep is done, from finished runs, else from the steps of runs that are running."""
    running = [name for name in self._began if self.states[name] == RUNNING]
    durations = self._seconds or list(filter(None, (_expected_seconds(self._runs[name]) for name in running)))
    if not durations:
      return None
    each = sum(durations) / len(durations)
    spent = sum(min(each, time.time() - self._began[name]) for name in running)
    left = sum(state not in ENDED for state in self.states.values())
    return (left * each - spent) / min(self._slots, max(left, 1))


def _expected_seconds(run: points.Run) -> float | None:
  """How long a run takes, if its next steps take as long as those so far; None before the first step."""
  with contextlib.suppress(UserError):
    status = saved.read_status(run.workdir)
    if status.get('step') and status.get('wall_seconds'):
      return status['wall_seconds'] * status.get('steps', 0) / status['step']
  return None


def _attempt(run: points.Run) -> bytes:
  """What the newest attempt of the run has written about itself: other bytes than those of any attempt before."""
  return _content(run, 'attempt.json')


def _content(run: points.Run, name: str) -> bytes:
  with contextlib.suppress(UserError):  # a run whose files cannot be read fails, and says why
    path = run.workdir / name
    return files.read(path) if files.exists(path) else b''
  return b''


def _times(count: int) -> str:
  return 'once' if count == 1 else f'{count} times'
