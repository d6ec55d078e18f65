"""Differences in mean IoU between networks, with confidence intervals: of pairs, and of settings on average."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fcn_jax.report import bootstrap, comparison
from fcn_jax.report.comparison import Cells, by_fold
from fcn_jax.report.markup import Table


@dataclasses.dataclass(frozen=True, eq=False)
class Difference:
  """Mean IoU of the second network minus that of the first, in percentage points, with its 95 % interval.

  Attributes:
    factor: the settings in which the two differ.
    first: the values of the first network: 'stride 32'.
    second: the values of the second network.
    brief: the values in which the two differ, if several settings change together; else the same as the former two.
    context: the settings that the two share, of those that vary: 'upsample bilinear_fixed'. Empty for a mean.
    value: the difference; in a cross-validation, the mean of the differences within the folds.
    drawn: the same in every resample.
    over_seeds: whether the interval is over images and seeds. If a network has one seed, it is over images only.
    folds: the folds that both networks have.
    spread: the standard deviation of the folds' differences; nan for one fold or a mean.
    pairs: of how many pairs of networks this is the mean.
    runs: the names of the runs behind it.
    seeds: the lowest and the highest number of seeds of a network in a fold.
  """

  factor: tuple[str, ...]
  first: str
  second: str
  brief: tuple[str, str]
  context: str
  value: float
  drawn: np.ndarray
  over_seeds: bool
  folds: list[str]
  spread: float = float('nan')
  pairs: int = 1
  runs: frozenset[str] = frozenset()
  seeds: tuple[int, int] = (1, 1)

  @property
  def low(self) -> float:
    """The lower end of the interval."""
    return float(np.percentile(self.drawn, 2.5))

  @property
  def high(self) -> float:
    """The upper end of the interval."""
    return float(np.percentile(self.drawn, 97.5))

  @property
  def clear(self) -> bool:
    """Whether the interval excludes 0, and accounts for what another seed would change."""
    return self.over_seeds and not self.low <= 0 <= self.high

  def reversed(self) -> 'Difference':
    """The mean IoU of the first network minus that of the second."""
    changed = {'first': self.second, 'second': self.first, 'brief': self.brief[::-1]}
    return dataclasses.replace(self, value=-self.value, drawn=-self.drawn, **changed)


def factors(keys: list[tuple], fields: list[str]) -> list[tuple[str, ...]]:
  """Groups of settings that change together, such as a stride and its skip connections.

  If no two networks differ in one group only, all settings form one group.

  Args:
    keys: the networks' values of `fields`.
    fields: the settings that vary.
  """
  groups: list[tuple[str, ...]] = []
  for field in fields:
    column = [key[fields.index(field)] for key in keys]
    for number, group in enumerate(groups):
      other = [key[fields.index(group[0])] for key in keys]
      if len(set(zip(column, other, strict=True))) == len(set(column)) == len(set(other)):
        groups[number] = (*group, field)
        break
    else:
      groups.append((field,))
  found = any(_factor(a, b, groups, fields) for a, b in itertools.combinations(keys, 2))
  return groups if found or not fields else [tuple(fields)]


def _factor(a: tuple, b: tuple, groups: list[tuple[str, ...]], fields: list[str]) -> tuple[str, ...] | None:
  """The one group of settings in which two networks differ, or None if there are several."""
  differing = {field for field, x, y in zip(fields, a, b, strict=True) if x != y}
  found = [group for group in groups if differing & set(group)]
  return found[0] if len(found) == 1 else None


def between(cells: Cells, fields: list[str], folds: list[str]) -> list[Difference]:
  """Differences of all pairs of networks that differ in one factor.

  A pair without a common fold is left out.
  """
  groups = {key: found for key, members in cells.items() if (found := by_fold(members))}
  found = factors(list(groups), fields)
  pairs = [(factor, a, b) for a, b in itertools.combinations(groups, 2) if (factor := _factor(a, b, found, fields))]
  drawn = {
    (key, fold): bootstrap.resample(np.stack([run.confusion for run in runs]), seed=folds.index(fold))
    for key, of_folds in groups.items()
    for fold, runs in of_folds.items()
    if len(groups) > 1
  }
  out = []
  for factor, a, b in sorted(pairs, key=lambda pair: found.index(pair[0])):
    common = [fold for fold in groups[a] if fold in groups[b]]
    if not common:
      continue
    counts = [len(groups[key][fold]) for key in (a, b) for fold in common]
    of_folds = []
    for fold in common:
      paired = [run.seed for run in groups[a][fold]] == [run.seed for run in groups[b][fold]]
      seeds = {'paired_seeds': paired, 'over_seeds': min(counts) > 1, 'seed': folds.index(fold)}
      of_folds.append(bootstrap.difference(drawn[b, fold], drawn[a, fold], **seeds))
    runs = frozenset(run.name for key in (a, b) for fold in common for run in groups[key][fold])
    texts = [label(key, factor, cells, fields) for key in (a, b)]
    apart = [field for field, x, y in zip(fields, a, b, strict=True) if field in factor and x != y]
    brief = tuple(label(key, apart, cells, fields) for key in (a, b))
    context = label(a, [field for field in fields if field not in factor], cells, fields)
    value, drawn_mean = (100 * x for x in bootstrap.mean(of_folds))
    spread = pd.Series([100 * fold.value for fold in of_folds]).std(ddof=1)
    of_pair = {'spread': spread, 'runs': runs, 'seeds': (min(counts), max(counts))}
    out.append(Difference(factor, *texts, brief, context, value, drawn_mean, min(counts) > 1, common, **of_pair))
  return out


def label(key: tuple, shown: Sequence[str], cells: Cells, fields: list[str]) -> str:
  """The values of the settings `shown`; '' if there are none."""
  values = tuple(key[fields.index(field)] for field in shown)
  return comparison.label(list(shown), values, comparison.scored(cells[key])) if shown else ''


def effects(pairs: list[Difference]) -> list[Difference]:
  """One difference per two values of a factor: the mean over the combinations of the other settings that have both."""
  groups: dict[tuple, list[Difference]] = {}
  for pair in pairs:
    if (pair.factor, pair.second, pair.first) in groups:
      pair = pair.reversed()
    groups.setdefault((pair.factor, pair.first, pair.second), []).append(pair)
  return [_mean(group) for group in groups.values()]


def _mean(group: list[Difference]) -> Difference:
  return dataclasses.replace(
    group[0],
    context='' if len(group) > 1 else group[0].context,
    value=float(np.mean([pair.value for pair in group])),
    drawn=np.mean([pair.drawn for pair in group], axis=0),
    over_seeds=all(pair.over_seeds for pair in group),
    folds=[fold for fold in group[0].folds if all(fold in pair.folds for pair in group)],
    spread=group[0].spread if len(group) == 1 else float('nan'),
    pairs=len(group),
    runs=frozenset().union(*(pair.runs for pair in group)),
    seeds=(min(pair.seeds[0] for pair in group), max(pair.seeds[1] for pair in group)),
  )


def note(images: int, folds: list[str]) -> str:
  """What the intervals cover; `images` is the number of scored images, and `folds` are all folds."""
  within = ' Resamples are drawn within each fold, and the folds that both networks have are averaged.'
  return (
    'Mean IoU of the second minus that of the first, in percentage points. The 95 % confidence intervals come '
    f'from a paired bootstrap over {images} images and, if both networks have several seeds, over the seeds '
    f'({bootstrap.RESAMPLES:,} resamples).{within if len(folds) > 1 else ""} About 1 in 20 intervals misses the true '
    'difference; with few seeds, the intervals are too narrow. An interval over images only does not account '
    'for what another seed would change. In the plot, these intervals are gray, and so are those that include 0: they '
    'show no clear difference.'
  )


def table(found: list[Difference], title: str, text: str, folds: list[str], *, folded: bool = False) -> Table:
  """Differences as a table with the note `text`; `folds` are all folds."""
  several, shared = len(folds) > 1, any(d.pairs > 1 or d.context for d in found)
  lines = []
  for d in found:
    over = 'images and seeds' if d.over_seeds else 'images only'
    others = f'mean of {d.pairs} combinations' if d.pairs > 1 else d.context
    missing = ', '.join(fold for fold in folds if fold not in d.folds)
    spread = '' if np.isnan(d.spread) else f'{d.spread:.2f}'
    of_folds = [spread, f'{len(d.folds)}{missing and f", without {missing}"}'] if several else []
    numbers = [f'{d.value:+.2f}', f'{d.low:+.2f} to {d.high:+.2f}', over]
    lines.append([*d.brief, *numbers, *([others] if shared else []), *of_folds])
  head = ['first', 'second', 'difference', '95 % interval', 'interval over', *['other settings'] * shared]
  return Table(title, text, head + ['spread over folds', 'folds'] * several, lines, folded=folded)


def tables(pairs: list[Difference], images: int, folds: list[str]) -> tuple[Table, Table | None]:
  """The differences between the values of each setting, and those of pairs if the former are means over pairs."""
  found, text = effects(pairs), note(images, folds)
  if all(d.pairs == 1 for d in found):
    return table(found, 'Differences in mean IoU', text, folds), None
  text += ' Each line is the mean over the combinations of the other settings that have both values.'
  of_pairs = 'As above, for each pair of networks that differ in one setting, or in settings that change together.'
  return (
    table(found, 'Differences in mean IoU', text, folds),
    table(pairs, 'Differences of pairs of networks', of_pairs, folds, folded=True),
  )
