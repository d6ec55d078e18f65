"""The tables of a report."""

import collections
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from fcn_jax import metrics
from fcn_jax.metrics import METRICS
from fcn_jax.report import bootstrap, comparison, published, run_files
from fcn_jax.report.comparison import Cells, by_fold, label, scored, short, texts
from fcn_jax.report.markup import Table, number
from fcn_jax.report.results import Result, in_order

TITLES = {metric: metric.replace('_', ' ').replace('iou', 'IoU').replace('f1', 'F1') for metric in METRICS}
_MANY = 12  # networks: with more, tables of details are folded
_SPREAD = 'Percent: mean ± standard deviation over seeds (number of seeds).'
_SPREAD_OF_FOLDS = (
  'Percent. First, the score of the pixels of all folds together, mean over seeds. Then the mean ± standard deviation '
  "of the folds' scores, each of which is a mean over seeds (number of folds)."
)

# The runs of each network that are done, by its label.
Networks = dict[str, list[Result]]


def labeled(cells: Cells, fields: list[str]) -> Networks:
  """The runs that are done, by the label of their network; networks without any are left out."""
  done = {key: scored(members) for key, members in cells.items()}
  return {label(fields, key, members): members for key, members in done.items() if members}


def folds_of(runs: list[Result]) -> list[str]:
  """All folds of a cross-validation, also those in which no run is done; [''] without one."""
  return sorted({run.fold for run in runs if comparison.comparable(run)}, key=in_order)


def images(runs: list[Result]) -> int:
  """The number of scored images; in a cross-validation, of all folds."""
  return sum(len(ids) for ids in {run.fold: run.ids for run in runs if run.done}.values())


def pooled(members: list[Result]) -> list[dict]:
  """The scores over the pixels of all folds, once per seed: the i-th runs of the folds are counted together."""
  folds = list(by_fold(members).values())
  out = []
  for place in range(max(map(len, folds), default=0)):
    runs = [group[place % len(group)] for group in folds]
    matrix = sum(run.confusion.sum(0) for run in runs)
    out.append(run_files.flat(metrics.summarize(matrix, comparison.names_of_classes(runs[0]))))
  return out


def _fold_means(members: list[Result], get: Callable[[Result], float | None]) -> list[float]:
  """A number of each fold in percent, mean over seeds; without runs for which it is None."""
  values = [[100 * get(run) for run in group if get(run) is not None] for group in by_fold(members).values()]
  return [sum(of_fold) / len(of_fold) for of_fold in values if of_fold]


def cell(members: list[Result], metric: str, folds: list[str]) -> str:
  """'73.2 ± 0.4 (3)', or '73.2; 73.1 ± 0.4 (5 folds)' for several folds, and what is missing: '; 1 failed'."""
  score = _score(members, metric, folds)
  counts = collections.Counter(run.state for run in members if not run.done)
  text = [f'{score} ({_counted(members, folds)})'] if score else []
  if missing := score and _missing(members, folds):
    text.append(f'without {missing}')
  return '; '.join([*text, *(f'{count} {state}' for state, count in counts.items())])


def _score(members: list[Result], metric: str, folds: list[str]) -> str:
  """'73.2 ± 0.4', or '73.2; 73.1 ± 0.4' for several folds; '' if no run is done."""
  values = pd.Series([100 * scores[metric] for scores in pooled(members)])
  if values.empty:
    return ''
  spread, together = values, ''
  if len(folds) > 1:
    spread, together = pd.Series(_fold_means(members, lambda run: run.scores[metric])), f'{values.mean():.2f}; '
  deviation = f' ± {spread.std(ddof=1):.2f}' if len(spread) > 1 else ''
  return f'{together}{spread.mean():.2f}{deviation}'


def _counted(members: list[Result], folds: list[str]) -> str:
  """The number of seeds, or '5 folds', '5 folds, 2 seeds each' or '5 folds, 1 to 2 seeds each'."""
  found = by_fold(members)
  seeds = sorted({len(group) for group in found.values()})
  of_seeds = ' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
  if len(folds) == 1:
    return of_seeds
  return f'{len(found)} fold{"s" if len(found) > 1 else ""}{"" if seeds == [1] else f", {of_seeds} seeds each"}'


def _missing(members: list[Result], folds: list[str]) -> str:
  """The folds in which no run is done."""
  return ', '.join(fold for fold in folds if fold not in by_fold(members))


def _lacking(networks: Networks, folds: list[str]) -> str:
  """A sentence for a note that names the missing folds of all networks."""
  lacking = {network: missing for network, members in networks.items() if (missing := _missing(members, folds))}
  named = '; '.join(f'{network}: {missing}' for network, missing in lacking.items())
  return f' These networks lack folds: {named}.' if lacking else ''


