"""Which runs can be compared, which are runs of the same network, and which differ in the images that they score.

In a cross-validation, a setting such as `data.fold` selects the images that a run is scored on. Runs that differ only
in such settings are folds of the same network.
"""

import collections
from collections.abc import Callable

from fcn_jax import config as config_lib
from fcn_jax.errors import UserError, closest
from fcn_jax.models import names
from fcn_jax.report import markup, measured
from fcn_jax.report.results import Result, in_order
from fcn_jax.run import identity

# The last parts of settings that would mean something else in a table.
_MISLEADING = ('classes', 'every', 'label', 'mean', 'range', 'std')

# The runs of each network, by its values of the settings that form rows and columns.
Cells = dict[tuple, list[Result]]


def compare(runs: list[Result]) -> tuple[list[Result], list[str]]:
  """Marks the runs that cannot be compared with the others, and gives each run its fold.

  Runs are compared if they have the same data set and classes and, unless settings of their data set select other
  images, the same images and labels. The largest group counts. The others become 'incomparable', and the second run of
  the same network, fold and seed becomes a 'duplicate'.

  Returns:
    The runs, and the settings that select the scored images.
  """
  runs = measured.replaced(runs)
  named = [run for run in runs if comparable(run)]
  runs = _marked(runs, named, lambda run: run.settings['data.name'], 'its data set is {}; the tables are of {}')
  runs = _marked(runs, scored(runs), _classes, 'its classes are {}; the tables have {}')
  always = config_lib.flatten(config_lib.base())
  selecting = [f for f in varying(scored(runs)) if f.startswith('data.') and f not in always]
  for group in by_values(scored(runs), selecting).values():
    runs = _marked(runs, group, lambda run: run.images, 'its scores are of other images or labels than the tables')
  for field in tuple(selecting):
    fewer = [f for f in selecting if f != field]
    if all(len({run.images for run in group}) == 1 for group in by_values(scored(runs), fewer).values()):
      selecting = fewer  # the others determine the images
  if selecting:
    runs = [run.but(fold=label(selecting, _values(run, selecting), [run])) if comparable(run) else run for run in runs]
  return _without_duplicates(runs), selecting


def _marked(runs: list[Result], group: list[Result], kind: Callable, sentence: str) -> list[Result]:
  """Marks the runs of the group that are not of the kind that most of the group's runs are that are done."""
  counts = collections.Counter(map(kind, scored(group) or group))
  usual = max(counts, key=counts.get, default=None)
  odd = {
    run.name: f'{sentence.format(kind(run), usual)}: report on it separately' for run in group if kind(run) != usual
  }
  return [run.but(odd[run.name], state='incomparable') if run.name in odd else run for run in runs]


def _classes(run: Result) -> str:
  return ', '.join(names_of_classes(run))


def _without_duplicates(runs: list[Result]) -> list[Result]:
  first, out = {}, []
  for run in sorted(runs, key=lambda run: bool(run.faults)):  # of two copies, the intact one counts
    if run.done:
      first.setdefault(repr(sorted(run.settings.items())), run.name)
  for run in runs:
    name = first[repr(sorted(run.settings.items()))] if run.done else run.name
    sentence = f'has the settings and the seed of {name}, which counts'
    out.append(run if name == run.name else run.but(sentence, state='duplicate'))
  return out


def comparable(run: Result) -> bool:
  """Whether a run has a place in the tables, as a score or as a run that is not done."""
  return bool(run.settings) and run.state != 'incomparable'


def scored(runs: list[Result]) -> list[Result]:
  """The runs that are done."""
  return [run for run in runs if run.done]


def names_of_classes(run: Result) -> list[str]:
  """The classes that a run was scored on."""
  return [name.removeprefix('iou/') for name in run.scores if name.startswith('iou/')]


def varying(runs: list[Result]) -> list[str]:
  """The settings that differ between runs, without the seed."""
  runs = [run for run in runs if comparable(run)]
  fields = dict.fromkeys(field for run in runs for field in run.settings)
  return [f for f in fields if f != 'seed' and len({repr(run.settings.get(f)) for run in runs}) > 1]


