"""The tables of a report, and their formats: Markdown and LaTeX."""

import collections
import dataclasses
import itertools

import numpy as np
import pandas as pd

from fcn_jax.errors import UserError
from fcn_jax.metrics import METRICS
from fcn_jax.report import bootstrap, published
from fcn_jax.report.results import Cells, Result, done

TITLES = {metric: metric.replace('_', ' ').replace('iou', 'IoU') for metric in METRICS}
_SPREAD = 'Percent: mean ± standard deviation over seeds (number of seeds).'
_LATEX = str.maketrans({'_': '\\_', '%': '\\%', '&': '\\&', '#': '\\#', '±': '$\\pm$'})

# The runs of each network that are done, by its label.
Networks = dict[str, list[Result]]


@dataclasses.dataclass(frozen=True)
class Table:
  """A table as text.

  Attributes:
    title: the heading.
    note: how to read the table, or ''.
    head: the column headings.
    lines: the rows; each has as many cells as the head.
    best: (row, column) of the cell to highlight, or None.
  """

  title: str
  note: str
  head: list[str]
  lines: list[list[str]]
  best: tuple[int, int] | None = None

  def markdown(self) -> str:
    lines = [[cell.replace('|', '\\|') for cell in line] for line in self._highlighted('**{}**')]
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in [self.head, ['---'] * len(self.head), *lines])

  def latex(self) -> str:
    """A tabular, for use in a table environment."""
    rows = [self.head, *self._highlighted('\\textbf{{{}}}')]
    head, *lines = [' & '.join(cell.translate(_LATEX) for cell in row) + ' \\\\' for row in rows]
    begin = f'\\begin{{tabular}}{{{"l" * len(self.head)}}}'
    return '\n'.join([begin, '\\hline', head, '\\hline', *lines, '\\hline', '\\end{tabular}', ''])

  def _highlighted(self, mark: str) -> list[list[str]]:
    lines = [list(line) for line in self.lines]
    if self.best:
      row, column = self.best
      lines[row][column] = mark.format(lines[row][column])
    return lines


def short(field: str) -> str:
  """The last part of a setting's dotted name."""
  return field.rpartition('.')[2]


def texts(fields: list[str], values: tuple, runs: list[Result]) -> list[str]:
  """The values of settings as tables show them: '8 (16 px)' for a stride where `model.shrink` is not 1.

  Args:
    fields: the settings.
    values: their values.
    runs: the runs with these values; they give the strides in pixels.
  """
  out = ['none' if value == '' else str(value) for value in values]
  pixels = sorted({run.stride_px for run in runs})
  for index, field in enumerate(fields):
    if field == 'model.stride' and pixels != [values[index]]:
      out[index] += f' ({" or ".join(map(str, pixels))} px)'
  return out


def label(fields: list[str], values: tuple, runs: list[Result]) -> str:
  """'stride 8, upsample bilinear_fixed', or 'all runs' if nothing varies; the arguments are those of `texts`."""
  parts = [f'{short(field)} {text}' for field, text in zip(fields, texts(fields, values, runs), strict=True)]
  return ', '.join(parts) or 'all runs'


def labeled(cells: Cells, fields: list[str]) -> Networks:
  """The runs that are done, by the label of their network."""
  return {label(fields, key, members): members for key, members in done(cells).items()}


def statistics(members: list[Result], metric: str) -> tuple[float, float, int] | None:
  """Mean, sample standard deviation (nan for one run) and number of the runs that are done, in percent."""
  values = pd.Series([100 * run.scores[metric] for run in members if run.done and run.scores[metric] is not None])
  return (values.mean(), values.std(ddof=1), len(values)) if len(values) else None


def cell(members: list[Result], metric: str) -> str:
  """'73.2 ± 0.4 (3)', followed by the number of unfinished runs in each state: '; 1 failed'."""
  found, text = statistics(members, metric), []
  if found:
    mean, deviation, count = found
    text.append(f'{mean:.2f} ± {deviation:.2f} ({count})' if count > 1 else f'{mean:.2f} (1)')
  counts = collections.Counter(run.state for run in members if not run.done)
  return '; '.join([*text, *(f'{count} {state}' for state, count in counts.items())])


