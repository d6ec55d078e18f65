"""The tables of a report: what stands in them, and how they become text."""

import collections
import dataclasses
import itertools

import numpy as np
import pandas as pd

from fcn_jax.errors import UserError
from fcn_jax.metrics import METRICS
from fcn_jax.report import bootstrap, published
from fcn_jax.report.results import Result

TITLES = {
  'pixel_accuracy': 'pixel accuracy',
  'mean_accuracy': 'mean accuracy',
  'mean_iou': 'mean IoU',
  'fw_iou': 'f.w. IoU',
}

# The runs of each network, by its values of the settings that vary; they differ in the seed alone.
Cells = dict[tuple, list[Result]]


@dataclasses.dataclass(frozen=True)
class Table:
  """A table as text.

  Attributes:
    title: what it shows.
    note: how to read it, or ''.
    head: of the columns.
    lines: of cells, as many as the head has.
    best: (line, column) of the cell to stand out, or None.
  """

  title: str
  note: str
  head: list[str]
  lines: list[list[str]]
  best: tuple[int, int] | None = None

  def markdown(self) -> str:
    text = [[self._marked(i, j, '**{}**').replace('|', '\\|') for j in range(len(self.head))] for i in self._numbers()]
    rows = [self.head, ['---'] * len(self.head), *text]
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)

  def latex(self) -> str:
    """A tabular, to be put into a table environment."""
    special = {'_': '\\_', '%': '\\%', '&': '\\&', '#': '\\#', '±': '$\\pm$'}

    def escaped(text: str) -> str:
      return ''.join(special.get(character, character) for character in text)

    lines = [[escaped(self._marked(i, j, '{}')) for j in range(len(self.head))] for i in self._numbers()]
    if self.best:
      i, j = self.best
      lines[i][j] = f'\\textbf{{{lines[i][j]}}}'
    out = [f'\\begin{{tabular}}{{{"l" * len(self.head)}}}', '\\hline', ' & '.join(map(escaped, self.head)) + ' \\\\']
    out += ['\\hline', *(' & '.join(line) + ' \\\\' for line in lines), '\\hline', '\\end{tabular}', '']
    return '\n'.join(out)

  def _numbers(self) -> range:
    return range(len(self.lines))

  def _marked(self, line: int, column: int, mark: str) -> str:
    text = self.lines[line][column]
    return mark.format(text) if (line, column) == self.best else text


def short(field: str) -> str:
  return field.rpartition('.')[2]


def label(fields: list[str], values: tuple) -> str:
  """'stride 8, upsample bilinear_fixed'; where nothing varies, 'all runs'."""
  parts = [f'{short(field)} {"none" if value == "" else value}' for field, value in zip(fields, values, strict=True)]
  return ', '.join(parts) or 'all runs'


def statistics(members: list[Result], metric: str) -> tuple[float, float, int] | None:
  """Mean, standard deviation (of the sample; nan for one) and number of the runs that are done, in per cent."""
  values = pd.Series([100 * run.scores[metric] for run in members if run.done and run.scores[metric] is not None])
  return (values.mean(), values.std(ddof=1), len(values)) if len(values) else None


def cell(members: list[Result], metric: str) -> str:
  """'73.2 ± 0.4 (3)', and what is not done."""
  known, text = statistics(members, metric), []
  if known:
    mean, deviation, count = known
    text.append(f'{mean:.2f} ± {deviation:.2f} ({count})' if count > 1 else f'{mean:.2f} (1)')
  counts = collections.Counter(run.state for run in members if not run.done)
  return '; '.join([*text, *(f'{count} {state}' for state, count in counts.items())])


def main(cells: Cells, rows: list[str], cols: list[str], metric: str) -> Table:
  """The metric by the settings of rows and columns."""
  columns = list(dict.fromkeys(key[len(rows) :] for key in cells))
  lines, scored = [], {}
  for row in dict.fromkeys(key[: len(rows)] for key in cells):
    for column in columns:
      if known := statistics(cells.get(row + column, []), metric):
        scored[len(lines), len(rows) + columns.index(column)] = known[0]
    lines.append([*map(str, row), *(cell(cells.get(row + column, []), metric) for column in columns)])
  head = [*map(short, rows), *(label(cols, values) if cols else TITLES[metric] for values in columns)]
  best = max(scored, key=scored.get) if len(scored) > 1 else None
  note = 'Per cent: mean ± standard deviation (number of seeds).'
  return Table(TITLES[metric][0].upper() + TITLES[metric][1:], note, head, lines, best)


def scores(cells: Cells, fields: list[str]) -> Table:
  """All metrics of each network, and of the labels themselves at the stride of each."""
  lines = [[label(fields, key), *(cell(members, m) for m in METRICS)] for key, members in done(cells).items()]
  bounds = {}
  for run in itertools.chain(*done(cells).values()):
    stride = run.settings['model.stride'] * run.settings['model.shrink']
    bounds[stride] = run.network['upper_bound'][run.split]
  for stride in sorted(bounds, reverse=True):
    lines.append([f'upper bound, stride {stride}', *(f'{100 * bounds[stride][m]:.2f}' for m in METRICS)])
  note = 'Upper bounds: the labels, sent through the grid of the finest scores and back by bilinear interpolation.'
  return Table('All metrics', note, ['network', *TITLES.values()], lines)


