"""What a run says on the terminal: first lines, progress, last table."""

import time

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from fcn_jax import metrics
from fcn_jax.data import canvases, dataset
from fcn_jax.models import fcn
from fcn_jax.run import directory

_console = Console(highlight=False, soft_wrap=True)
_EVERY = 10.0  # seconds between the lines of a run that has no terminal


def mute() -> None:
  """From now on nothing is said: another host of the run says it."""
  _console.quiet = True


def say(text: str) -> None:
  _console.print(text, markup=False)


def first_lines(config, data, model, params, workdir) -> None:
  """The first lines: what runs, on what, and where the results go."""
  count = sum(x.size for x in jax.tree.leaves(params))
  height, width = config.data.train_size
  kinds = sorted({d.device_kind for d in jax.devices()})
  train, watched = data.splits['train'], data.splits[data.watched]
  shares = dataset.class_shares(train, len(data.classes))
  plan = canvases.eval_plan(watched.sizes(), batch_size=config.eval.batch_size, canvases=config.eval.canvases)
  shapes = sorted({canvas for canvas, _ in plan})
  say(
    f'net      FCN-{model.stride}s, skips {"+".join(model.skips) or "none"}, upsampling {model.upsample}: '
    f'{count:,} parameters, {fcn.flops(model, height, width) / 1e9:.2f} GFLOP a {height}x{width} picture'
  )
  say(
    f'data     {data.fingerprint}: {len(train)} train, {len(watched)} {data.watched}; '
    + ', '.join(f'{name} {100 * x:.1f} %' for name, x in zip(data.classes, shares, strict=True))
  )
  say(
    f'devices  {jax.device_count()} x {", ".join(kinds)}; batch {config.train.batch_size}, '
    f'{config.train.steps} steps, {config.train.steps * config.train.batch_size / len(train):.1f} epochs'
  )
  say(
    f'compiles {1 + len(shapes)} shapes: training at {height}x{width}, evaluation at '
    + ', '.join(f'{h}x{w}' for h, w in shapes)
  )
  if config.loss.reduction == 'sum':
    pixels = config.train.batch_size * height * width
    say(
      f'rate     {config.optim.lr:g} on the summed loss of {config.train.batch_size} x {height}x{width} is '
      f'{config.optim.lr * pixels:.2g} on its mean; with momentum {config.optim.momentum} a step weighs '
      f'{1 / (1 - config.optim.momentum):.3g} times as much in the end'
    )
  say(f'results  {workdir}')


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


def results(workdir, status) -> None:
  """The last table of a run, from its files: the last evaluation, time, images/s, memory."""
  if _console.quiet:  # on a host that does not write them, they may not be there yet
    return
  scored = directory.Rows(workdir / 'metrics.jsonl', status.step).with_field('eval/mean_iou')[-1]
  timing = directory.Rows(workdir / 'timing.jsonl', status.step).with_field('images_per_second')
  table = Table('metric', 'value')
  for key, value in scored.items():
    if key.startswith('eval/'):
      table.add_row(_title(key.removeprefix('eval/')), percent(value))
  table.add_section()
  table.add_row('time', f'{status.wall_seconds:.0f} s')
  table.add_row('training', f'{np.median([row["images_per_second"] for row in timing]):.1f} images/s')
  table.add_row('peak memory', f'{timing[-1]["peak_memory_gib"]:.2f} GiB')
  _console.print(table)


def scores(values: dict) -> None:
  """The table of an evaluation, as `evaluate` writes it."""
  table = Table('metric', 'value')
  for name in metrics.METRICS:
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
