"""Settings whose values follow from the data and from what a run starts from: a report compares those instead.

A run resolves such settings when it first starts, `model.mean` for example (`config/normalization.py`). A user may also
set them, and then runs may differ in them.
"""

import itertools

from fcn_jax import config as config_lib
from fcn_jax.data import names
from fcn_jax.report.results import Result

FIELDS = tuple(dict.fromkeys(itertools.chain(*names.MEASURED.values())))
DATA = 'data'  # the folder of a data set, in place of `data.folder`, which moves with the data
CHOSEN = 'chosen at start'


def replaced(runs: list[Result]) -> list[Result]:
  """The runs, with `CHOSEN` for the values of `FIELDS` that they resolved, and with `DATA` only if the data differ.

  A value was resolved if the command or the sweep of the run does not give it, and all such runs on the same data and
  from the same start have it. If only one value occurs, it is also that of the runs that have not started.
  """
  runs = _with_data(runs)
  origins = _origins(runs)
  for field in FIELDS:
    runs = _with_chosen(runs, origins, field)
  return runs


def _with_chosen(runs: list[Result], origins: list[str], field: str) -> list[Result]:
  """`replaced` for one of `FIELDS`; `origins` are those of the runs."""
  values = {repr(run.settings[field]): run.settings[field] for run in runs if run.settings.get(field)}
  if not values:
    return runs
  shown = CHOSEN if len(values) > 1 else next(iter(values.values()))
  resolved: dict[str, set[str]] = {origin: set() for origin in origins}
  for run, origin in zip(runs, origins, strict=True):
    if run.settings.get(field) and field not in run.given:
      resolved[origin].add(repr(run.settings[field]))
  out = []
  for run, origin in zip(runs, origins, strict=True):
    is_resolved = field not in run.given and len(resolved[origin]) < 2
    if field in run.settings and (is_resolved or resolved[origin] == {repr(run.settings[field])}):
      run = run.but(settings=run.settings | {field: shown})
    out.append(run)
  return out


def _origins(runs: list[Result]) -> list[str]:
  """What each run resolves its settings from: its data and its start."""
  skipped = {*FIELDS, *config_lib.flatten(config_lib.base())} - {'data.name'}  # augmentation changes no measurement

  def is_source(field: str) -> bool:
    return field.startswith('init.') or (field.startswith('data') and field not in skipped)

  return [repr(sorted((field, x) for field, x in run.settings.items() if is_source(field))) for run in runs]


def _with_data(runs: list[Result]) -> list[Result]:
  """Gives runs on the same data the same value of `DATA`.

  Removes it unless it differs among runs whose other settings of the data, such as the fold, are equal.
  """
  folders: dict[str, str] = {}
  networks: dict[str, set[str]] = {}
  out = []
  for run in runs:
    fingerprint = run.environment.get('data', '')
    if fingerprint and DATA in run.settings:
      run = run.but(settings=run.settings | {DATA: folders.setdefault(fingerprint, run.settings[DATA])})
    out.append(run)
    of_data = repr(sorted((f, x) for f, x in run.settings.items() if f.startswith('data.') and f not in FIELDS))
    networks.setdefault(of_data, set()).add(run.settings.get(DATA, ''))
  if any(len(of_network) > 1 for of_network in networks.values()):
    return out
  return [run.but(settings={field: x for field, x in run.settings.items() if field != DATA}) for run in out]
