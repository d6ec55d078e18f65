"""The state of each run of a sweep, and the table that shows them."""

import collections
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from fcn_jax import files
from fcn_jax.run import directory
from fcn_jax.sweep import points

WAITING, QUEUED, DONE, FAILED, DIVERGED, BLOCKED = 'waiting', 'queued', 'done', 'failed', 'diverged', 'blocked'


ENDED = (DONE, FAILED, DIVERGED, BLOCKED)


_LAST_LINES = 8  # of the log of a run that failed


_console = Console(highlight=False, soft_wrap=True)


def state(run: points.Run) -> str:
  """What its folder says: waiting, running, preempted, diverged, failed or done.

  Raises:
    UserError: where the folder holds a run of another config.
  """
  directory.check(run.workdir, run.config)
  return files.read_json(run.workdir / 'status.json', {}).get('state', WAITING)


class Display:
  """A table that is kept up to date on a terminal; elsewhere a line a change."""

  def __init__(self):
    self.live = Live(console=_console, auto_refresh=False) if _console.is_terminal else None
    self._shown, self._time = {}, 0.0

  def __enter__(self) -> 'Display':
    if self.live:
      self.live.start()
    return self

  def __exit__(self, *_) -> None:
    if self.live:
      self.live.stop()

  def show(self, driver) -> None:
    if self.live:
      if time.time() - self._time > 1 or driver.states != self._shown:
        self.live.update(driver.table(), refresh=True)
        self._time = time.time()
    else:
      for name, known in driver.states.items():
        if self._shown.get(name, WAITING) != known:
          left = driver.forecast()
          say(f'{known:9} {name}' + (f'  ({_minutes(left)} left)' if known == DONE and left else ''))
    self._shown = dict(driver.states)


def table(
  runs: list[points.Run], states: dict[str, str], began: dict, left: float | None = None, hidden: tuple[str, ...] = ()
) -> Table:
  """A row a run that is not in a hidden state: how long it took or takes, what it scored or said last."""
  counts = collections.Counter(states[run.name] for run in runs)
  title = ', '.join(f'{count} {known}' for known, count in counts.items())
  out = Table(title=title + (f'; {_minutes(left)} left' if left else ''))
  out.add_column('run', overflow='fold')  # names are what is looked for: never cut
  for column in ('state', 'time', ''):
    out.add_column(column, no_wrap=True)
  for run in runs:
    if states[run.name] in hidden:
      continue
    status, text = files.read_json(run.workdir / 'status.json', {}), ''
    seconds = time.time() - began[run.name] if run.name in began else status.get('wall_seconds')
    if states[run.name] == 'running':
      text = last_lines(run, 1).strip()
    elif states[run.name] == DONE:
      scored = directory.Rows(run.workdir / 'metrics.jsonl', status['step']).with_field('eval/mean_iou')[-1]
      text = f'mean IoU {100 * scored["eval/mean_iou"]:.2f} %'
    elif states[run.name] != WAITING:
      text = status.get('error', '')
    out.add_row(run.name, states[run.name], _minutes(seconds) if seconds else '', text[:80])
  return out


def last_lines(run: points.Run, count: int = _LAST_LINES) -> str:
  path = run.workdir / 'log.txt'
  if not path.exists():
    return ''
  return '\n'.join(f'  {line}' for line in path.read_bytes().decode(errors='replace').splitlines()[-count:])


def say(text: str) -> None:
  _console.print(text, markup=False)


def _minutes(seconds: float) -> str:
  return f'{seconds:.0f} s' if seconds < 100 else f'{seconds / 60:.0f} min'
