"""Differences in mean IoU between networks, with confidence intervals."""

import dataclasses
import itertools

import numpy as np
import pandas as pd

from fcn_jax.report import bootstrap, comparison
from fcn_jax.report.comparison import Cells, by_fold
from fcn_jax.report.markup import Table


@dataclasses.dataclass(frozen=True)
class Difference:
  """Mean IoU of the second network minus that of the first, in percentage points, with its 95 % interval.

  Attributes:
    first: the first network.
    second: the second network.
    value: the difference; in a cross-validation, the mean of the differences within the folds.
    low: the lower end of the interval.
    high: its upper end.
    over_seeds: whether the interval is over images and seeds. If a network has one seed, it is over images only.
    folds: the folds that both networks have.
    spread: the standard deviation of the folds' differences; nan for one fold.
  """

  first: str
  second: str
  value: float
  low: float
  high: float
  over_seeds: bool
  folds: list[str]
  spread: float

  @property
  def clear(self) -> bool:
    """Whether the interval excludes 0, and accounts for what another seed would change."""
    return self.over_seeds and not self.low <= 0 <= self.high


def between(cells: Cells, fields: list[str], folds: list[str]) -> list[Difference]:
  """Differences of all pairs of networks that differ in one setting; if there are none, of the first and every other.

  A pair without a common fold is left out.
  """
  groups = {key: found for key, members in cells.items() if (found := by_fold(members))}
  pairs = [
    (a, b)
    for field in range(len(fields))
    for a, b in itertools.combinations(groups, 2)
    if [i for i in range(len(fields)) if a[i] != b[i]] == [field]
  ]
  pairs = pairs or [(next(iter(groups)), other) for other in list(groups)[1:]]
  drawn = {
    (key, fold): bootstrap.resample(np.stack([run.confusion for run in runs]), seed=folds.index(fold))
    for key, found in groups.items()
    for fold, runs in found.items()
  }
  out = []
  for a, b in pairs:
    common = [fold for fold in groups[a] if fold in groups[b]]
    if not common:
      continue
    over_seeds = all(len(groups[key][fold]) > 1 for key in (a, b) for fold in common)
    found = []
    for fold in common:
      paired = [run.seed for run in groups[a][fold]] == [run.seed for run in groups[b][fold]]
      seeds = {'paired_seeds': paired, 'over_seeds': over_seeds, 'seed': folds.index(fold)}
      found.append(bootstrap.difference(drawn[b, fold], drawn[a, fold], **seeds))
    values = [100 * x for x in bootstrap.interval(found)]
    spread = pd.Series([100 * fold.value for fold in found]).std(ddof=1)
    names = (comparison.label(fields, key, comparison.scored(cells[key])) for key in (a, b))
    out.append(Difference(*names, *values, over_seeds, common, spread))
  return out


def table(found: list[Difference], images: int, folds: list[str]) -> Table:
  """The differences as a table; `images` is the number of scored images, and `folds` are all folds."""
  lines, several = [], len(folds) > 1
  for d in found:
    over = 'images and seeds' if d.over_seeds else 'images only'
    line = [d.first, d.second, f'{d.value:+.2f}', f'{d.low:+.2f} to {d.high:+.2f}', over]
    missing = ', '.join(fold for fold in folds if fold not in d.folds)
    of_folds = [f'{d.spread:.2f}' if len(d.folds) > 1 else '', f'{len(d.folds)}{missing and f", without {missing}"}']
    lines.append(line + of_folds if several else line)
  within = (
    ' Resamples are drawn within each fold; the difference and its interval are for the mean over the folds that both '
    'networks have.'
  )
  note = (
    'Mean IoU of the second network minus that of the first, in percentage points. The 95 % confidence intervals come '
    f'from a paired bootstrap over {images} images and, if both networks have several seeds, over the seeds '
    f'({bootstrap.RESAMPLES:,} resamples).{within if several else ""} About 1 in 20 intervals misses the true '
    'difference; with few seeds, the intervals are too narrow. An interval over images only does not account '
    'for what another seed would change. In the plot, these intervals are gray, and so are those that include 0: they '
    'show no clear difference.'
  )
  head = ['first', 'second', 'difference', '95 % interval', 'interval over']
  return Table('Differences in mean IoU', note, head + ['spread over folds', 'folds'] * several, lines)
