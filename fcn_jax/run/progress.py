"""What a command shows on the terminal: progress bars and tables."""

import contextlib
import logging
import shlex
import sys
import threading
import time
from collections.abc import Sequence

import ml_collections
import numpy as np
from etils import epath
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from fcn_jax import files, metrics
from fcn_jax.config import length
from fcn_jax.errors import UserError
from fcn_jax.run import saved
from fcn_jax.run.directory import RunDirectory, Status

logger = logging.getLogger(__name__)

# Nothing is markup: names, errors and settings of users may contain [/x] and :cat:. A pipe gets lines instead of bars,
# even if FORCE_COLOR is set.
console = Console(
  highlight=False, soft_wrap=True, markup=False, emoji=False, force_interactive=None if sys.stdout.isatty() else False
)
_EVERY = 10.0  # seconds between lines if there is no terminal
_AFTER = 3.0  # seconds until images are counted on a terminal
_BAR_WIDTH = 12  # leaves room for the text on a terminal of 80 columns


class _Line:
  """One line that changes: a progress bar on a terminal, elsewhere a line every ten seconds."""

  def __init__(self, unit: str, start: int, total: int, *, quiet: bool = False):
    """The line is 'UNIT start/total'; if `quiet`, nothing is shown."""
    self._unit, self._total, self._quiet = unit, total, quiet
    self._shown, self._bar = time.time(), None
    if console.is_interactive and not quiet:
      columns = TextColumn(f'{unit} {{task.completed}}/{{task.total}}'), BarColumn(_BAR_WIDTH)
      self._bar = Progress(*columns, TextColumn('{task.fields[text]}'), console=console)
      self._bar.start()
      self._task = self._bar.add_task('', total=total, completed=start, text='')

  def show(self, done: int, text: str, *, now: bool = False) -> None:
    """Shows the line; without a terminal, only if the last line is older than ten seconds, or `now`."""
    if self._bar:
      self._bar.update(self._task, completed=done, text=text)
    elif not self._quiet and (now or time.time() - self._shown > _EVERY):
      self._shown = time.time()
      console.print(f'{self._unit} {done}/{self._total}  {text}'.rstrip())

  def close(self, text: str = '') -> None:
    """Stops updating the bar, which stays on the terminal with this text."""
    if self._bar:
      self._bar.update(self._task, text=text)
      self._bar.stop()


class Bar:
  """The step, the loss, what a run is doing, and the time until its end, including evaluations."""

  def __init__(self, start: int, config: ml_collections.ConfigDict, images: int, *, quiet: bool = False):
    """For a run with this config that was restored at step `start`.

    Args:
      start: the step.
      config: of the run.
      images: the number of images per evaluation.
      quiet: show nothing: another host of the run shows it.
    """
    self._steps, self._batch_size = config.train.steps, config.train.batch_size
    self._eval_every, self._images = config.eval.every, images
    self._step, self._loss, self._rate = start, '', 0.0
    self._began, self._evaluated, self._spent = None, 0, 0.0  # of the evaluation that follows `step`
    self._seconds = 0.0  # of an evaluation; 0 if none has ended
    self._line = _Line('step', start, self._steps, quiet=quiet)
    self._line.show(start, 'compiling', now=True)

  def update(self, step: int, loss: float, rate: float) -> None:
    """Shows a step; `rate` is in images per second, 0 if it is not measured yet."""
    self._seconds = self._spent or self._seconds
    self._step, self._loss, self._rate = step, f'loss {loss:.4f}', rate
    is_due = length.is_due(step, self._eval_every, self._steps)
    self._began, self._evaluated, self._spent = time.time() if is_due else None, 0, 0.0
    self._show(f'evaluating 0/{self._images}' if is_due else f'{rate:.1f} images/s' if rate else '')

  def evaluated(self) -> None:
    """Counts an image of the evaluation that follows the step."""
    self._began = self._began or time.time()
    self._evaluated, self._spent = self._evaluated + 1, time.time() - self._began
    is_last = self._step == self._steps and self._evaluated >= self._images
    self._show('saving' if is_last else f'evaluating {self._evaluated}/{self._images}')

  def saving(self) -> None:
    """Shows that the run saves before it ends."""
    self._show('saving')

  def close(self) -> None:
    """Stops updating the bar, which stays on the terminal."""
    self._line.close(self._loss)

  def _show(self, activity: str) -> None:
    texts = self._loss, activity, '' if activity == 'saving' else self._left()
    is_last = self._step == self._steps and not self._evaluated
    self._line.show(self._step, '  '.join(filter(None, texts)), now=is_last)

  def _left(self) -> str:
    """The time until the run ends; 'over' it if no evaluation has been timed yet."""
    if self._step < self._steps and not self._rate:
      return ''
    seconds = (self._steps - self._step) * self._batch_size / self._rate if self._rate else 0
    if not self._seconds:
      return f'over {duration(seconds)} left' if seconds >= 1 else ''
    every = self._eval_every or self._steps
    evaluations = -(-self._steps // every) - self._step // every if self._step < self._steps else 0.0
    if self._began:
      evaluations += 1 - self._evaluated / self._images
    return f'{duration(max(1, seconds + evaluations * self._seconds))} left'


class Counter:
  """How many images are done, and the time until all are: a bar on a terminal, elsewhere a line every ten seconds.

  The bar appears after three seconds, even if no image is done by then; a command that ends sooner has none.
  """

  def __init__(self, total: int):
    self._total, self._done, self._line = total, 0, None

  def __enter__(self) -> 'Counter':
    self._began, self._timer = time.time(), threading.Timer(_AFTER, self._begin)
    if console.is_interactive:
      self._timer.daemon = True
      self._timer.start()
    else:
      self._begin()
    return self

  def _begin(self) -> None:
    self._line = _Line('image', self._done, self._total)

  def __exit__(self, *_) -> None:
    self._timer.cancel()
    if self._timer.ident:  # it was started
      self._timer.join()
    if self._line:
      self._line.show(self._done, '')
      self._line.close()

  def advance(self) -> None:
    """Counts one more image."""
    self._done += 1
    seconds = (time.time() - self._began) * (self._total - self._done) / self._done
    if self._line:
      self._line.show(self._done, f'{duration(seconds)} left' if seconds >= 1 else '')


def duration(seconds: float) -> str:
  """A time for people: '59 s', '5 min', '2.5 h', '3 days'."""
  if seconds < 100:
    return f'{seconds:.0f} s'
  if seconds < 6000:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:.1f} h' if seconds < 48 * 3600 else f'{seconds / 86400:.0f} days'


