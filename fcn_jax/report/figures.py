"""The plots of a report: learning curves, confidence intervals, confusion matrices, upsampling kernels."""

import io
import itertools
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fcn_jax.models import grid
from fcn_jax.report import comparison, differences, markup, tables
from fcn_jax.report.comparison import Cells
from fcn_jax.report.differences import Difference
from fcn_jax.report.results import Result

_STYLE = {
  'font.size': 9,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'text.parse_math': False,  # names may contain $
  'svg.hashsalt': 'fcn_jax',  # makes the file reproducible
}
_LINES = 8  # at most in one plot of learning curves
_COLUMNS = 3  # of plots
_KERNELS = 12  # at most, so that the plot stays readable


def encoded(figure: Figure, form: str) -> bytes:
  """The figure as a file of the format `form`: 'png' or 'svg'."""
  buffer = io.BytesIO()
  with matplotlib.rc_context(_STYLE):
    figure.savefig(buffer, format=form, dpi=150, bbox_inches='tight', metadata={'Date': None} if form == 'svg' else {})
  return buffer.getvalue()


@matplotlib.rc_context(_STYLE)
def curves(cells: Cells, fields: list[str]) -> Figure:
  """Mean IoU and training loss by step: thick lines are means over runs, thin ones single runs.

  Plots have at most `_LINES` networks: with more, there is one plot per value of the first settings.
  """
  done = {key: comparison.scored(members) for key, members in cells.items() if comparison.scored(members)}
  split = next(n for n in range(len(fields) + 1) if n == len(fields) or _largest(done, n) <= _LINES)
  panels = {prefix: list(keys) for prefix, keys in itertools.groupby(sorted(done, key=_order(done, split)), _to(split))}
  columns = min(len(panels), _COLUMNS) if len(panels) > 1 else 1
  rows = -(-len(panels) // columns)
  shape = (1, 2) if len(panels) == 1 else (2 * rows, columns)
  figure = Figure(figsize=(10, 3.6 if len(panels) == 1 else 2.6 * shape[0]), layout='constrained')
  axes = figure.subplots(*shape, sharex=True, squeeze=False)
  named = {key: comparison.label(fields[split:], key[split:], members) for key, members in done.items()}
  labels = list(dict.fromkeys(named.values()))
  above, below = (axes[:, :1], axes[:, 1:]) if len(panels) == 1 else (axes[:rows], axes[rows:])
  for group, metric, scale, name in (
    (above, 'eval/mean_iou', 100, 'mean IoU, percent'),
    (below, 'train/loss', 1, 'training loss'),
  ):
    for axis, keys in itertools.zip_longest(group.flat, panels.values()):
      if keys is None:
        axis.set_axis_off()
        continue
      axis.sharey(group.flat[0]) if axis is not group.flat[0] else None
      for key in keys:
        _curve(axis, done[key], metric, scale, named[key], labels.index(named[key]))
      title = differences.label(keys[0], fields[:split], cells, fields)
      axis.set(xlabel='step', ylabel=name, title=title)
      if metric == 'eval/mean_iou':
        _bounds(axis, [run for key in keys for run in done[key]])
  found = {text: line for axis in axes.flat for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
  figure.legend(found.values(), found.keys(), loc='outside lower center', ncols=3)
  return figure


def _largest(done: Cells, split: int) -> int:
  """The most networks with the same first `split` values."""
  return max(len(list(group)) for _, group in itertools.groupby(sorted(done, key=_order(done, split)), _to(split)))


def _order(done: Cells, split: int):
  """A sort key that keeps networks with the same first `split` values together, in the order of their first."""
  first = list(dict.fromkeys(key[:split] for key in done))
  return lambda key: first.index(key[:split])


def _to(split: int):
  return lambda key: key[:split]


def _curve(axis: Axes, members: list[Result], metric: str, scale: float, label: str, number: int) -> None:
  """The mean over runs, at the steps that all of them have, and one thin line per run."""
  style = {'color': matplotlib.colormaps['tab10'](number % 10), 'linestyle': ('-', '--', ':')[number // 10 % 3]}
  by_run = [run.curves[metric] for run in members if run.curves.get(metric)]
  steps = sorted(set.intersection(*map(set, by_run))) if by_run else []
  values = scale * np.array([[curve[step] for step in steps] for curve in by_run or [{}]])
  axis.plot(steps, values.mean(0), label=label, marker='.' if len(steps) < 20 else '', **style)
  for curve in by_run if len(by_run) > 1 else ():
    axis.plot(list(curve), [scale * x for x in curve.values()], linewidth=0.5, alpha=0.5, **style)


def _bounds(axis: Axes, runs: list[Result]) -> None:
  """A gray line at the upper bound of each stride, with the stride at its end."""
  bounds = {run.stride_px: 100 * run.upper_bound['mean_iou'] for run in runs if run.upper_bound.get('mean_iou')}
  for stride, bound in bounds.items():
    axis.axhline(bound, color='0.5', linestyle='--', linewidth=0.8)
    where = axis.get_yaxis_transform()
    axis.text(0.99, bound, f'upper bound, {stride} px', transform=where, ha='right', va='bottom', color='0.4', size=7)


@matplotlib.rc_context(_STYLE)
def intervals(found: list[Difference]) -> Figure:
  """Differences with their confidence intervals; those that are not clear are gray."""
  figure = Figure(figsize=(7, 0.8 + 0.24 * len(found)))
  axis = figure.subplots()
  for number, d in enumerate(found):
    color = 'C0' if d.clear else '0.6'
    axis.plot([d.low, d.high], [number, number], color=color, linewidth=2)
    axis.plot(d.value, number, 'o', color=color, markersize=4)
  axis.axvline(0, color='black', linewidth=0.8)
  axis.set(xlabel='difference in mean IoU, percentage points', ylim=(len(found) - 0.5, -0.5))
  axis.set_yticks(range(len(found)), [_pair(d) for d in found])
  return figure


def _pair(d: Difference) -> str:
  return '  →  '.join(d.brief) + (f'  ({d.context})' if d.context else '')


@matplotlib.rc_context(_STYLE)
def confusions(networks: tables.Networks) -> Figure:
  """Confusion matrices whose rows sum to one, of the best and the worst network."""
  scores = {text: np.mean([s['mean_iou'] for s in tables.pooled(members)]) for text, members in networks.items()}
  shown = dict.fromkeys((max(scores, key=scores.get), min(scores, key=scores.get)))
  names = [markup.printable(name) for name in comparison.names_of_classes(next(iter(networks.values()))[0])]
  side = min(max(2.2 + 0.28 * len(names), 3.2), 9)
  titles = [textwrap.fill(text, round(8 * side)) for text in shown]
  lines = max(title.count('\n') for title in titles)
  figure = Figure(figsize=(side * len(shown) + 0.6, side + 0.2 * lines), layout='constrained')
  axes = figure.subplots(1, len(shown), squeeze=False)[0]
  for axis, text, title in zip(axes, shown, titles, strict=True):
    matrix = sum(run.confusion.sum(0) for run in networks[text])
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axis.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    _ticks(axis, names)
    axis.set(xlabel='predicted', ylabel='label', title=title)
    for i, j in np.ndindex(*shares.shape) if len(names) <= 12 else ():
      color = 'white' if shares[i, j] > 0.55 else 'black'
      axis.text(j, i, f'{shares[i, j]:.2f}'.removeprefix('0'), ha='center', va='center', color=color, size=6)
  figure.colorbar(image, ax=list(axes), fraction=0.03, label='fraction of the pixels of the label')
  return figure


def _ticks(axis: Axes, names: Sequence[str]) -> None:
  """All class names, or only numbers if there are too many."""
  if len(names) <= 40:
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)


@matplotlib.rc_context(_STYLE)
def kernels(networks: tables.Networks) -> Figure | None:
  """Bilinear and trained kernels of the first run, averaged over classes, at most `_KERNELS`; None without."""
  rows = [
    (network, layer, kernel.mean(-1))
    for network, members in networks.items()
    for layer, kernel in next((run.kernels for run in members if run.kernels), {}).items()
  ]
  if not rows:
    return None
  rows = rows[:_KERNELS]
  figure = Figure(figsize=(6, 1.6 * len(rows)))
  axes = figure.subplots(len(rows), 3, squeeze=False)
  for line, (network, layer, kernel) in zip(axes, rows, strict=True):
    bilinear = grid.bilinear_kernel((len(kernel) + 1) // 2, len(kernel))
    largest = max(np.abs(kernel).max(), 1)
    for axis, shown in zip(line, (bilinear, kernel, kernel - bilinear), strict=True):
      image = axis.imshow(shown, cmap='RdBu_r', vmin=-largest, vmax=largest)
      axis.set(xticks=[], yticks=[])
    line[0].set_ylabel(f'{network}\n{markup.printable(layer)}', rotation=0, ha='right', va='center')
    figure.colorbar(image, ax=list(line), fraction=0.02)
  for axis, title in zip(axes[0], ('bilinear', 'trained', 'difference'), strict=True):
    axis.set_title(title)
  return figure