def main(cells: Cells, rows: list[str], cols: list[str], metric: str) -> Table:
  """One metric, by the settings of the rows and of the columns."""
  split = len(rows)
  by_row, by_column = collections.defaultdict(list), collections.defaultdict(list)
  for key, members in cells.items():
    by_row[key[:split]] += members
    by_column[key[split:]] += members
  lines, means = [], {}
  for row, row_runs in by_row.items():
    for number, column in enumerate(by_column):
      if found := statistics(cells.get(row + column, []), metric):
        means[len(lines), split + number] = found[0]
    lines.append([*texts(rows, row, row_runs), *(cell(cells.get(row + column, []), metric) for column in by_column)])
  columns = [label(cols, values, runs) if cols else TITLES[metric] for values, runs in by_column.items()]
  best = max(means, key=means.get) if len(means) > 1 else None
  note = _SPREAD
  if not all(run.done for members in cells.values() for run in members):
    note += ' Unfinished runs are marked and excluded.'
  title = TITLES[metric][0].upper() + TITLES[metric][1:]
  return Table(title, note, [*map(short, rows), *columns], lines, best)


def scores(networks: Networks) -> Table:
  """All metrics of each network, and the upper bounds of their strides."""
  lines, bounds = [], {}
  for network, members in networks.items():
    lines.append([network, *(cell(members, metric) for metric in METRICS)])
    bounds |= {run.stride_px: run.network['upper_bound'][run.split] for run in members}
  for stride in sorted(bounds, reverse=True):
    lines.append([f'upper bound, stride {stride} px', *(f'{100 * bounds[stride][m]:.2f}' for m in METRICS)])
  note = (
    'Upper bounds: the labels are downsampled to the stride, upsampled again by bilinear interpolation, and scored.'
  )
  return Table('All metrics', f'{_SPREAD} {note}', ['network', *TITLES.values()], lines)


def bands(networks: Networks) -> Table:
  """Mean IoU near class boundaries."""
  widths = dict.fromkeys(width for members in networks.values() for run in members for width in run.bands)
  lines = []
  for network, members in networks.items():
    means = [_mean([run.bands[width] for run in members]) for width in widths]
    lines.append([network, *means, _mean([run.scores['mean_iou'] for run in members])])
  note = 'Mean IoU of pixels within N pixels of a boundary between two classes. Percent, mean over seeds.'
  head = ['network', *(f'{width} px' for width in widths), 'everywhere']
  return Table('Mean IoU near class boundaries', note, head, lines)


def classes(networks: Networks) -> Table:
  """IoU per class; `networks` is not empty."""
  names = [name for name in next(iter(networks.values()))[0].scores if name.startswith('iou/')]
  lines = [
    [network, *(_mean([run.scores[name] for run in members]) for name in names)]
    for network, members in networks.items()
  ]
  note = 'Percent, mean over seeds. Empty if a class appears in neither labels nor predictions.'
  return Table('IoU per class', note, ['network', *(name.removeprefix('iou/') for name in names)], lines)


def kernels(networks: Networks) -> Table:
  """How far trained upsampling kernels are from bilinear interpolation."""
  lines = []
  for network, members in networks.items():
    for layer, kernel in members[0].kernels.items():
      values = pd.Series([x for run in members for x in run.network['kernel_distance'][layer]])
      spread = values.mean(), values.min(), values.max()
      factor = (len(kernel) + 1) // 2
      lines.append([network, f'{factor}x, {layer}', *(f'{x:.3f}' for x in spread)])
  note = (
    'Relative distance ||K - B|| / ||B|| (Frobenius norm) of a trained kernel K from the bilinear kernel B. '
    '0 = bilinear; 1 = as far as an all-zero kernel. Mean, minimum and maximum are over classes and seeds. The plot '
    'shows the first seed, averaged over classes.'
  )
  head = ['network', 'layer', 'mean', 'minimum', 'maximum']
  return Table('Upsampling kernels: distance from bilinear', note, head, lines)


