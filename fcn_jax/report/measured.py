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
  for field in FIELDS:
    values = {repr(run.settings[field]): run.settings[field] for run in runs if run.settings.get(field)}
    resolved = [run for run in runs if field in run.settings and field not in run.given]
    by_origin: dict[str, set[str]] = {}
    for run in resolved:
      if run.settings[field]:
        by_origin.setdefault(_origin(run), set()).add(repr(run.settings[field]))
    shown = CHOSEN if len(values) > 1 else next(iter(values.values()), None)
    changed = []
    for run in runs if shown else ():
      found = by_origin.get(_origin(run), set())
      if field in run.settings and (found == {repr(run.settings[field])} or (run in resolved and len(found) < 2)):
        changed.append(run)
    runs = [run.but(settings=run.settings | {field: shown}) if run in changed else run for run in runs]
  return runs


def _origin(run: Result) -> str:
  """What a run resolves its settings from: its data and its start."""
  skipped = {*FIELDS, *config_lib.flatten(config_lib.base())} - {'data.name'}  # augmentation changes no measurement
  of_data = (field for field in run.settings if field.startswith('data') and field not in skipped)
  of_start = (field for field in run.settings if field.startswith('init.'))
  return repr([(field, run.settings[field]) for field in sorted([*of_data, *of_start])])


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
