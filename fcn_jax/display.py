"""What a run says on the terminal: first lines, progress, last table."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
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


def results(scores: dict, rate: float, seconds: float, memory: float) -> None:
  """The last table: a row of `metrics.jsonl` with an evaluation, images/s, seconds, GiB."""
  table = Table('metric', 'value')
  for key, value in scores.items():
    if key.startswith('eval/'):
      name = key.removeprefix('eval/').replace('iou/', 'IoU ').replace('_', ' ').replace('iou', 'IoU')
      table.add_row(name, 'absent' if value is None else f'{100 * value:.2f} %')
  table.add_section()
  table.add_row('time', f'{seconds:.0f} s')
  table.add_row('training', f'{rate:.1f} images/s')
  table.add_row('peak memory', f'{memory:.2f} GiB')
  _console.print(table)