def costs(networks: Networks) -> Table:
  """Size, speed and memory of each network."""
  lines, sizes = [], set()
  for network, members in networks.items():
    means = pd.DataFrame([run.costs for run in members]).mean()
    sizes |= {'{}x{}'.format(*run.network['size']) for run in members}
    size = f'{means.parameters / 1e6:.2f}', f'{means.gflop:.2f}'
    training = f'{means.images_per_second:.1f}', f'{means.peak_memory_gib:.2f}', f'{means.minutes:.1f}'
    lines.append([network, *size, *training])
  note = (
    f'GFLOP: one forward pass of one image ({", ".join(sorted(sizes))} pixels). Speed, memory and time: training, mean '
    'over seeds.'
  )
  head = ['network', 'M parameters', 'GFLOP', 'images/s', 'peak memory, GiB', 'minutes']
  return Table('Cost', note, head, lines)


@dataclasses.dataclass(frozen=True)
class Difference:
  """Mean IoU of the second network minus that of the first, in percentage points, with its 95 % interval."""

  first: str
  second: str
  value: float
  low: float
  high: float


def differences(cells: Cells, fields: list[str]) -> list[Difference]:
  """Differences of all pairs of networks that differ in one setting; if there are none, of the first and every other.

  Raises:
    UserError: two runs were scored on different images.
  """
  scored = done(cells)
  pairs = [
    (a, b)
    for field in range(len(fields))
    for a, b in itertools.combinations(scored, 2)
    if [i for i in range(len(fields)) if a[i] != b[i]] == [field]
  ]
  pairs = pairs or [(next(iter(scored)), other) for other in list(scored)[1:]]
  runs = [run for members in scored.values() for run in members]
  for run in runs:
    if run.ids != runs[0].ids:
      raise UserError(
        f'{run.name} and {runs[0].name} were scored on different images and cannot be compared; '
        'report on them separately'
      )
  drawn = {key: bootstrap.resample(np.stack([run.confusion for run in members])) for key, members in scored.items()}
  out = []
  for a, b in pairs:
    paired = [run.seed for run in scored[a]] == [run.seed for run in scored[b]]
    found = bootstrap.difference(drawn[b], drawn[a], paired_seeds=paired)
    values = (100 * found[name] for name in ('difference', 'low', 'high'))
    out.append(Difference(label(fields, a, scored[a]), label(fields, b, scored[b]), *values))
  return out


def difference_table(found: list[Difference], images: int) -> Table:
  """The differences as a table; `images` is the number of scored images."""
  lines = [[d.first, d.second, f'{d.value:+.2f}', f'{d.low:+.2f} to {d.high:+.2f}'] for d in found]
  note = (
    'Mean IoU of the second network minus that of the first, in percentage points. The 95 % confidence intervals come '
    f'from a paired bootstrap over {images} images and the seeds ({bootstrap.RESAMPLES:,} resamples). About 1 in 20 '
    'intervals misses the true difference; with few seeds, the intervals are too narrow. Gray intervals in the plot '
    'include 0 (no clear difference).'
  )
  return Table('Differences in mean IoU', note, ['first', 'second', 'difference', '95 % interval'], lines)


def published_table(data_name: str) -> Table:
  """Published results on the data set."""
  note, rows = published.TABLES.get(data_name, ('', []))
  head = ['network', 'source', *TITLES.values()]
  lines = [[*map(str, row), *[''] * (len(head) - len(row))] for row in rows]
  return Table('Published results', note, head, lines)


def _mean(values: list[float | None]) -> str:
  """The mean in percent; '' if a class is absent, which makes its value None in all runs."""
  present = [100 * x for x in values if x is not None]
  return f'{sum(present) / len(present):.2f}' if present else ''