def show_next(*commands: Sequence[str]) -> None:
  """Shows commands of fcn_jax to go on with, ready to paste; each is its name and its arguments."""
  console.print('next:')
  for command in commands:
    console.print(f'  {shlex.join(["python", "-m", f"fcn_jax.{command[0]}", *command[1:]])}')


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
  """Shows the last evaluation of a run, its time, speed and memory, from its files, and the next commands."""
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
  usage = [('time', duration(status.wall_seconds))]
  if timing:  # absent from a run that was copied without it
    speed, memory = np.median([row['images_per_second'] for row in timing]), timing[-1]['peak_memory_gib']
    usage += [('training', f'{speed:.1f} images/s'), ('peak memory', f'{memory:.2f} GiB')]
  show_table(None, ['metric', 'value'], *sections, usage)
  if files.exists(directory / 'eval' / 'examples.png'):
    console.print(f'examples: {directory / "eval" / "examples.png"}')
  show_next(
    ('evaluate', f'--workdir={directory}'),
    ('predict', f'--workdir={directory}', kept_image(directory.path)),
    ('report', str(directory)),
  )


def kept_image(workdir: epath.Path) -> str:
  """The path of an image to try a run on: one that its evaluations keep, or else photo.jpg.

  It is found without patterns, which the path of a run may look like. Of other images than RGB, they keep a rendering.
  """
  inputs, evaluations = {}, workdir / 'eval'
  with contextlib.suppress(UserError):  # a damaged file: the next command reports it
    inputs = saved.read_data(workdir)[0]
  is_kept = files.exists(evaluations) and list(inputs.values()) == [3]
  folders = [x for x in evaluations.iterdir() if x.is_dir()] if is_kept else []
  kept = [x for folder in folders for x in folder.iterdir() if x.name.endswith('.image.jpg')]
  return str(min(kept, default='photo.jpg'))


def last_evaluation(workdir: epath.Path, step: int) -> dict:
  """The row of the last evaluation up to `step`; `UserError` if there is none, although the run is done."""
  evaluations = saved.read_evaluations(workdir, step)
  if not evaluations:
    raise UserError(f'{workdir / "metrics.jsonl"} has no evaluation, although the run is done; restore it from a copy')
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
  metric, _, of_class = name.partition('/')  # the name of a class stays as it is
  return f'IoU {of_class}' if of_class else metric.replace('_', ' ').replace('iou', 'IoU').replace('f1', 'F1')
