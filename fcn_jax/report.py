"""Turns run directories into a table, with the spread over seeds, and differences with intervals.

  python -m fcn_jax.report runs/ablation
  python -m fcn_jax.report runs/ablation --rows=model.stride --cols=model.upsample --metric=pixel_accuracy

Prints, and writes to FOLDER/report/: table.md, table.tex, and table.csv with a row a run. Only runs that are done
count; the others are named in their cell.
"""

import collections

import numpy as np
import pandas as pd
from absl import flags
from etils import epath
from rich.console import Console
from rich.markdown import Markdown

from fcn_jax import bootstrap, cli, results, runlog
from fcn_jax import config as config_lib
from fcn_jax.errors import UserError
from fcn_jax.results import Result

_ROWS = flags.DEFINE_list('rows', None, 'Settings that make the rows; by default what varies, but for the last.')
_COLS = flags.DEFINE_list('cols', None, 'Settings that make the columns; by default the last that varies.')
_METRIC = flags.DEFINE_enum('metric', 'mean_iou', results.METRICS, 'What stands in the cells.')

TITLES = {
  'pixel_accuracy': 'pixel accuracy',
  'mean_accuracy': 'mean accuracy',
  'mean_iou': 'mean IoU',
  'fw_iou': 'f.w. IoU',
}


def main(arguments: list[str]) -> None:
  if len(arguments) != 1:
    raise UserError(f'expected one folder of runs, as runs/ablation; got {len(arguments)}')
  folder = epath.Path(arguments[0])
  runs = results.read(folder)
  rows, cols = layout(runs, _ROWS.value, _COLS.value)
  cells = grouped(runs, rows + cols)
  markdown = '\n'.join([
    f'# {folder.name}',
    *(['', sentence] if (sentence := what_is_missing(runs)) else []),
    '',
    f'{TITLES[_METRIC.value]} in per cent: mean ± standard deviation (number of seeds)',
    '',
    *markdown_table(cells, rows, cols, _METRIC.value),
    '',
    'Cost, mean over seeds:',
    '',
    *cost_table(cells, rows + cols),
    '',
    *differences(cells, rows + cols),
  ])  # fmt: skip
  out = folder / 'report'
  runlog.write(out / 'table.md', markdown + '\n')
  runlog.write(out / 'table.tex', latex_table(cells, rows, cols, _METRIC.value))
  runlog.write(out / 'table.csv', frame(runs).to_csv(index=False))
  Console(soft_wrap=True).print(Markdown(markdown))
  print(f'written to {out}')


def layout(runs: list[Result], rows: list[str] | None, cols: list[str] | None) -> tuple[list[str], list[str]]:
  """The settings of the rows and of the columns: those asked for, or else all that vary.

  Raises:
    UserError: where a setting that varies, other than the seed, is in neither: its values would be averaged.
  """
  vary = results.varying(runs)
  known = {field for run in runs for field in run.settings}
  for field in (rows or []) + (cols or []):
    if field not in known:
      raise UserError(f'there is no setting {field}{config_lib.closest(field, known)}; what varies: {", ".join(vary)}')
  if rows is None and cols is None:
    return (vary[:-1], vary[-1:]) if len(vary) > 1 else (vary, [])
  named = (rows or []) + (cols or [])
  if rows is None:
    rows = [field for field in vary if field not in named]
  elif cols is None:
    cols = [field for field in vary if field not in named]
  if unnamed := [field for field in vary if field not in rows + (cols or [])]:
    raise UserError(
      f'{", ".join(unnamed)} varies between these runs, and a mean over it would mix different networks; '
      f'add it to --rows or --cols, as --rows={",".join([*rows, *unnamed])}'
    )
  return rows, cols or []


def grouped(runs: list[Result], fields: list[str]) -> dict[tuple, list[Result]]:
  """The runs by their values of the settings, which differ in the seed alone; missing runs have no settings."""
  cells = collections.defaultdict(list)
  for run in runs:
    if run.settings:
      cells[tuple(run.settings[field] for field in fields)].append(run)
  for values, members in cells.items():
    seeds = [run.seed for run in members]
    if len(set(seeds)) < len(seeds):
      names = ', '.join(run.name for run in members)
      raise UserError(f'{names} have the same settings {values} and share a seed; one run a seed counts')
  return dict(cells)


def what_is_missing(runs: list[Result]) -> str:
  counts = collections.Counter(run.state for run in runs if run.state != 'done')
  listed = ', '.join(f'{count} {state}' for state, count in counts.items())
  return f'Of {len(runs)} runs {len(runs) - sum(counts.values())} are done: {listed}.' if listed else ''


def statistics(members: list[Result], metric: str) -> tuple[float, float, int] | None:
  """Mean, standard deviation (of the sample; nan for one) and number of the runs that are done, in per cent."""
  values = pd.Series([100 * run.scores[metric] for run in members if run.state == 'done'])
  return (values.mean(), values.std(ddof=1), len(values)) if len(values) else None


