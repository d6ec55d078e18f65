"""What the runs show, in sentences: which value of each setting is best, what is not decided, and what is missing."""

import itertools

import numpy as np

from fcn_jax.report import differences, tables
from fcn_jax.report.comparison import Cells, by_fold, scored, short
from fcn_jax.report.differences import Difference
from fcn_jax.report.markup import counted
from fcn_jax.report.results import Result

_MOST = 5  # names in a list of runs


def sentences(
  runs: list[Result], cells: Cells, fields: list[str], pairs: list[Difference], folds: list[str]
) -> list[str]:
  """The answer of a report, one paragraph per entry.

  Args:
    runs: all runs of the report.
    cells: the runs by their values of `fields`.
    fields: the settings that vary.
    pairs: the differences of `differences.between`.
    folds: all folds.
  """
  networks = {key: 100 * _score(members) for key, members in cells.items() if scored(members)}
  whole = {key: score for key, score in networks.items() if len(by_fold(cells[key])) == len(folds)}
  out = []
  if len(networks) == 1:
    ((key, score),) = networks.items()
    others = f' Nothing to compare: no run of the other {counted(len(cells) - 1, "network")} is done.'
    network = differences.label(key, fields, cells, fields) or 'The network'
    reached = counted(len(scored(cells[key])), 'run')
    out.append(f'{_upper(network)} has {score:.1f} % mean IoU ({reached}).{others if len(cells) > 1 else ""}')
  elif not networks:
    out.append('No run is done, so there is no score.')
  factors = differences.factors(list(networks), fields) if len(networks) > 1 else []
  if len(factors) > 1 and whole:
    best = max(whole, key=whole.get)
    network = differences.label(best, fields, cells, fields)
    out.append(f'The highest of {len(whole)} networks: {network} with {whole[best]:.1f} % mean IoU.')
  if networks and not whole:
    out.append('Not decided: no network has all folds.')
  lacking = [differences.label(key, fields, cells, fields) for key in networks if key not in whole]
  for factor in factors if whole else ():
    out.append(_of_factor(factor, whole, cells, fields, [d for d in pairs if d.factor == factor and d.folds == folds]))
  if lacking:
    out.append(f'Not ranked: {"; ".join(lacking)} ({"it lacks" if len(lacking) == 1 else "they lack"} folds).')
  if pairs:
    out.append(_coverage(runs, pairs, folds))
  return out + _missing(runs)


def _score(members: list[Result]) -> float:
  """Mean IoU, mean over seeds; in a cross-validation, of the pixels of all folds."""
  return float(np.mean([scores['mean_iou'] for scores in tables.pooled(members)]))


def _of_factor(
  factor: tuple[str, ...], whole: dict[tuple, float], cells: Cells, fields: list[str], pairs: list[Difference]
) -> str:
  """Which value of a setting, or of settings that change together, is best, in the mean over the others."""
  name = ' and '.join(map(short, factor))
  others = [field for field in fields if field not in factor]
  by_context: dict[str, dict[str, float]] = {}
  for key, score in whole.items():
    context = differences.label(key, others, cells, fields)
    by_context.setdefault(context, {})[differences.label(key, factor, cells, fields)] = score
  values = list(dict.fromkeys(itertools.chain(*by_context.values())))
  left_out = []
  while not (contexts := [c for c, found in by_context.items() if all(v in found for v in values)]):
    rare = min(reversed(values), key=lambda value: sum(value in found for found in by_context.values()))
    values.remove(rare)
    left_out.append(rare)
  if len(values) < 2:
    return f'Not decided: no two values of {name} have runs that are done and differ in nothing else.'
  means = {value: float(np.mean([by_context[context][value] for context in contexts])) for value in values}
  best, second, *_ = sorted(values, key=means.get, reverse=True)
  used = [d if d.second == best else d.reversed() for d in pairs if best in (d.first, d.second)]
  used = [d for d in used if d.context in contexts and d.first in values]
  against = sorted(differences.effects(used), key=lambda d: -means[d.first])
  interaction = _interaction(used, against)
  parts = [_verdict(best, means[best], against, on_average=bool(interaction))]
  if len(contexts) > 1:
    ahead = sum(by_context[context][best] > by_context[context][second] for context in contexts)
    of = f'all {len(contexts)}' if ahead == len(contexts) else f'{ahead} of {len(contexts)}'
    parts.append(
      f'These are means over {len(contexts)} combinations of the other settings; {best} is ahead of {second} in {of}.'
    )
  if left_out:
    parts.append(f'Not ranked: {"; ".join(left_out)} (no such combination with the others).')
  return ' '.join([*parts, *interaction])


