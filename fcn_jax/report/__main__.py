"""Turns run directories into an answer in sentences, tables, plots and a web page.

  python -m fcn_jax.report runs/ablation                   a sweep: all runs in the folder
  python -m fcn_jax.report runs/ablation/stride=8,seed=0   one run
  python -m fcn_jax.report RUN_A RUN_B runs/other          a comparison of any runs and folders of runs
  python -m fcn_jax.report runs/ablation --rows=model.stride --cols=model.upsample --metric=pixel_accuracy

The answer says which value of each setting is best in the mean over the other settings, and what is not decided: a
difference is decided if its 95 % confidence interval excludes 0 and is over several seeds.

For each combination of settings, the tables give the mean and the standard deviation over seeds. Runs that differ only
in settings that cannot change scores, such as train.log_every, are runs of the same network. Unfinished and damaged
runs are listed with what is wrong, and excluded.

If runs are scored on different images, as in a cross-validation over data.fold, the tables combine the folds: the score
of the pixels of all folds together, and the mean and standard deviation of the folds' scores. --rows=data.fold shows
each fold.

Prints the answer and the main tables, and writes to FOLDER/report/, for several runs to comparison/ in the folder that
they have in common, or to --out:
  table.md        the answer and all tables
  table.tex       the first table, in LaTeX, for the package booktabs
  table.csv       one row per run
  curves.png      learning curves
  intervals.png   differences between networks
  confusion.png   confusion matrices
  kernels.png     trained upsampling kernels, if any
  index.html      everything above and sample predictions: one self-contained page that works offline
  runs/NAME.html  a page without figures per run that is done, if there are several; index.html links to them

It replaces these files only if an earlier report wrote them. If they cannot be written, the tables are printed anyway,
and a warning gives the reason.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence

from absl import flags
from etils import epath
from rich.console import Console
from rich.markdown import Markdown

from fcn_jax import cli, files, metrics, outputs
from fcn_jax.errors import UserError
from fcn_jax.report import answer, comparison, differences, markup, overview, results, tables
from fcn_jax.report.results import Result
from fcn_jax.run import progress

logger = logging.getLogger('fcn_jax.report')  # here `__name__` is '__main__'


def define_flags() -> None:
  flags.DEFINE_list('rows', None, 'Settings for the rows. Default: all settings that vary, except the last.')
  flags.DEFINE_list('cols', None, 'Settings for the columns. Default: the last setting that varies.')
  flags.DEFINE_enum('metric', 'mean_iou', metrics.METRICS, 'Metric of the first table.')
  flags.DEFINE_enum('checkpoint', 'last', ['last', 'best'], 'Checkpoint whose scores are shown.')
  flags.DEFINE_string('out', None, 'Folder for the files. Default: FOLDER/report, or comparison.')


def main(arguments: list[str]) -> None:
  if not arguments:
    raise UserError('expected a folder of runs or runs, for example runs/ablation; got no arguments')
  given = flags.FLAGS
  folder, only = results.locate(list(map(files.path, arguments)))
  where = folder / only[0] if len(only) == 1 else folder
  out = files.path(given.out) if given.out else where / ('comparison' if len(only) > 1 else 'report')
  runs, selecting = comparison.compare(results.read(folder, given.checkpoint, only))
  contents = with_pages(_heading(folder, only), runs, selecting, given.rows, given.cols, given.metric, given.checkpoint)
  Console().print(Markdown(markup.unfolded(contents['table.md'])))
  try:
    write(out, contents)
  except UserError as error:
    logger.warning('the files of the report are not written: %s. Choose another folder with --out=DIR', error)
  else:
    print(f'written to {markup.printable(str(out))}: index.html is the page for a browser')
  _show_next(runs, given.checkpoint)


def _show_next(runs: list[Result], checkpoint: str) -> None:
  """Shows commands for the run with the highest mean IoU, if a run is done."""
  if done := comparison.scored(runs):
    best = max(done, key=lambda run: run.scores['mean_iou']).path
    of_best = ['--checkpoint=best'] if checkpoint == 'best' else []
    of_run = [('report', *of_best, str(best))] if len(runs) > 1 else []
    progress.show_next(*of_run, ('predict', f'--workdir={best}', *of_best, progress.kept_image(best)))


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
  *,
  only: Sequence[str] = (),
) -> dict[str, str | bytes]:
  """The files of a report, by name.

  Args:
    folder: the folder of the runs.
    rows: the flag.
    cols: the flag.
    metric: the flag.
    checkpoint: the flag.
    only: paths of runs below the folder, instead of all of its runs.
  """
  runs, selecting = comparison.compare(results.read(folder, checkpoint, only))
  return with_pages(_heading(folder, only), runs, selecting, rows, cols, metric, checkpoint)


def with_pages(
  heading: str,
  runs: list[Result],
  selecting: list[str],
  rows: list[str] | None,
  cols: list[str] | None,
  metric: str,
  checkpoint: str,
) -> dict[str, str | bytes]:
  """The files of a report, with the pages of its runs; see `report` and `written`."""
  rows, cols = comparison.layout(runs, rows, cols, selecting)
  contents = written(heading, runs, rows, cols, selecting, metric, checkpoint)
  for run, address in overview.pages(runs):
    page = written(run.name, [run], [], [], [], metric, checkpoint, drawn=False)
    contents[address] = page['index.html']
  return contents


def written(
  heading: str,
  runs: list[Result],
  rows: list[str],
  cols: list[str],
  selecting: list[str],
  metric: str,
  checkpoint: str,
  *,
  drawn: bool = True,
) -> dict[str, str | bytes]:
  """The files of a report without the pages of its runs.

  Args:
    heading: the title.
    runs: from `comparison.compare`.
    rows: from `comparison.layout`.
    cols: from `comparison.layout`.
    selecting: from `comparison.compare`.
    metric: the flag.
    checkpoint: the flag.
    drawn: whether there are figures, which take most of the time.
  """
  from fcn_jax.report import figures, page

  fields, contents = [field for field in rows + cols if field not in selecting], {}
  cells, folds = comparison.by_values(runs, fields), tables.folds_of(runs)
  pairs = differences.between(cells, fields, folds)
  first = tables.main(comparison.by_values(runs, rows + cols), rows, cols, metric, selecting)
  sentences = [overview.about(runs), *answer.sentences(runs, cells, fields, pairs, folds)]
  text = [f'# {markup.markdown(heading)}\n', *(f'{markup.markdown(sentence)}\n' for sentence in sentences)]
  sections = []
  for part in parts(first, runs, cells, fields, pairs, checkpoint):
    plot, figure = None, part.figure() if part.figure and drawn else None
    if figure:
      contents[f'{part.name}.png'] = figures.encoded(figure, 'png')
      plot = figures.encoded(figure, part.form)
    if part.table.lines:
      text.append(part.table.markdown())
    if part.table.lines or figure or part.content:
      sections.append(part.content or page.section(part.table, heat=part.heat, plot=plot, form=part.form))
  return contents | {
    'table.md': '\n'.join(text),
    'table.tex': first.latex(),
    'table.csv': overview.csv(runs),
    'index.html': page.page(heading, sentences, sections),
  }


def _heading(folder: epath.Path, only: Sequence[str]) -> str:
  """The name of a folder or of a single run, or how many runs of a folder are compared."""
  if len(only) == 1:
    return title(folder / only[0])
  return f'{len(only)} runs of {title(folder)}' if only else title(folder)


@dataclasses.dataclass(frozen=True)
class Part:
  """A section of the report.

  Attributes:
    table: the table; one without lines is only a heading for its figure.
    name: the file name of the figure.
    figure: makes a matplotlib figure, or None; None without one.
    heat: whether the page colors the table's numbers.
    form: the format of the figure in the page: svg, or png for images.
    content: HTML of the section, if it is only on the page.
  """

  table: markup.Table
  name: str = ''
  figure: Callable[[], object] | None = None
  heat: bool = False
  form: str = 'svg'
  content: str = ''


def parts(
  first: markup.Table,
  runs: list[Result],
  cells: comparison.Cells,
  fields: list[str],
  pairs: list[differences.Difference],
  checkpoint: str,
) -> list[Part]:
  """The sections of the report, in order; the arguments are those of `written` and its variables."""
  from fcn_jax.report import figures, gallery

  networks, listed = tables.labeled(cells, fields), [Part(tables.faults(runs)), Part(tables.warnings(runs))]
  if not networks:
    listed += [Part(first)]
  else:
    folds, example = tables.folds_of(runs), next(iter(networks.values()))[0]
    found, of_pairs = differences.tables(pairs, tables.images(runs), folds)
    plot = (lambda: figures.intervals(differences.effects(pairs))) if pairs else None
    of_confusion = EXTREMES if len(networks) > 1 else CONFUSION
    listed += [
      *map(Part, [overview.trained(runs, checkpoint), overview.settings(runs), overview.listed(runs), first]),
      Part(found, 'intervals', plot),
      *([Part(of_pairs)] if of_pairs else []),
      Part(tables.scores(networks, folds)),
      Part(tables.published_table(example.settings['data.name'], folds)),
      Part(tables.classes(networks, folds), heat=True),
      Part(tables.precision_and_recall(networks, folds), heat=True),
      Part(_only('Confusion matrices', of_confusion), 'confusion', lambda: figures.confusions(networks), form='png'),
      Part(_only('Sample predictions', ''), content=gallery.gallery(networks)),
      Part(tables.bands(networks, folds)),
      Part(_only('Learning curves', CURVES), 'curves', lambda: figures.curves(cells, fields)),
      Part(tables.kernels(networks), 'kernels', lambda: figures.kernels(networks), form='png'),
      Part(tables.costs(networks)),
    ]
  return [*listed, Part(overview.abbreviations())]


CONFUSION = 'A row is a class of the labels and sums to one; a column is a predicted class.'
EXTREMES = f'The network with the highest mean IoU, and the one with the lowest, over all of their runs. {CONFUSION}'
CURVES = 'Thick lines are means over runs, thin lines are runs. Upper bounds are those of the stride, in pixels.'


def _only(heading: str, note: str) -> markup.Table:
  """A table without lines: the heading of a figure."""
  return markup.Table(heading, note, [], [])


if __name__ == '__main__':
  cli.run(main, define_flags)
