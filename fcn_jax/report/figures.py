"""The plots of a report: learning curves, confidence intervals, upsampling kernels."""

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fcn_jax.models import grid
from fcn_jax.report import markup, tables
from fcn_jax.report.differences import Difference

_STYLE = {
  'font.size': 9,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'text.parse_math': False,  # names may contain $
  'svg.hashsalt': 'fcn_jax',  # makes the file reproducible
}


def encoded(figure: Figure, form: str) -> bytes:
  """The figure as a file of the format `form`: 'png' or 'svg'."""
  buffer = io.BytesIO()
  with matplotlib.rc_context(_STYLE):
    figure.savefig(buffer, format=form, dpi=150, bbox_inches='tight', metadata={'Date': None} if form == 'svg' else {})
  return buffer.getvalue()


@matplotlib.rc_context(_STYLE)
def curves(networks: tables.Networks) -> Figure:
  """Mean IoU and training loss by step: lines are means over runs, shading runs from the lowest to the highest."""
  figure = Figure(figsize=(10, 3.6))
  axes = figure.subplots(1, 2)
  for number, (network, members) in enumerate(networks.items()):
    style = {'color': matplotlib.colormaps['tab10'](number % 10), 'linestyle': ('-', '--', ':', '-.')[number // 10 % 4]}
    for axis, metric, scale in ((axes[0], 'eval/mean_iou', 100), (axes[1], 'train/loss', 1)):
      by_run = [run.curves[metric] for run in members if run.curves.get(metric)]
      steps = sorted(set.intersection(*map(set, by_run))) if by_run else []
      values = scale * np.array([[curve[step] for step in steps] for curve in by_run or [{}]])
      axis.plot(steps, values.mean(0), label=network, marker='.' if len(steps) < 20 else '', **style)
      axis.fill_between(steps, values.min(0), values.max(0), color=style['color'], alpha=0.15, linewidth=0)
  axes[0].set(xlabel='step', ylabel='mean IoU, percent')
  axes[1].set(xlabel='step', ylabel='training loss')
  figure.legend(*axes[0].get_legend_handles_labels(), loc='upper center', bbox_to_anchor=(0.5, 0), ncols=3)
  return figure


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
  axis.set_yticks(range(len(found)), [f'{d.first}  →  {d.second}' for d in found])
  return figure


@matplotlib.rc_context(_STYLE)
def kernels(networks: tables.Networks) -> Figure | None:
  """Bilinear and trained kernels of the first run, averaged over classes; None if no network trains upsampling."""
  rows = [
    (network, layer, kernel.mean(-1))
    for network, members in networks.items()
    for layer, kernel in next((run.kernels for run in members if run.kernels), {}).items()
  ]
  if not rows:
    return None
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