def main(cells: Cells, rows: list[str], cols: list[str], metric: str, selecting: list[str]) -> Table:
  """One metric, by the settings of the rows and of the columns; `selecting` are the settings that select the fold."""
  split, by_one_fold = len(rows), bool(set(selecting) & {*rows, *cols})
  all_folds = folds_of([run for members in cells.values() for run in members])
  by_row, by_column = collections.defaultdict(list), collections.defaultdict(list)
  for key, members in cells.items():
    by_row[key[:split]] += members
    by_column[key[split:]] += members
  lines, means = [], {}
  for row, row_runs in by_row.items():
    line = texts(rows, row, row_runs)
    for place, column in enumerate(by_column):
      members = cells.get(row + column, [])
      folds, found = folds_of(members) if by_one_fold else all_folds, by_fold(members)
      line.append(cell(members, metric, folds))
      if found and len(found) == len(folds):
        means[len(lines), split + place] = np.mean([scores[metric] for scores in pooled(members)])
    lines.append(line)
  columns = [label(cols, values, runs) if cols else TITLES[metric] for values, runs in by_column.items()]
  # Scores in different folds are of different images.
  best = {max(means, key=means.get)} if len(means) > 1 and not by_one_fold else ()
  note = _SPREAD_OF_FOLDS if len(all_folds) > 1 and not by_one_fold else _SPREAD
  if not all(run.done for members in cells.values() for run in members):
    note += ' Other runs are marked and excluded.'
  title = TITLES[metric][0].upper() + TITLES[metric][1:]
  return Table(title, note, [*map(short, rows), *columns], lines, frozenset(best))


def faults(runs: list[Result]) -> Table:
  """What is wrong with the runs."""
  lines = [[run.name, run.state, fault] for run in runs for fault in run.faults]
  note = 'Runs in the state done are in the tables, without what cannot be read. The other runs are excluded.'
  return Table('Runs with faults', note, ['run', 'state', 'fault'], lines, long=True)


def warnings(runs: list[Result]) -> Table:
  """What seemed to be wrong with the training of the runs."""
  lines = [[run.name, warning] for run in runs for warning in run.warnings]
  note = 'What a run logged about its training. The scores of these runs are in the tables like those of other runs.'
  return Table('Warnings of runs', note, ['run', 'warning'], lines, long=True, folded=len(lines) > _MANY)


def scores(networks: Networks, folds: list[str]) -> Table:
  """All metrics of each network, and the upper bounds of their strides."""
  lines, bounds = [], collections.defaultdict(list)
  several = len(folds) > 1
  for network, members in networks.items():
    of_folds = [_counted(members, folds)] if several else []
    line = [(_score if several else cell)(members, metric, folds) for metric in METRICS]
    lines.append([network, *of_folds, *line])
    for run in members:
      bounds[run.stride_px].append(run)
  for stride, runs in sorted(bounds.items(), reverse=True):
    means = [_mean(runs, lambda run, metric=metric: run.upper_bound.get(metric)) for metric in METRICS]
    if any(means):
      lines.append([f'upper bound, stride {stride} px', *[''] * several, *means])
  note = (
    f'{_SPREAD_OF_FOLDS if several else _SPREAD}{_lacking(networks, folds)} Upper bounds: the labels are downsampled '
    'to the stride, upsampled again by bilinear interpolation, and scored.'
  )
  first = 1 + several
  best = _highest(lines, range(first, first + len(METRICS)), _whole(networks, folds))
  return Table('All metrics', note, ['network', *['folds'] * several, *TITLES.values()], lines, best)


def _highest(lines: list[list[str]], columns: Iterable[int], whole: list[bool]) -> frozenset[tuple[int, int]]:
  """The cells with the highest score of each column, among the networks with all folds; none for a single network."""
  out = set()
  for column in columns:
    # In a cross-validation, a cell starts with the score of all pixels.
    scores = {i: x for i, of in enumerate(whole) if of and (x := number(lines[i][column])) is not None}
    out |= {(i, column) for i, x in scores.items() if len(scores) > 1 and x == max(scores.values())}
  return frozenset(out)


def _whole(networks: Networks, folds: list[str]) -> list[bool]:
  """Which networks have all folds."""
  return [len(by_fold(members)) == len(folds) for members in networks.values()]


def bands(networks: Networks, folds: list[str]) -> Table:
  """Mean IoU near class boundaries."""
  widths = dict.fromkeys(width for members in networks.values() for run in members for width in run.bands)
  lines = []
  for network, members in networks.items():
    means = [_mean(members, lambda run, width=width: run.bands.get(width)) for width in widths]
    lines.append([network, *means, _mean(members, lambda run: run.scores['mean_iou'])])
  note = (
    'Mean IoU of pixels within N pixels of a boundary between two classes. Percent, mean over '
    f'{"seeds and folds" if len(folds) > 1 else "seeds"}.{_lacking(networks, folds)}'
  )
  head = ['network', *(f'{width} px' for width in widths), 'everywhere']
  best = _highest(lines, range(1, len(head)), _whole(networks, folds))
  return Table('Mean IoU near class boundaries', note, head, lines, best, folded=len(lines) > _MANY)