def layout(
  runs: list[Result], rows: list[str] | None, cols: list[str] | None, selecting: list[str]
) -> tuple[list[str], list[str]]:
  """The settings that form the rows and the columns of the first table.

  Args:
    runs: all runs of the report.
    rows: the settings of the rows; None selects the varying settings that are not in `cols`.
    cols: the settings of the columns; None selects the varying settings that are not in `rows`. If both are None, the
      last setting that varies forms the columns.
    selecting: the settings that select the scored images. The table combines these folds unless the settings are named.

  Raises:
    UserError: a setting is unknown, or a setting that varies is in neither, so that a table would average over it.
  """
  vary, named = [field for field in varying(runs) if field not in selecting], (rows or []) + (cols or [])
  fields = {field for run in runs for field in run.settings}
  for field in named:
    if field in identity.NEUTRAL:
      raise UserError(f'{field} cannot change scores, so runs that differ only in it count as the same network')
    if field not in fields:
      listed = ', '.join([*vary, *selecting])
      raise UserError(f'there is no setting {field}{closest(field, fields)}; these settings vary: {listed}')
  if rows is None and cols is None:
    return (vary[:-1], vary[-1:]) if len(vary) > 1 else (vary, [])
  unnamed = [field for field in vary if field not in named]
  if rows is None or cols is None:
    return (unnamed, cols) if rows is None else (rows, unnamed)
  if unnamed:
    raise UserError(
      f'{", ".join(unnamed)} varies between these runs, and the table would average different networks; '
      f'add it to --rows or --cols, for example --rows={",".join([*rows, *unnamed])}'
    )
  return rows, cols


def by_values(runs: list[Result], fields: list[str]) -> Cells:
  """The runs that have a place in the tables, by their values of the settings `fields`."""
  cells = collections.defaultdict(list)
  for run in runs:
    if comparable(run):
      cells[_values(run, fields)].append(run)
  return dict(cells)


def _values(run: Result, fields: list[str]) -> tuple:
  return tuple(run.settings.get(field) for field in fields)


def by_fold(members: list[Result]) -> dict[str, list[Result]]:
  """The runs of a network that are done, by fold, each group in the order of its seeds."""
  folds = collections.defaultdict(list)
  for run in sorted(scored(members), key=lambda run: (in_order(run.fold), run.seed)):
    folds[run.fold].append(run)
  return dict(folds)


def short(field: str) -> str:
  """A setting in a table: the last part of its dotted name, unless it would be misleading; 'loss' for `loss.name`."""
  section, _, last = field.rpartition('.')
  if last == 'name':
    return section
  return field if section == 'init' or last in _MISLEADING else last


def texts(fields: list[str], values: tuple, runs: list[Result]) -> list[str]:
  """The values of settings as tables show them: '8 (16 px)' for a stride where `model.shrink` is not 1.

  Args:
    fields: the settings.
    values: their values.
    runs: the runs with these values; they give the strides in pixels.
  """
  out = ['none' if value == '' else markup.printable(str(value)) for value in values]
  pixels = sorted({run.stride_px for run in runs})
  for index, field in enumerate(fields):
    if field == 'model.stride' and pixels != [values[index]]:
      out[index] += f' ({" or ".join(map(str, pixels))} px)'
  return out


def label(fields: list[str], values: tuple, runs: list[Result]) -> str:
  """'stride 8, upsample bilinear_fixed'; without fields, the network. The arguments are those of `texts`."""
  if not fields:
    used = ('backbone', 'stride') if 'stride' in names.NETWORKS[runs[0].settings['model.name']].settings else ()
    fields = ['model.name', *(f'model.{field}' for field in used)]
    values = _values(runs[0], fields)
  parts = [f'{short(field)} {text}' for field, text in zip(fields, texts(fields, values, runs), strict=True)]
  return ', '.join(parts)