def cell(members: list[Result], metric: str, *, plus_minus: str = '±') -> str:
  """'73.2 ± 0.4 (3)', and what is not done."""
  known = statistics(members, metric)
  text = []
  if known:
    mean, deviation, count = known
    text.append(f'{mean:.2f} {plus_minus} {deviation:.2f} ({count})' if count > 1 else f'{mean:.2f} (1)')
  counts = collections.Counter(run.state for run in members if run.state != 'done')
  return '; '.join([*text, *(f'{count} {state}' for state, count in counts.items())])


def _ordered(cells: dict, start: int, end: int) -> list[tuple]:
  """The different values at these places of the keys, as they first come."""
  return list(dict.fromkeys(key[start:end] for key in cells))


def _best(cells: dict, metric: str) -> tuple | None:
  scored = {key: known[0] for key, members in cells.items() if (known := statistics(members, metric))}
  return max(scored, key=scored.get) if len(scored) > 1 else None


def _label(fields: list[str], values: tuple) -> str:
  return ', '.join(f'{field.rpartition(".")[2]} {value}' for field, value in zip(fields, values, strict=True))


def body(cells: dict, rows: list[str], cols: list[str], metric: str, bold, **style) -> list[list[str]]:
  """The table as text, header first; `bold` marks the best cell."""
  columns, best = _ordered(cells, len(rows), len(rows) + len(cols)), _best(cells, metric)
  table = [
    [field.rpartition('.')[2] for field in rows] + [_label(cols, values) or TITLES[metric] for values in columns]
  ]
  for row in _ordered(cells, 0, len(rows)):
    line = [str(value) for value in row]
    for column in columns:
      members = cells.get(row + column)
      text = cell(members, metric, **style) if members else ''
      line.append(bold(text) if row + column == best else text)
    table.append(line)
  return table


def markdown_table(cells: dict, rows: list[str], cols: list[str], metric: str) -> list[str]:
  return _markdown(body(cells, rows, cols, metric, lambda text: f'**{text}**'))


def _markdown(table: list[list[str]]) -> list[str]:
  head, *lines = ([text.replace('|', '\\|') for text in line] for line in table)
  return ['| ' + ' | '.join(line) + ' |' for line in (head, ['---'] * len(head), *lines)]


def latex_table(cells: dict, rows: list[str], cols: list[str], metric: str) -> str:
  """A tabular, to be put into a table environment."""
  table = body(cells, rows, cols, metric, lambda text: f'\\textbf{{{text}}}', plus_minus='$\\pm$')
  head, *lines = ([text.replace('_', '\\_').replace('%', '\\%') for text in line] for line in table)
  out = [f'\\begin{{tabular}}{{{"l" * len(head)}}}', '\\hline', ' & '.join(head) + ' \\\\', '\\hline']
  out += [' & '.join(line) + ' \\\\' for line in lines]
  return '\n'.join([*out, '\\hline', '\\end{tabular}', ''])


def cost_table(cells: dict, fields: list[str]) -> list[str]:
  table = [[field.rpartition('.')[2] for field in fields] + ['images/s', 'peak memory, GiB', 'minutes']]
  for values, members in cells.items():
    costs = pd.DataFrame([run.costs for run in members if run.state == 'done'])
    if len(costs):
      means = costs.mean()
      numbers = [f'{means.images_per_second:.1f}', f'{means.peak_memory_gib:.2f}', f'{means.minutes:.1f}']
      table.append([*map(str, values), *numbers])
  return _markdown(table)


def differences(cells: dict, fields: list[str]) -> list[str]:
  """Mean IoU of each network minus that of the first, with intervals."""
  done = {values: [run for run in members if run.state == 'done'] for values, members in cells.items()}
  done = {values: members for values, members in done.items() if members}
  if len(done) < 2:
    return ['No differences: fewer than two networks have a run that is done.']
  (first, base), *others = done.items()
  table = [['network', 'difference', '95 % interval']]
  for values, members in others:
    if any(run.ids != base[0].ids for run in [*base, *members]):
      raise UserError(f'{members[0].name} and {base[0].name} were not scored on the same pictures')
    paired = [run.seed for run in members] == [run.seed for run in base]
    found = bootstrap.difference(*(_stack(runs) for runs in (members, base)), paired_seeds=paired)
    numbers = {name: f'{100 * x:+.2f}' for name, x in found.items()}
    table.append([_label(fields, values), numbers['difference'], f'{numbers["low"]} to {numbers["high"]}'])
  return [
    f'Mean IoU, in points, minus that of {_label(fields, first)}; paired bootstrap over {len(base[0].ids)} pictures '
    f'and the seeds, {bootstrap.RESAMPLES:,} resamples:',
    '',
    *_markdown(table),
  ]


def _stack(runs: list[Result]) -> np.ndarray:
  return np.stack([run.confusion for run in runs])


def frame(runs: list[Result]) -> pd.DataFrame:
  """A row a run: name, state, the settings that vary and the seed, all metrics, all costs."""
  fields = [*results.varying(runs), 'seed']
  return pd.DataFrame([
    {'run': run.name, 'state': run.state} | {f: run.settings.get(f) for f in fields} | run.scores | run.costs
    for run in runs
  ])  # fmt: skip


if __name__ == '__main__':
  cli.run(main)
