"""Turns the run directories of a sweep into tables, plots and a web page.

  python -m fcn_jax.report runs/ablation
  python -m fcn_jax.report runs/ablation --rows=model.stride --cols=model.upsample --metric=pixel_accuracy

For each combination of settings, the tables give the mean and the standard deviation over seeds; differences come with
95 % confidence intervals. Runs that differ only in settings that cannot change scores, such as train.log_every, are
runs of the same network. Unfinished and damaged runs are listed with what is wrong, and excluded.

If runs are scored on different images, as in a cross-validation over data.fold, the tables combine the folds: the score
of the pixels of all folds together, and the mean and standard deviation of the folds' scores. --rows=data.fold shows
each fold.

Prints all tables and writes to FOLDER/report/, or to --out:
  table.md       all tables
  table.tex      the first table, in LaTeX
  table.csv      one row per run
  curves.png     learning curves
  intervals.png  differences between networks
  kernels.png    trained upsampling kernels, if any
  index.html     everything above and sample predictions of every network: one self-contained page that works offline
It replaces these files only if an earlier report wrote them. If they cannot be written, the tables are printed anyway,
and a warning gives the reason.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import collections
import dataclasses
import logging
import os

import pandas as pd
from absl import flags
from etils import epath
from rich.console import Console
from rich.markdown import Markdown

from fcn_jax import cli, files, metrics, outputs
from fcn_jax.errors import UserError
from fcn_jax.report import comparison, differences, markup, results, tables
from fcn_jax.report.results import Result

logger = logging.getLogger('fcn_jax.report')  # here `__name__` is '__main__'


def define_flags() -> None:
  flags.DEFINE_list('rows', None, 'Settings for the rows. Default: all settings that vary, except the last.')
  flags.DEFINE_list('cols', None, 'Settings for the columns. Default: the last setting that varies.')
  flags.DEFINE_enum('metric', 'mean_iou', metrics.METRICS, 'Metric of the first table.')
  flags.DEFINE_enum('checkpoint', 'last', ['last', 'best'], 'Checkpoint whose scores are shown.')
  flags.DEFINE_string('out', None, 'Folder for the files. Default: FOLDER/report.')


def main(arguments: list[str]) -> None:
  if len(arguments) != 1:
    raise UserError(f'expected one folder of runs, for example runs/ablation; got {len(arguments)} arguments')
  given, folder = flags.FLAGS, files.path(arguments[0])
  out = files.path(given.out) if given.out else folder / 'report'
  contents = report(folder, given.rows, given.cols, given.metric, given.checkpoint)
  Console().print(Markdown(contents['table.md']))
  try:
    write(out, contents)
  except UserError as error:
    logger.warning('the files of the report are not written: %s. Choose another folder with --out=DIR', error)
  else:
    print(f'written to {markup.printable(str(out))}')


def title(folder: epath.Path) -> str:
  """The name of a folder, also if its path is '.' or ends in '..'."""
  return folder.name if files.is_remote(folder) else os.path.basename(os.path.abspath(folder)) or str(folder)


def write(out: epath.Path, contents: dict[str, str | bytes]) -> None:
  """Writes the files of a report, by name; raises `UserError` if an existing file is not of an earlier report."""
  outputs.reserve(out, contents)
  for name, content in contents.items():
    files.write(out / name, content)


def report(
  folder: epath.Path,
  rows: list[str] | None = None,
  cols: list[str] | None = None,
  metric: str = 'mean_iou',
  checkpoint: str = 'last',
) -> dict[str, str | bytes]:
  """The files of the report on a folder of runs, by name; the other arguments are the flags."""
  from fcn_jax.report import figures, page

  runs, selecting = comparison.compare(results.read(folder, checkpoint))
  rows, cols = comparison.layout(runs, rows, cols, selecting)
  fields, contents = [field for field in rows + cols if field not in selecting], {}
  cells = comparison.by_values(runs, fields)
  networks, introduction = tables.labeled(cells, fields), about(runs)
  first = tables.main(comparison.by_values(runs, rows + cols), rows, cols, metric, selecting)
  text = [f'# {markup.markdown(title(folder))}\n', *(f'{markup.markdown(sentence)}\n' for sentence in introduction)]
  sections = []
  for part in parts(first, runs, cells, fields, networks):
    plot = None
    if part.figure:
      contents[f'{part.name}.png'] = figures.encoded(part.figure, 'png')
      plot = figures.encoded(part.figure, 'svg')
    if part.table.lines:
      text.append(part.table.markdown())
    sections.append(page.section(part.table, heat=part.heat, plot=plot))
  sections.append(page.gallery(networks))
  return contents | {
    'table.md': '\n'.join(text),
    'table.tex': first.latex(),
    'table.csv': frame(runs).to_csv(index=False),
    'index.html': page.page(title(folder), introduction, sections),
  }


@dataclasses.dataclass(frozen=True)
class Part:
  """A section of the report.

  Attributes:
    table: the table; one without lines is only a heading for its figure.
    name: the file name of the figure.
    figure: a matplotlib figure, or None.
    heat: whether the page colors the table's numbers.
  """

  table: markup.Table
  name: str = ''
  figure: object = None
  heat: bool = False


def parts(
  first: markup.Table, runs: list[Result], cells: comparison.Cells, fields: list[str], networks: tables.Networks
) -> list[Part]:
  """The sections of the report, in order; `cells` are the runs by their values of `fields`."""
  from fcn_jax.report import figures

  listed = [Part(tables.faults(runs)), Part(first)]
  if networks:
    folds, example = tables.folds_of(runs), next(iter(networks.values()))[0]
    found = differences.between(cells, fields, folds)
    curves = markup.Table('Learning curves', 'Mean over runs; the shading runs from the lowest to the highest.', [], [])
    listed += [
      Part(differences.table(found, _images(runs), folds), 'intervals', figures.intervals(found) if found else None),
      Part(tables.scores(networks, folds)),
      Part(tables.published_table(example.settings['data.name'], folds)),
      Part(tables.bands(networks, folds)),
      Part(tables.classes(networks, folds), heat=True),
      Part(tables.precision_and_recall(networks, folds), heat=True),
      Part(tables.kernels(networks), 'kernels', figures.kernels(networks)),
      Part(tables.costs(networks)),
      Part(curves, 'curves', figures.curves(networks)),
    ]
  return [part for part in listed if part.table.lines or part.figure]


def _images(runs: list[Result]) -> int:
  """The number of scored images; in a cross-validation, of all folds."""
  return sum(len(ids) for ids in {run.fold: run.ids for run in runs if run.done}.values())


def about(runs: list[Result]) -> list[str]:
  """The introduction of the report: how many runs are done, and their data, commits, hardware and dates."""
  counts = collections.Counter(run.state for run in runs)
  unfinished = ', '.join(f'{count} {state}' for state, count in counts.items() if state != 'done')
  if unfinished:
    sentences = [f'{counts["done"]} of {len(runs)} runs are done ({unfinished}).']
  else:
    sentences = [f'All {len(runs)} runs are done.' if len(runs) > 1 else 'The run is done.']
  folds = dict.fromkeys(run.fold for run in runs if run.done)
  starts = [run.environment for run in runs if run.done and run.environment]
  if folds:
    # In a cross-validation, each fold has a fingerprint.
    data = dict.fromkeys(start['data'].rpartition(' ')[0] if len(folds) > 1 else start['data'] for start in starts)
    split = next(run.split for run in runs if run.done)
    of_folds = f' in {len(folds)} folds' if len(folds) > 1 else ''
    sentences.append(f'Data: {", ".join(data) or "unknown"}, {_images(runs)} images of {split} scored{of_folds}.')
  if starts:
    commits = dict.fromkeys(
      f'{start["commit"][:7]}{" with local changes" if start["dirty"] else ""}' for start in starts
    )
    days = sorted({start['time'][:10] for start in starts})
    sentences[-1] += (
      f' Commit: {"; ".join(commits)}. Hardware: {" or ".join(dict.fromkeys(map(_hardware, starts)))} per run. '
      f'{" to ".join(dict.fromkeys((days[0], days[-1])))}.'
    )
  return sentences


def _hardware(start: dict) -> str:
  kind, count = start['device'], start['devices']
  return f'{count} {"CPU" if kind == "cpu" else kind} device{"s" if count > 1 else ""}'


def frame(runs: list[Result]) -> pd.DataFrame:
  """One row per run: name, state, varying settings, seed, stride in pixels, all metrics, bands, costs, and faults."""
  fields = [*comparison.varying(runs), 'seed']
  rows = [
    {'run': run.name, 'state': run.state, 'fault': '; '.join(run.faults)}
    | {field: run.settings.get(field) for field in fields}
    | {'stride_px': run.stride_px if run.settings else None}
    | run.scores
    | {f'mean_iou_within_{width}_px': x for width, x in run.bands.items()}
    | run.costs
    for run in runs
  ]
  text = pd.DataFrame([{name: markup.printable(x) if isinstance(x, str) else x for name, x in r.items()} for r in rows])
  return text.rename(columns=markup.printable)


if __name__ == '__main__':
  cli.run(main, define_flags)
