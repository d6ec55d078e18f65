"""What a run says on the terminal: first lines, progress, last table."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

_console = Console(highlight=False, soft_wrap=True)
_EVERY = 10.0  # seconds between the lines of a run that has no terminal


def say(text: str) -> None:
  _console.print(text, markup=False)


class Bar:
  """Step, loss, images/s and the time left: a bar on a terminal, elsewhere a plain line now and then."""

  def __init__(self, start: int, steps: int, batch_size: int):
    self._steps, self._batch_size, self._spoken, self._bar = steps, batch_size, time.time(), None
    if _console.is_terminal:
      self._bar = Progress(
        TextColumn('step {task.completed}/{task.total}'),
        BarColumn(),
        TextColumn('{task.fields[text]}'),
        console=_console,
      )
      self._bar.start()
      self._task = self._bar.add_task('', total=steps, completed=start, text='')

  def update(self, step: int, loss: float, rate: float) -> None:
    """`rate` is images a second, 0 while it is not known."""
    text = f'loss {loss:.4f}'
    if rate:
      left = (self._steps - step) * self._batch_size / rate
      text += f'  {rate:.1f} images/s  {left:.0f} s left'
    if self._bar:
      self._bar.update(self._task, completed=step, text=text)
    elif time.time() - self._spoken > _EVERY or step == self._steps:
      self._spoken = time.time()
      say(f'step {step}/{self._steps}  {text}')

  def close(self) -> None:
    if self._bar:
      self._bar.stop()


class Counter:
  """How many pictures are done: a bar on a terminal, nothing elsewhere."""

  def __init__(self, total: int):
    self._bar = Progress(BarColumn(), MofNCompleteColumn(), TextColumn('pictures'), console=_console)
    self._bar.disable = not _console.is_terminal
    self._task = self._bar.add_task('', total=total)

  def __enter__(self) -> 'Counter':
    self._bar.start()
    return self

  def __exit__(self, *_) -> None:
    self._bar.stop()

  def advance(self) -> None:
    self._bar.advance(self._task)


def results(scores: dict, rate: float, seconds: float, memory: float) -> None:
  """The last table of a run: a row of `metrics.jsonl` with an evaluation, images/s, seconds, GiB."""
  table = Table('metric', 'value')
  for key, value in scores.items():
    if key.startswith('eval/'):
      table.add_row(_title(key.removeprefix('eval/')), percent(value))
  table.add_section()
  table.add_row('time', f'{seconds:.0f} s')
  table.add_row('training', f'{rate:.1f} images/s')
  table.add_row('peak memory', f'{memory:.2f} GiB')
  _console.print(table)


def scores(values: dict) -> None:
  """The table of an evaluation, as `evaluate` writes it."""
  table = Table('metric', 'value')
  for name in ('pixel_accuracy', 'mean_accuracy', 'mean_iou', 'fw_iou'):
    table.add_row(_title(name), percent(values[name]))
  for name, value in values['iou'].items():
    table.add_row(_title(f'iou/{name}'), percent(value))
  table.add_section()
  for width, value in values['boundary_iou'].items():
    table.add_row(f'mean IoU within {width} px of a boundary', percent(value))
  _console.print(table)


def grid(title: str, columns: list[str], rows: list[list[str]]) -> None:
  table = Table(*columns, title=title)
  for row in rows:
    table.add_row(*row)
  _console.print(table)


def percent(value: float | None) -> str:
  return 'absent' if value is None else f'{100 * value:.2f} %'


def _title(name: str) -> str:
  return name.replace('iou/', 'IoU ').replace('_', ' ').replace('iou', 'IoU')
