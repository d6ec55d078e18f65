"""The states of the runs of a sweep, and how they are displayed."""

import collections
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.live import Live
from rich.text import Text

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import directory, lock, progress, saved
from fcn_jax.sweep import points, space

# The first four are the driver's; the next four are read from the `status.json` of a run.
WAITING, QUEUED, SKIPPED, FAILED = 'waiting', 'queued', 'skipped', 'failed'
RUNNING, PREEMPTED, DIVERGED, DONE = 'running', 'preempted', 'diverged', 'done'
STOPPED = 'stopped'  # running according to `status.json`, but its process is gone
DAMAGED = 'damaged'  # a file of the run cannot be used, see `fault`
ENDED = (DONE, FAILED, DIVERGED, SKIPPED, DAMAGED)

_REFRESH = 1.0  # seconds between updates of the table on a terminal
_LAST_LINES = 8  # of the log of a failed run
_LEAST_TEXT = 20  # columns of the last cell of a row; otherwise it goes to the next line

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
    live: the live table, a context manager, which leaves nothing on the terminal; None without a terminal.
  """

  def __init__(self, runs: Sequence[points.Run]):
    console = progress.console
    self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_interactive else None
    self._runs, self._shown, self._time = runs, {}, 0.0

  def show(self, states: dict[str, str], began: dict[str, float], seconds_left: Callable[[], float | None]) -> None:
    """Displays the states.

    Args:
      states: the state of each run, by name.
      began: when each unfinished run started, in seconds since the epoch, by name.
      seconds_left: estimates the time until the sweep is done; returns None if it is unknown.
    """
    if self.live:
      if time.time() - self._time > _REFRESH or states != self._shown:
        # A sweep can have more runs than a terminal has lines.
        shown = [run for run in self._runs if states[run.name] not in (WAITING, DONE)]
        title = ', '.join(filter(None, (_counts(states.values()), _left(seconds_left()))))
        text = '\n'.join([title, *_table(shown, states, began)])
        self.live.update(Text(text, overflow='fold'), refresh=True)
        self._time = time.time()
    else:
      for name, now in states.items():
        if self._shown.get(name, WAITING) != now:
          left = _left(seconds_left()) if now == DONE else ''
          logger.info('%-9s %s%s', now, name, f'  ({left})' if left else '')
    self._shown = dict(states)


def _left(seconds: float | None) -> str:
  return f'{progress.duration(max(1, seconds))} left' if seconds else ''


def _counts(states: Iterable[str]) -> str:
  return ', '.join(f'{count} {state}' for state, count in collections.Counter(states).items())


def show(runs: Sequence[points.Run], states: dict[str, str]) -> None:
  """Prints the runs of a folder with their states, and the faults of those that are damaged.

  Per run: its name, state, step, mean IoU, the time since it last wrote its status, and its error or, if the name does
  not say it, what it changes. Columns without content are left out. Texts are cut to fit the terminal, names are not.
  """
  if not runs:  # a part of a sweep, --shard, may have none
    progress.console.print('no runs')
    return
  progress.console.print(f'{runs[0].workdir.parent}: {_counts(states[run.name] for run in runs)}')
  for line in _table(runs, states):
    progress.console.print(line)
  for run in runs:
    if states[run.name] == DAMAGED:
      logger.info('%s: damaged: %s', run.name, fault(run))


def _table(runs: Sequence[points.Run], states: dict[str, str], began: dict[str, float] | None = None) -> list[str]:
  """The lines of a table of runs; `began`, by name, if the driver of a sweep trains them."""
  if not runs:
    return []
  head = ('run', 'state', 'step', 'mean IoU', 'age' if began is None else 'time', '')
  rows = [_row(run, states[run.name], began) for run in runs]
  filled = [number for number in range(len(head)) if any(row[number] for row in rows)]
  return _aligned([[row[number] for number in filled] for row in (head, *rows)], progress.console.width)


def _aligned(rows: list[list[str]], width: int) -> list[str]:
  """Lines of at most `width` columns, in which only the last cell is cut; long names have lines of their own."""
  sizes = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
  room = width - sum(sizes[1:-1]) - 2 * len(sizes[1:]) - min(sizes[-1], _LEAST_TEXT)  # for a name
  sizes[0] = max((cell_len(row[0]) for row in rows if cell_len(row[0]) <= room), default=0)
  lines = []
  for name, *cells in rows:
    if cell_len(name) > room:
      lines.append(name)
      name = ''
    text = '  '.join(map(set_cell_size, (name, *cells), sizes)).rstrip()
    lines.append(set_cell_size(text, min(width, cell_len(text))))
  return lines


def _row(run: points.Run, now: str, began: dict[str, float] | None) -> tuple[str, ...]:
  step = score = seconds = ''
  try:
    status = saved.read_status(run.workdir)
    text = fault(run) if now == DAMAGED else str(status.get('error', ''))
    if now != WAITING and status:
      step = f'{status.get("step", 0)}/{status.get("steps", "?")}'
    if began is None and now not in (WAITING, DAMAGED):
      score = _score(run, status)
      seconds = progress.duration(time.time() - status['time']) if 'time' in status else ''
  except UserError as error:
    text = str(error)
  if began and run.name in began:
    seconds = progress.duration(time.time() - began[run.name])
    text = last_lines(run, 1).strip() if now == RUNNING else text
  settings = space.settings(run.point)
  text = text.replace(f'{run.workdir}/', '') or (settings if run.point and settings != run.name else '')
  return files.printable(run.name), now, step, score, seconds, files.printable(text)


def _score(run: points.Run, status: dict) -> str:
  """Mean IoU of the last evaluation; '' if there is none yet."""
  rows = saved.read_evaluations(run.workdir, status.get('step', 0))
  return progress.percent(rows[-1]['eval/mean_iou']) if rows else ''


def last_lines(run: points.Run, count: int = _LAST_LINES) -> str:
  """The last lines of the run's log, indented; '' if it has no log, or the log cannot be read."""
  path = run.workdir / 'log.txt'
  try:
    text = files.read(path).decode(errors='replace') if files.exists(path) else ''
  except UserError as error:
    text = str(error)
  return '\n'.join(f'  {line}' for line in text.splitlines()[-count:])