def classes(networks: Networks, folds: list[str]) -> Table:
  """IoU per class, with intervals; `networks` is not empty."""
  names, lines = comparison.names_of_classes(next(iter(networks.values()))[0]), []
  for network, members in networks.items():
    of_folds = [np.stack([run.confusion for run in group]) for group in by_fold(members).values()]
    low, high = bootstrap.class_intervals(of_folds)
    ends = [f' ({100 * a:.1f} to {100 * b:.1f})' for a, b in zip(low, high, strict=True)]
    values = zip(_of_classes(pooled(members), 'iou', names), ends, strict=True)
    lines.append([network, *(text and text + between for text, between in values)])
  note = (
    'Percent, mean over seeds, with 95 % intervals by a bootstrap over the images; they do not cover what another seed '
    'would change. Empty if a class appears in neither labels nor predictions.'
    f'{_pixels(networks, folds)}'
  )
  best = _highest(lines, range(1, 1 + len(names)), _whole(networks, folds))
  return Table('IoU per class', note, ['network', *names], lines, best, folded=len(lines) > _MANY)


def precision_and_recall(networks: Networks, folds: list[str]) -> Table:
  """Precision, recall and F1 per class; `networks` is not empty."""
  names, lines = comparison.names_of_classes(next(iter(networks.values()))[0]), []
  for network, members in networks.items():
    found = pooled(members)
    lines += [[network, title, *_of_classes(found, title.lower(), names)] for title in ('precision', 'recall', 'F1')]
  note = (
    'Percent, mean over seeds. Precision: correct pixels among those predicted as the class; recall: among those '
    'labeled as the class; F1 (Dice): their harmonic mean. Empty if there are no such pixels.'
    f'{_pixels(networks, folds)}'
  )
  return Table(
    'Precision, recall and F1 per class', note, ['network', 'score', *names], lines, folded=len(lines) > _MANY
  )


def _of_classes(found: list[dict], kind: str, names: list[str]) -> list[str]:
  """The means of one of `metrics.OF_CLASS` over scores, by class."""
  values = (
    [100 * scores[f'{kind}/{name}'] for scores in found if scores[f'{kind}/{name}'] is not None] for name in names
  )
  return [f'{sum(x) / len(x):.2f}' if x else '' for x in values]


def _pixels(networks: Networks, folds: list[str]) -> str:
  """Sentences for a note on scores of several folds; '' without folds."""
  return f' The pixels of all folds are counted together.{_lacking(networks, folds)}' if len(folds) > 1 else ''


def kernels(networks: Networks) -> Table:
  """How far trained upsampling kernels are from bilinear interpolation."""
  lines = []
  for network, members in networks.items():
    for layer, kernel in next((run.kernels for run in members if run.kernels), {}).items():
      values = pd.Series([x for run in members for x in run.distances.get(layer, [])])
      spread = values.mean(), values.min(), values.max()
      factor = (len(kernel) + 1) // 2
      lines.append([network, f'{factor}x, {layer}', *(f'{x:.3f}' for x in spread)])
  note = (
    'Relative distance ||K - B|| / ||B|| (Frobenius norm) of a trained kernel K from the bilinear kernel B. '
    '0 = bilinear; 1 = as far as an all-zero kernel. Mean, minimum and maximum are over classes and runs. The plot '
    'shows the first run of at most 12 layers, averaged over classes.'
  )
  head = ['network', 'layer', 'mean', 'minimum', 'maximum']
  return Table('Upsampling kernels: distance from bilinear', note, head, lines, folded=len(lines) > _MANY)


def costs(networks: Networks) -> Table:
  """Size, speed and memory of each network; empty where no run has a value."""
  forms = {'parameters': '.2f', 'gflop': '.2f', 'images_per_second': '.1f', 'peak_memory_gib': '.2f', 'minutes': '.1f'}
  lines, sizes = [], sorted({run.size for members in networks.values() for run in members if run.size})
  for network, members in networks.items():
    means = pd.DataFrame([run.costs for run in members], columns=list(forms)).mean()
    means['parameters'] /= 1e6
    lines.append([network, *('' if pd.isna(means[name]) else f'{means[name]:{form}}' for name, form in forms.items())])
  note = (
    f'GFLOP: one forward pass of one image ({", ".join(sizes)} pixels). Speed, memory and time: training, mean over '
    'runs.'
  )
  head = ['network', 'M parameters', 'GFLOP', 'images/s', 'peak memory, GiB', 'minutes']
  return Table('Cost', note, head, lines)


def published_table(data_name: str, folds: list[str]) -> Table:
  """Published results on the data set."""
  note, rows = published.TABLES.get(data_name, ('', []))
  if note and (of_folds := published.FOLDS.get(data_name)):
    ours = f'of {len(folds)} folds' if len(folds) > 1 else 'of one fold'
    note += f' Published numbers are means over {of_folds} folds; the numbers of this report are {ours}.'
  head = ['network', 'source', *TITLES.values()]
  lines = [[*map(str, row), *[''] * (len(head) - len(row))] for row in rows]
  return Table('Published results', note, head, lines)


def _mean(members: list[Result], get: Callable[[Result], float | None]) -> str:
  """The mean over folds of the means over seeds, in percent; '' if it is None in all runs, as for an absent class."""
  means = _fold_means(members, get)
  return f'{sum(means) / len(means):.2f}' if means else ''
