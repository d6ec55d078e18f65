"""The states of the runs of a sweep, and how they are displayed."""

import collections
import logging
import time
from collections.abc import Sequence

from rich.live import Live
from rich.table import Table

from fcn_jax.run import directory, progress, saved
from fcn_jax.sweep import points

# The first four are the driver's, the others are read from the `status.json` of a run.
WAITING, QUEUED, SKIPPED, FAILED = 'waiting', 'queued', 'skipped', 'failed'
RUNNING, PREEMPTED, DIVERGED, DONE = 'running', 'preempted', 'diverged', 'done'
ENDED = (DONE, FAILED, DIVERGED, SKIPPED)

_REFRESH = 1.0  # seconds between updates of the table on a terminal
_LAST_LINES = 8  # of the log of a failed run

logger = logging.getLogger(__name__)


def state(run: points.Run) -> str:
  """The state in the run's directory: running, preempted, diverged, failed or done; waiting if it has not started.

  Raises:
    UserError: the directory holds a run with another config.
  """
  if run.config:
    directory.check(run.workdir, run.config)
  return saved.read_status(run.workdir).get('state', WAITING)


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
          left = f'  ({_minutes(seconds_left)} left)' if now == DONE and seconds_left else ''
          logger.info('%-9s %s%s', now, name, left)
    self._shown = dict(states)


def table(
  runs: Sequence[points.Run],
  states: dict[str, str],
  began: dict[str, float],
  seconds_left: float | None = None,
  *,
  hidden: Sequence[str] = (),
) -> Table:
  """One row per run: its name, its state, how long it has run, and its score or last message.

  Args:
    runs: the rows, in order.
    states: the state of each run, by name.
    began: when each unfinished run started, in seconds since the epoch, by name.
    seconds_left: estimated time until the sweep is done, for the title.
    hidden: states whose runs get no row; the title still counts these runs.
  """
  counts = collections.Counter(states[run.name] for run in runs)
  title = ', '.join(f'{count} {state}' for state, count in counts.items())
  out = Table(title=title + (f'; {_minutes(seconds_left)} left' if seconds_left else ''))
  out.add_column('run', overflow='fold')  # a reader looks for names: never truncate them
  for column in ('state', 'time', ''):
    out.add_column(column, no_wrap=True)
  for run in runs:
    if states[run.name] not in hidden:
      out.add_row(*_row(run, states[run.name], began.get(run.name)))
  return out


def _row(run: points.Run, now: str, began: float | None) -> tuple[str, str, str, str]:
  status, text = saved.read_status(run.workdir), ''
  seconds = time.time() - began if began else status.get('wall_seconds')
  if now == RUNNING:
    text = last_lines(run, 1).strip()
  elif now == DONE:
    rows = saved.read_rows(run.workdir / 'metrics.jsonl', status['step'])
    text = f'mean IoU {progress.percent([row["eval/mean_iou"] for row in rows if "eval/mean_iou" in row][-1])}'
  elif now != WAITING:
    text = status.get('error', '')
  return run.name, now, _minutes(seconds) if seconds else '', text[:80]


def last_lines(run: points.Run, count: int = _LAST_LINES) -> str:
  """The last lines of the run's log, indented; '' if it has no log."""
  path = run.workdir / 'log.txt'
  if not path.exists():
    return ''
  return '\n'.join(f'  {line}' for line in path.read_bytes().decode(errors='replace').splitlines()[-count:])


def _minutes(seconds: float) -> str:
  return f'{seconds:.0f} s' if seconds < 100 else f'{seconds / 60:.0f} min'