def _verdict(best: str, score: float, against: list[Difference], *, on_average: bool) -> str:
  """Whether the best value is best, by its differences from the others, the closest first."""
  clear, open_ = ([d for d in against if d.clear == wanted] for wanted in (True, False))
  if not open_:
    return f'{_upper(best)} is best{" on average" if on_average else ""}: {score:.1f} % mean IoU, {_above(clear)}.'
  text = f'Not decided: {best} has the highest mean IoU, {score:.1f} %, {_above(open_)}'
  if not all(d.over_seeds for d in open_):
    text += '; with one seed, an interval does not cover what another seed would change'
  else:
    text += f'; {"this interval includes" if len(open_) == 1 else "these intervals include"} 0'
  return f'{text}.{f" It is clearly {_above(clear)}." if clear else ""}'


def _above(found: list[Difference]) -> str:
  parts = [f'{d.value:.1f} points above {d.brief[0]} ({_interval(d)}; {_behind(d)})' for d in found]
  return ' and '.join(filter(None, (', '.join(parts[:-1]), parts[-1])))


def _interval(d: Difference) -> str:
  over = '' if d.over_seeds else ' over images only'
  return f'95 % interval{over} {d.low:.1f} to {d.high:.1f}'


def _behind(d: Difference) -> str:
  """'4 runs, 2 seeds', or '5 runs, 2 to 3 seeds'."""
  low, high = d.seeds
  return f'{len(d.runs)} runs, {counted(high, "seed") if low == high else f"{low} to {high} seeds"}'


def _interaction(used: list[Difference], against: list[Difference]) -> list[str]:
  """A sentence if the order of two values is clear in both directions, each in other combinations."""
  for d in against:
    of_pair = sorted((pair for pair in used if pair.first == d.first and pair.clear), key=lambda pair: pair.value)
    if len(of_pair) > 1 and of_pair[0].value < 0 < of_pair[-1].value:
      low, high = of_pair[0].reversed(), of_pair[-1]
      return [
        'The order depends on the other settings: '
        + '; '.join(
          f'with {pair.context}, {pair.second} is {pair.value:.1f} points above {pair.first} ({_interval(pair)})'
          for pair in (high, low)
        )
        + '.'
      ]
  return []


def _coverage(runs: list[Result], pairs: list[Difference], folds: list[str]) -> str:
  """What the intervals cover, and what they do not."""
  count = tables.images(runs)
  seeds = {d.over_seeds for d in pairs}
  within = f' within each of {len(folds)} folds' if len(folds) > 1 else ''
  over = {
    (True,): f'the choice of the {count} scored images{within} and of the seeds',
    (False,): f'the choice of the {count} scored images{within}, not that of the seeds',
    (False, True): f'the choice of the {count} scored images{within}, and that of the seeds if both networks have '
    'several',
  }[tuple(sorted(seeds))]
  return f'A 95 % interval covers {over}; it says nothing about other data.'


def _missing(runs: list[Result]) -> list[str]:
  """The runs that do not count."""
  lost = [f'{run.name} ({run.state})' for run in runs if not run.done]
  more = f' and {len(lost) - _MOST} more' if len(lost) > _MOST else ''
  return [f'Missing: {len(lost)} of {counted(len(runs), "run")}: {"; ".join(lost[:_MOST])}{more}.'] if lost else []


def _upper(text: str) -> str:
  """The text with a capital, unless it starts with an abbreviation such as lr, or a name such as lr_backbone."""
  first = text.split()[0]
  return text if len(first) < 3 or {'.', '_'} & {*first} else text[:1].upper() + text[1:]
