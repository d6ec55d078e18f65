"""Turns the run directories of a sweep into tables, plots and a web page.

  python -m fcn_jax.report runs/ablation
  python -m fcn_jax.report runs/ablation --rows=model.stride --cols=model.upsample --metric=pixel_accuracy

For each combination of settings, the tables give the mean and the standard deviation over seeds; differences come with
95 % confidence intervals. Unfinished runs are marked in the tables and excluded.

Prints all tables and writes to FOLDER/report/:
  table.md       all tables
  table.tex      the first table, in LaTeX
  table.csv      one row per run
  curves.png     learning curves
  intervals.png  differences between networks
  kernels.png    trained upsampling kernels, if any
  index.html     everything above and sample predictions of every network: one self-contained page that works offline
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import collections
import dataclasses

import pandas as pd
from absl import flags
from etils import epath
from rich.console import Console
from rich.markdown import Markdown

from fcn_jax import cli, files, metrics
from fcn_jax.errors import UserError
from fcn_jax.report import results, tables
from fcn_jax.report.results import Result


def define_flags() -> None:
  flags.DEFINE_list('rows', None, 'Settings for the rows. Default: all settings that vary, except the last.')
  flags.DEFINE_list('cols', None, 'Settings for the columns. Default: the last setting that varies.')
  flags.DEFINE_enum('metric', 'mean_iou', metrics.METRICS, 'Metric of the first table.')


def main(arguments: list[str]) -> None:
  if len(arguments) != 1:
    raise UserError(f'expected one folder of runs, for example runs/ablation; got {len(arguments)} arguments')
  folder, given = files.path(arguments[0]), flags.FLAGS
  runs = results.read(folder)
  rows, cols = results.layout(runs, given.rows, given.cols)
  markdown = write(folder, runs, rows, cols, given.metric)
  Console().print(Markdown(markdown))
  print(f'written to {folder / "report"}')


def write(folder: epath.Path, runs: list[Result], rows: list[str], cols: list[str], metric: str) -> str:
  """Writes all files of the report; returns the text of `table.md`.

  Args:
    folder: the folder of the runs.
    runs: the runs, as `results.read` returns them.
    rows: the settings that form the rows of the first table.
    cols: the settings that form its columns.
    metric: the metric in its cells.
  """
  from fcn_jax.report import figures, page

  out, cells = folder / 'report', results.grouped(runs, rows + cols)
  networks = tables.labeled(cells, rows + cols)
  first = tables.main(cells, rows, cols, metric)
  introduction = about(runs)
  text, sections = [f'# {folder.name}\n', *(f'{sentence}\n' for sentence in introduction)], []
  for part in [Part(first), *(parts(networks, tables.differences(cells, rows + cols)) if networks else [])]:
    table, plot = part.table, None
    if part.figure:
      files.write(out / f'{part.name}.png', figures.encoded(part.figure, 'png'))
      plot = figures.encoded(part.figure, 'svg')
    if table.lines:
      text.append(f'## {table.title}\n\n{table.note}\n\n{table.markdown()}\n')
    sections.append(page.section(table, heat=part.heat, plot=plot))
  sections.append(page.gallery(networks))
  markdown = '\n'.join(text)
  files.write(out / 'table.md', markdown)
  files.write(out / 'table.tex', first.latex())
  files.write(out / 'table.csv', frame(runs).to_csv(index=False))
  files.write(out / 'index.html', page.page(folder.name, introduction, sections))
  return markdown


@dataclasses.dataclass(frozen=True)
class Part:
  """A section of the report.

  Attributes:
    table: the table; one without lines is only a heading for its figure.
    name: the file name of the figure.
    figure: a matplotlib figure, or None.
    heat: whether the page colors the table's numbers.
  """

  table: tables.Table
  name: str = ''
  figure: object = None
  heat: bool = False


def parts(networks: tables.Networks, found: list[tables.Difference]) -> list[Part]:
  """The sections after the first table, in order; `found` are the differences between the networks."""
  from fcn_jax.report import figures

  example = next(iter(networks.values()))[0]
  curves = tables.Table('Learning curves', 'Mean over seeds; the shading runs from the lowest to the highest.', [], [])
  listed = [
    Part(tables.difference_table(found, len(example.ids)), 'intervals', figures.intervals(found) if found else None),
    Part(tables.scores(networks)),
    Part(tables.published_table(example.settings['data.name'])),
    Part(tables.bands(networks)),
    Part(tables.classes(networks), heat=True),
    Part(tables.kernels(networks), 'kernels', figures.kernels(networks)),
    Part(tables.costs(networks)),
    Part(curves, 'curves', figures.curves(networks)),
  ]
  return [part for part in listed if part.table.lines or part.figure]


def about(runs: list[Result]) -> list[str]:
  """The introduction of the report: how many runs are done, and their data, commits, hardware and dates."""
  counts = collections.Counter(run.state for run in runs)
  unfinished = ', '.join(f'{count} {state}' for state, count in counts.items() if state != 'done')
  if unfinished:
    sentences = [f'{counts["done"]} of {len(runs)} runs are done ({unfinished}).']
  else:
    sentences = [f'All {len(runs)} runs are done.' if len(runs) > 1 else 'The run is done.']
  starts = [run.environment for run in runs if run.done and run.environment]
  if starts:
    commits = dict.fromkeys(
      f'{(start["commit"] or "unknown")[:7]}{" with local changes" if start["dirty"] else ""}' for start in starts
    )
    days = sorted({start['time'][:10] for start in starts})
    sentences.append(
      f'Data: {", ".join(dict.fromkeys(start["data"] for start in starts))}, '
      f'{len(next(run for run in runs if run.done).ids)} images scored. Commit: {"; ".join(commits)}. '
      f'Hardware: {" or ".join(dict.fromkeys(_hardware(start["devices"]) for start in starts))} per run. '
      f'{" to ".join(dict.fromkeys((days[0], days[-1])))}.'
    )
  return sentences


def _hardware(devices: list[str]) -> str:
  kind = 'CPU' if devices[0] == 'cpu' else devices[0]
  return f'{len(devices)} {kind} device{"s" if len(devices) > 1 else ""}'


def frame(runs: list[Result]) -> pd.DataFrame:
  """One row per run: name, state, varying settings, seed, stride in pixels, all metrics, bands and costs."""
  fields = [*results.varying(runs), 'seed']
  return pd.DataFrame([
    {'run': run.name, 'state': run.state}
    | {field: run.settings.get(field) for field in fields}
    | {'stride_px': run.stride_px}
    | run.scores
    | {f'mean_iou_within_{width}_px': x for width, x in run.bands.items()}
    | run.costs
    for run in runs
  ])  # fmt: skip


if __name__ == '__main__':
  cli.run(main, define_flags)
