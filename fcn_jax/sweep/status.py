"""The states of the runs of a sweep, and how they are displayed."""

import collections
import logging
import time
from collections.abc import Sequence

from rich.live import Live
from rich.table import Table

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import directory, lock, progress, saved
from fcn_jax.sweep import points

# The first four are the driver's; the next four are read from the `status.json` of a run.
WAITING, QUEUED, SKIPPED, FAILED = 'waiting', 'queued', 'skipped', 'failed'
RUNNING, PREEMPTED, DIVERGED, DONE = 'running', 'preempted', 'diverged', 'done'
STOPPED = 'stopped'  # running according to `status.json`, but its process is gone
DAMAGED = 'damaged'  # a file of the run cannot be used, see `fault`
ENDED = (DONE, FAILED, DIVERGED, SKIPPED, DAMAGED)

_REFRESH = 1.0  # seconds between updates of the table on a terminal
_LAST_LINES = 8  # of the log of a failed run

logger = logging.getLogger(__name__)


def state(run: points.Run) -> str:
  """The state of the run according to its directory; waiting if it has not started."""
  try:
    return _checked_state(run)
  except UserError:
    return DAMAGED


def fault(run: points.Run) -> str:
  """What is wrong with the files of a damaged run, and what to do; '' if nothing is wrong."""
  try:
    _checked_state(run)
  except UserError as error:
    return str(error)
  return ''


def _checked_state(run: points.Run) -> str:
  """The state of the run.

  Raises:
    UserError: a file of the run is damaged or cannot be read, or its directory holds a run with another config.
  """
  if files.exists(run.workdir) and not run.workdir.is_dir():
    raise UserError(f'{run.workdir} is a file; expected a run directory: move the file away')
  if run.config:
    directory.check(run.workdir, run.config)
  saved.check_all(run.workdir)
  status = saved.read_status(run.workdir)
  now = status.get('state', WAITING)
  if now == DONE:
    progress.last_evaluation(run.workdir, status.get('step', 0))
  return STOPPED if now == RUNNING and not lock.is_training(run.workdir) else now


class Display:
  """Shows the progress of a sweep: a live table on a terminal, otherwise one line per change of a state.

  Attributes:
    live: the live table, a context manager; None without a terminal.
  """

  def __init__(self, runs: Sequence[points.Run]):
    self.live = Live(console=progress.console, auto_refresh=False) if progress.console.is_terminal else None
    self._runs, self._shown, self._time = runs, {}, 0.0

  def show(self, states: dict[str, str], began: dict[str, float], seconds_left: float | None) -> None:
    """Displays the states; the arguments are those of `table`."""
    if self.live:
      if time.time() - self._time > _REFRESH or states != self._shown:
        # A sweep can have more runs than a terminal has lines.
        shown = table(self._runs, states, began, seconds_left, hidden=(WAITING, DONE))
        self.live.update(shown, refresh=True)
        self._time = time.time()
    else:
      for name, now in states.items():
        if self._shown.get(name, WAITING) != now:
          left = f'  ({_duration(seconds_left)} left)' if now == DONE and seconds_left else ''
          logger.info('%-9s %s%s', now, name, left)
    self._shown = dict(states)


def show(runs: Sequence[points.Run], states: dict[str, str]) -> None:
  """Prints the states of the runs, and the faults of those that are damaged."""
  progress.console.print(table(runs, states, {}))
  for run in runs:
    if states[run.name] == DAMAGED:
      logger.info('%s: damaged: %s', run.name, fault(run))


def table(
  runs: Sequence[points.Run],
  states: dict[str, str],
  began: dict[str, float],
  seconds_left: float | None = None,
  *,
  hidden: Sequence[str] = (),
) -> Table:
  """One row per run: its name, its state, how long it has run, and its score, step, fault or last message.

  Args:
    runs: the rows, in order.
    states: the state of each run, by name.
    began: when each unfinished run started, in seconds since the epoch, by name.
    seconds_left: estimated time until the sweep is done, for the title.
    hidden: states whose runs get no row; the title still counts these runs.
  """
  counts = collections.Counter(states[run.name] for run in runs)
  title = ', '.join(f'{count} {state}' for state, count in counts.items())
  out = Table(title=title + (f'; {_duration(seconds_left)} left' if seconds_left else ''))
  for column in ('run', 'state', 'time', ''):
    # A reader looks for names: never truncate them, or hide them beside a long text.
    out.add_column(column, overflow='fold', no_wrap=column in ('state', 'time'))
  for run in runs:
    if states[run.name] not in hidden:
      out.add_row(*_row(run, states[run.name], began.get(run.name)))
  return out


def _row(run: points.Run, now: str, began: float | None) -> tuple[str, str, str, str]:
  try:
    status = saved.read_status(run.workdir)
    text = _text(run, now, status, live=began is not None)
  except UserError as error:
    status, text = {}, str(error)
  seconds = time.time() - began if began else status.get('wall_seconds')
  text = ''.join(letter if letter.isprintable() else ' ' for letter in text.replace(f'{run.workdir}/', ''))
  return run.name, now, _duration(seconds) if seconds else '', text[:80]


def _text(run: points.Run, now: str, status: dict, *, live: bool) -> str:
  """What the table says about a run; `live` if the driver of the sweep trains it."""
  if now == DAMAGED:
    return fault(run)
  if now == DONE:
    return f'mean IoU {progress.percent(progress.last_evaluation(run.workdir, status.get("step", 0))["eval/mean_iou"])}'
  if now == RUNNING and live:
    return last_lines(run, 1).strip()
  if now == WAITING or not status or 'error' in status:
    return str(status.get('error', ''))
  age = f', {_duration(time.time() - status["time"])} ago' if 'time' in status else ''
  return f'step {status.get("step", 0)}/{status.get("steps", "?")}{age}'


def last_lines(run: points.Run, count: int = _LAST_LINES) -> str:
  """The last lines of the run's log, indented; '' if it has no log, or the log cannot be read."""
  path = run.workdir / 'log.txt'
  try:
    text = files.read(path).decode(errors='replace') if files.exists(path) else ''
  except UserError as error:
    text = str(error)
  return '\n'.join(f'  {line}' for line in text.splitlines()[-count:])


def _duration(seconds: float) -> str:
  if seconds < 100:
    return f'{seconds:.0f} s'
  if seconds < 6000:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:.1f} h' if seconds < 48 * 3600 else f'{seconds / 86400:.0f} days'