def bands(cells: Cells, fields: list[str]) -> Table:
  """Mean IoU near label boundaries."""
  widths = list(dict.fromkeys(w for members in done(cells).values() for run in members for w in run.bands))
  lines = []
  for key, members in done(cells).items():
    means = [_mean([run.bands[width] for run in members]) for width in widths]
    lines.append([label(fields, key), *means, _mean([run.scores['mean_iou'] for run in members])])
  note = 'Mean IoU of the pixels within so many pixels of a boundary between two classes, mean over seeds, per cent.'
  return Table('Near boundaries', note, ['network', *(f'{width} px' for width in widths), 'everywhere'], lines)


def classes(cells: Cells, fields: list[str]) -> Table:
  """IoU of each class."""
  names = next(([n for n in run.scores if n.startswith('iou/')] for run in itertools.chain(*done(cells).values())), [])
  lines = [
    [label(fields, key), *(_mean([run.scores[name] for run in members]) for name in names)]
    for key, members in done(cells).items()
  ]
  note = 'Mean over seeds, per cent; a class that is in no label and no prediction has none.'
  return Table('IoU of each class', note, ['network', *(name.removeprefix('iou/') for name in names)], lines)


def kernels(cells: Cells, fields: list[str]) -> Table | None:
  """How far trained upsampling is from bilinear; None where none is trained."""
  lines = []
  for key, members in done(cells).items():
    for layer, kernel in members[0].kernels.items():
      values = pd.Series([x for run in members for x in run.network['kernel_distance'][layer]])
      stride = kernel.shape[0] // 2
      spread = values.mean(), values.min(), values.max()
      lines.append([label(fields, key), f'{stride}x, {layer}', *(f'{x:.3f}' for x in spread)])
  note = (
    'The norm of a trained kernel minus the bilinear one, over the norm of that (Frobenius): 0 is bilinear, 1 as far '
    'from it as a kernel of zeros. Over classes and seeds; the plot has the first seed, mean over classes.'
  )
  head = ['network', 'layer', 'mean', 'smallest', 'largest']
  return Table('Upsampling kernels, distance from bilinear', note, head, lines) if lines else None


def costs(cells: Cells, fields: list[str]) -> Table:
  lines, sizes = [], set()
  for key, members in done(cells).items():
    means = pd.DataFrame([run.costs for run in members]).mean()
    sizes |= {'{}x{}'.format(*run.network['size']) for run in members}
    lines.append([
      label(fields, key),
      f'{means.parameters / 1e6:.2f}',
      f'{means.gflop:.2f}',
      f'{means.images_per_second:.1f}',
      f'{means.peak_memory_gib:.2f}',
      f'{means.minutes:.1f}',
    ])  # fmt: skip
  note = f'GFLOP of a forward pass of a picture ({", ".join(sorted(sizes))}); speed, memory and time of training; '
  head = ['network', 'M parameters', 'GFLOP', 'images/s', 'peak memory, GiB', 'minutes']
  return Table('Cost', note + 'means over seeds.', head, lines)


@dataclasses.dataclass(frozen=True)
class Difference:
  """Mean IoU of the second network minus that of the first, in points, with its 95 % interval."""

  first: str
  second: str
  value: float
  low: float
  high: float


def differences(cells: Cells, fields: list[str]) -> list[Difference]:
  """Of all pairs of networks that differ in one setting; where there is none, of all against the first.

  Raises:
    UserError: two networks were not scored on the same pictures.
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
      raise UserError(f'{run.name} and {runs[0].name} were not scored on the same pictures, so they do not compare')
  drawn = {key: bootstrap.resample(np.stack([run.confusion for run in members])) for key, members in scored.items()}
  out = []
  for a, b in pairs:
    paired = [run.seed for run in scored[a]] == [run.seed for run in scored[b]]
    found = bootstrap.difference(drawn[b], drawn[a], paired_seeds=paired)
    value, low, high = (100 * found[name] for name in ('difference', 'low', 'high'))
    out.append(Difference(label(fields, a), label(fields, b), value, low, high))
  return out


def difference_table(found: list[Difference], pictures: int) -> Table:
  lines = [[d.first, d.second, f'{d.value:+.2f}', f'{d.low:+.2f} to {d.high:+.2f}'] for d in found]
  note = (
    f'Mean IoU of the second minus that of the first, in points; paired bootstrap over {pictures} pictures and the '
    f'seeds, {bootstrap.RESAMPLES:,} resamples. Of twenty such intervals one misses; over few seeds they are rather '
    'too narrow. In the plot those that hold 0 are grey.'
  )
  return Table('Differences', note, ['first', 'second', 'difference', '95 % interval'], lines)


def published_table(data_name: str) -> Table | None:
  """What others reached on the data set, or None where nothing is known."""
  if data_name not in published.TABLES:
    return None
  note, rows = published.TABLES[data_name]
  lines = [[row.network, row.source, *(str(row.scores.get(m, '')) for m in METRICS)] for row in rows]
  return Table('Published', note, ['network', 'source', *TITLES.values()], lines)


def done(cells: Cells) -> Cells:
  """The runs that count."""
  counted = {key: [run for run in members if run.done] for key, members in cells.items()}
  return {key: members for key, members in counted.items() if members}


def _mean(values: list[float | None]) -> str:
  """In per cent; a class that is nowhere is None in all runs."""
  known = [100 * x for x in values if x is not None]
  return f'{sum(known) / len(known):.2f}' if known else ''
