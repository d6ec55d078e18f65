"""What a command shows on the terminal: progress bars and tables."""

import time

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from fcn_jax import metrics
from fcn_jax.run.directory import RunDirectory, Status

console = Console(highlight=False, soft_wrap=True)
_EVERY = 10.0  # seconds between lines if there is no terminal


class Bar:
  """Step, loss, images/s and the time left: a progress bar on a terminal, elsewhere a line every ten seconds."""

  def __init__(self, start: int, steps: int, batch_size: int, *, quiet: bool = False):
    """If `quiet`, nothing is shown: another host of the run shows it."""
    self._steps, self._batch_size, self._quiet = steps, batch_size, quiet
    self._shown, self._bar = time.time(), None
    if console.is_terminal and not quiet:
      self._bar = Progress(
        TextColumn('step {task.completed}/{task.total}'),
        BarColumn(),
        TextColumn('{task.fields[text]}'),
        console=console,
      )
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
      console.print(f'step {step}/{self._steps}  {text}', markup=False)

  def close(self) -> None:
    """Leaves the bar as it is and gives the terminal back."""
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


def show_results(directory: RunDirectory, status: Status) -> None:
  """Shows the last evaluation of a run, its time, speed and memory, from its files."""
  row = directory.rows('metrics.jsonl', status.step).with_field('eval/mean_iou')[-1]
  timing = directory.rows('timing.jsonl', status.step).with_field('images_per_second')
  table = Table('metric', 'value')
  heads = _by_head(row)
  first = next(iter(directory.read_json('data.json', {}).get('heads', {})), '')
  for head, values in heads.items():
    if len(heads) > 1:
      table.add_row(f'head {head or first}', '')
    for name, value in values.items():
      table.add_row(_title(name), percent(value))
    table.add_section()
  table.add_row('time', f'{status.wall_seconds:.0f} s')
  table.add_row('training', f'{np.median([row["images_per_second"] for row in timing]):.1f} images/s')
  table.add_row('peak memory', f'{timing[-1]["peak_memory_gib"]:.2f} GiB')
  console.print(table)


def _by_head(row: dict) -> dict[str, dict]:
  """The scores in a row of `metrics.jsonl` by head; the first head, whose fields do not name it, is ''."""
  heads = {'': {}}
  for field, value in row.items():
    if field.startswith('eval/'):
      name = field.removeprefix('eval/')
      head, _, rest = name.partition('/')
      if head in ('iou', *metrics.METRICS):
        head, rest = '', name
      heads.setdefault(head, {})[rest] = value
  return heads


def show_scores(values: dict) -> None:
  """Shows the scores of one head on a split, as in `eval/SPLIT.json`."""
  table = Table('metric', 'value')
  for name in metrics.METRICS:
    table.add_row(_title(name), percent(values[name]))
  for name, value in values['iou'].items():
    table.add_row(_title(f'iou/{name}'), percent(value))
  table.add_section()
  for width, value in values['boundary_iou'].items():
    table.add_row(f'mean IoU within {width} px of a boundary', percent(value))
  console.print(table)


def show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
  """Shows a table."""
  table = Table(*columns, title=title)
  for row in rows:
    table.add_row(*row)
  console.print(table)


def percent(value: float | None) -> str:
  """A fraction as a percentage; None, for a class in neither labels nor predictions, is 'absent'."""
  return 'absent' if value is None else f'{100 * value:.2f} %'


def _title(name: str) -> str:
  return name.replace('iou/', 'IoU ').replace('_', ' ').replace('iou', 'IoU')
