"""What a command shows on the terminal: progress bars and tables."""

import logging
import time
from collections.abc import Sequence

import numpy as np
from etils import epath
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from fcn_jax import metrics
from fcn_jax.errors import UserError
from fcn_jax.run import saved
from fcn_jax.run.directory import RunDirectory, Status

logger = logging.getLogger(__name__)

# Nothing is markup: names, errors and settings of users may contain [/x] and :cat:.
console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
_EVERY = 10.0  # seconds between lines if there is no terminal


class Bar:
  """Step, loss, images/s and the time left: a progress bar on a terminal, elsewhere a line every ten seconds."""

  def __init__(self, start: int, steps: int, batch_size: int, *, quiet: bool = False):
    """If `quiet`, nothing is shown: another host of the run shows it."""
    self._steps, self._batch_size, self._quiet = steps, batch_size, quiet
    self._shown, self._bar = time.time(), None
    if console.is_terminal and not quiet:
      columns = TextColumn('step {task.completed}/{task.total}'), BarColumn(), TextColumn('{task.fields[text]}')
      self._bar = Progress(*columns, console=console)
      self._bar.start()
      self._task = self._bar.add_task('', total=steps, completed=start, text='')

  def update(self, step: int, loss: float, rate: float) -> None:
    """Shows a step; `rate` is in images per second, 0 if it is not measured yet."""
    text = f'loss {loss:.4f}'
    if rate:
      left = (self._steps - step) * self._batch_size / rate
      text += f'  {rate:.1f} images/s  {left:.0f} s left'
    if self._bar:
      self._bar.update(self._task, completed=step, text=text)
    elif not self._quiet and (time.time() - self._shown > _EVERY or step == self._steps):
      self._shown = time.time()
      console.print(f'step {step}/{self._steps}  {text}')

  def close(self) -> None:
    """Stops updating the bar, which stays on the terminal."""
    if self._bar:
      self._bar.stop()


class Counter:
  """The number of images that are done: a progress bar on a terminal, nothing elsewhere."""

  def __init__(self, total: int):
    self._bar = Progress(BarColumn(), MofNCompleteColumn(), TextColumn('images'), console=console)
    self._bar.disable = not console.is_terminal
    self._task = self._bar.add_task('', total=total)

  def __enter__(self) -> 'Counter':
    self._bar.start()
    return self

  def __exit__(self, *_) -> None:
    self._bar.stop()

  def advance(self) -> None:
    """Counts one more image."""
    self._bar.advance(self._task)


def show_if_done(directory: RunDirectory, steps: int) -> bool:
  """Shows the results of a run of `steps` steps if it is done; returns whether it is."""
  status = directory.status(steps)
  if status.state != 'done':
    return False
  early = ' (it stopped early)' if saved.read_status(directory.path).get('stopped_early') else ''
  logger.info(
    f'{directory} is done already{early}; start another run with --config.init.run={directory} to go on from it, or '
    'delete it to train again'
  )
  if directory.writes:
    show_results(directory, status)
  return True


def show_results(directory: RunDirectory, status: Status) -> None:
  """Shows the last evaluation of a run, its time, speed and memory, from its files."""
  row = last_evaluation(directory.path, status.step)
  timing = directory.rows('timing.jsonl', status.step).with_field('images_per_second')
  heads = list(saved.read_data(directory.path)[1])
  sections = []
  for head in heads:
    prefix = 'eval/' if head == heads[0] else f'eval/{head}/'
    scores = {field.removeprefix(prefix): value for field, value in row.items() if field.startswith(prefix)}
    of_head = [name for name in scores if name.partition('/')[0] in ('iou', *metrics.METRICS)]
    title = [(f'head {head}', '')] if len(heads) > 1 else []
    sections.append(title + [(_title(name), percent(scores[name])) for name in of_head])
  usage = [('time', f'{status.wall_seconds:.0f} s')]
  if timing:  # absent from a run that was copied without it
    speed, memory = np.median([row['images_per_second'] for row in timing]), timing[-1]['peak_memory_gib']
    usage += [('training', f'{speed:.1f} images/s'), ('peak memory', f'{memory:.2f} GiB')]
  show_table(None, ['metric', 'value'], *sections, usage)


def last_evaluation(workdir: epath.Path, step: int) -> dict:
  """The row of the last evaluation up to `step`; `UserError` if there is none, although the run is done."""
  path = workdir / 'metrics.jsonl'
  evaluations = [row for row in saved.read_rows(path, step) if 'eval/mean_iou' in row]
  if not evaluations:
    raise UserError(f'{path} has no evaluation, although the run is done; restore it from a copy')
  return evaluations[-1]


def show_scores(values: dict) -> None:
  """Shows the scores of one head on a split, as in `eval/SPLIT.json`."""
  bands = {f'mean IoU within {width} px of a boundary': value for width, value in values['boundary_iou'].items()}
  of_split = {name: values[name] for name in metrics.METRICS}
  sections = ([(_title(name), percent(value)) for name, value in part.items()] for part in (of_split, bands))
  show_table(None, ['metric', 'value'], *sections)
  kinds = ('share', *metrics.OF_CLASS)
  rows = [(name, *(percent(values[kind][name]) for kind in kinds)) for name in values['iou']]
  show_table(None, ['class', 'share of the pixels', *map(_title, kinds[1:])], rows)


def show_table(title: str | None, columns: Sequence[str], *sections: Sequence[Sequence[str]]) -> None:
  """Shows a table of one or more groups of rows, with a line between the groups."""
  table = Table(*columns, title=title)
  for rows in sections:
    for row in rows:
      table.add_row(*row)
    table.add_section()
  console.print(table)


def percent(value: float | None) -> str:
  """A fraction as a percentage; None, for a class without the pixels that the score is a share of, is 'absent'."""
  return 'absent' if value is None else f'{100 * value:.2f} %'


def _title(name: str) -> str:
  return name.replace('iou/', 'IoU ').replace('_', ' ').replace('iou', 'IoU').replace('f1', 'F1')
