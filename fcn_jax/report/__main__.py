"""Turns run directories into tables and a page, with the spread over seeds, and differences with intervals.

  python -m fcn_jax.report runs/ablation
  python -m fcn_jax.report runs/ablation --rows=model.stride --cols=model.upsample --metric=pixel_accuracy

Prints, and writes to FOLDER/report/: table.md; table.tex, the first table; table.csv, a row a run; curves.png,
intervals.png and, where upsampling is trained, kernels.png; and index.html, all of it and pictures on one page. Only
runs that are done count; the others are named in their cells.
"""

import collections

import pandas as pd
from absl import flags
from etils import epath
from rich.console import Console
from rich.markdown import Markdown

from fcn_jax import cli, files, metrics
from fcn_jax.errors import UserError, closest
from fcn_jax.report import results, tables
from fcn_jax.report.results import Result

_ROWS = flags.DEFINE_list('rows', None, 'Settings that make the rows; by default what varies, but for the last.')
_COLS = flags.DEFINE_list('cols', None, 'Settings that make the columns; by default the last that varies.')
_METRIC = flags.DEFINE_enum('metric', 'mean_iou', metrics.METRICS, 'What stands in the cells of the first table.')

_WIDTH = 200  # columns of text that goes to no terminal


def main(arguments: list[str]) -> None:
  if len(arguments) != 1:
    raise UserError(f'expected one folder of runs, as runs/ablation; got {len(arguments)}')
  folder = epath.Path(arguments[0])
  runs = results.read(folder)
  rows, cols = layout(runs, _ROWS.value, _COLS.value)
  cells = grouped(runs, rows + cols)
  first = tables.main(cells, rows, cols, _METRIC.value)
  markdown = write(folder, runs, cells, rows + cols, first)
  console = Console()
  # In a file or a pipe nothing is cut to the width of a terminal.
  console.print(Markdown(markdown), width=None if console.is_terminal else _WIDTH)
  print(f'written to {folder / "report"}')


def write(folder: epath.Path, runs: list[Result], cells: tables.Cells, fields: list[str], first: tables.Table) -> str:
  """Writes all files of the report; returns the text."""
  from fcn_jax.report import figures, page

  out, text, sections = folder / 'report', [], []

  def add(table: tables.Table | None, plot: bytes | None = None, *, heat: bool = False) -> None:
    if table and table.lines:
      text.append(f'## {table.title}\n\n{table.note}\n\n{table.markdown()}\n')
      sections.append(page.section(table, heat=heat, plot=plot))

  def drawn(name: str, figure) -> bytes | None:
    """The figure for the page; it is written for other uses too."""
    if not figure:
      return None
    files.write(out / f'{name}.png', figures.encoded(figure, 'png'))
    return figures.encoded(figure, 'svg')

  add(first)
  scored = [run for run in runs if run.done]
  if scored:
    found = tables.differences(cells, fields)
    plot = drawn('intervals', figures.intervals(found)) if found else None
    add(tables.difference_table(found, len(scored[0].ids)), plot)
    add(tables.scores(cells, fields))
    add(tables.published_table(runs[0].settings['data.name']))
    add(tables.bands(cells, fields))
    add(tables.classes(cells, fields), heat=True)
    add(tables.kernels(cells, fields), drawn('kernels', figures.kernels(cells, fields)))
    add(tables.costs(cells, fields))
    note = 'Mean over seeds; the shade goes from the lowest to the highest.'
    plot = drawn('curves', figures.curves(cells, fields))
    sections.append(page.plot_section('Learning curves', note, plot))
    sections.append(page.gallery(cells, fields))
  introduction = about(runs)
  markdown = '\n'.join([f'# {folder.name}\n', *(f'{sentence}\n' for sentence in introduction), *text])
  files.write(out / 'table.md', markdown)
  files.write(out / 'table.tex', first.latex())
  files.write(out / 'table.csv', frame(runs).to_csv(index=False))
  files.write(out / 'index.html', page.page(folder.name, introduction, sections))
  return markdown


def layout(runs: list[Result], rows: list[str] | None, cols: list[str] | None) -> tuple[list[str], list[str]]:
  """The settings of the rows and of the columns: those asked for, or else all that vary.

  Raises:
    UserError: where a setting that varies, other than the seed, is in neither: its values would be averaged.
  """
  vary = results.varying(runs)
  known = {field for run in runs for field in run.settings}
  for field in (rows or []) + (cols or []):
    if field not in known:
      raise UserError(f'there is no setting {field}{closest(field, known)}; what varies: {", ".join(vary)}')
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


def grouped(runs: list[Result], fields: list[str]) -> tables.Cells:
  """The runs by their values of the settings; those of a cell differ in the seed alone."""
  cells = collections.defaultdict(list)
  for run in runs:
    cells[tuple(run.settings[field] for field in fields)].append(run)
  for values, members in cells.items():
    seeds = [run.seed for run in members]
    if len(set(seeds)) < len(seeds):
      names = ', '.join(run.name for run in members)
      raise UserError(f'{names} have the same settings {values} and share a seed; one run a seed counts')
  return dict(cells)


def about(runs: list[Result]) -> list[str]:
  """Sentences on what is done, and on what the runs were made of and with."""
  counts = collections.Counter(run.state for run in runs)
  listed = ', '.join(f'{count} {state}' for state, count in counts.items() if state != 'done')
  sentences = [f'Of {len(runs)} runs {counts["done"]} are done{": " if listed else ""}{listed}.']
  made = [run.environment for run in runs if run.done and run.environment]
  if made:
    commits = dict.fromkeys(
      f'{(start["commit"] or "unknown")[:7]}{", with changes" if start["dirty"] else ""}' for start in made
    )
    devices = dict.fromkeys(f'{len(start["devices"])} x {start["devices"][0]}' for start in made)
    days = sorted({start['time'][:10] for start in made})
    sentences.append(
      f'Data: {", ".join(dict.fromkeys(start["data"] for start in made))}, '
      f'{len(next(run for run in runs if run.done).ids)} pictures scored. Commit: {"; ".join(commits)}. '
      f'A run had {", ".join(devices)}. {" to ".join(dict.fromkeys((days[0], days[-1])))}.'
    )
  return sentences


def frame(runs: list[Result]) -> pd.DataFrame:
  """A row a run: name, state, the settings that vary and the seed, all metrics, bands and costs."""
  fields = [*results.varying(runs), 'seed']
  return pd.DataFrame([
    {'run': run.name, 'state': run.state}
    | {field: run.settings.get(field) for field in fields}
    | run.scores
    | {f'mean_iou_within_{width}_px': x for width, x in run.bands.items()}
    | run.costs
    for run in runs
  ])  # fmt: skip


if __name__ == '__main__':
  cli.run(main)
