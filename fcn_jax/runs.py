"""Lists the runs below a folder.

  python -m fcn_jax.runs                    # below runs
  python -m fcn_jax.runs runs/ablation

Prints one list per folder of runs. Per run: its name, state, step, mean IoU of the last evaluation, age (the time since
the run last wrote its status), and its error or, if there is none, the settings in which the runs of the folder differ,
unless its name says them. A list of a sweep includes the runs that have not started.

States: waiting, running, preempted, diverged, failed or done; stopped, if the process of the run is gone although it is
not done; damaged, if one of its files cannot be used.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import logging
import os
from collections.abc import Iterator

from etils import epath

from fcn_jax import cli, files
from fcn_jax import config as config_lib
from fcn_jax.errors import UserError
from fcn_jax.report import run_files
from fcn_jax.run import identity, progress, saved
from fcn_jax.sweep import points, status

logger = logging.getLogger('fcn_jax.runs')  # here `__name__` may be '__main__'


def main(arguments: list[str]) -> None:
  """The command."""
  if len(arguments) > 1:
    raise UserError(f'found {len(arguments)} arguments; expected at most one folder, for example runs')
  folder = files.path(arguments[0] if arguments else 'runs')
  if not files.exists(folder):
    raise UserError(f'there is no folder {folder} (looked in {os.getcwd()})')
  is_run = run_files.is_run(folder)
  groups = [separate([folder])] if is_run else list(below(folder))
  if not groups:
    raise UserError(f'{folder} holds no run; expected run directories, as fcn_jax.main and fcn_jax.sweep make them')
  done = []
  for runs in groups:
    states = {run.name: status.state(run) for run in runs}
    status.show(runs, states)
    if status.DONE in states.values():
      done.append(folder if is_run else runs[0].workdir.parent)
  if done:
    progress.show_next(*(('report', str(path)) for path in done))


def below(folder: epath.Path) -> Iterator[list[points.Run]]:
  """Yields the runs of each folder that holds runs, `folder` first; hidden folders are left out."""
  folders = sorted(path for path in run_files.listed(folder) if not path.name.startswith('.') and _is_folder(path))
  runs = [path for path in folders if run_files.is_run(path)]
  sweep = _recorded(folder)
  found = sweep + separate([path for path in runs if path.name not in {run.name for run in sweep}])
  if found:
    yield found
  for path in folders:
    if path not in runs:
      yield from below(path)


def _is_folder(path: epath.Path) -> bool:
  return path.is_dir() and (files.is_remote(path) or not os.path.islink(path))


def _recorded(folder: epath.Path) -> list[points.Run]:
  """The runs of a sweep; none if the folder has no usable `sweep.json`."""
  try:
    return points.recorded(folder) if files.exists(folder / 'sweep.json') else []
  except UserError as error:
    logger.warning('%s', error)
    return []


def separate(paths: list[epath.Path]) -> list[points.Run]:
  """Runs that belong to no sweep; their points have the settings that differ, those with the most values first."""
  settings = {path: _settings(path) for path in paths}
  readable = [values for values in settings.values() if values]
  fields = dict.fromkeys(field for values in readable for field in values)
  counts = {field: len({str(values.get(field)) for values in readable}) for field in fields}
  differing = sorted((field for field in fields if counts[field] > 1), key=lambda field: -counts[field])
  return [
    points.Run(path.name, path, None, [], {field: values[field] for field in differing if field in values}, None)
    for path, values in settings.items()
  ]


def _settings(path: epath.Path) -> dict:
  """The settings of a run that can matter to its scores; {} if they cannot be read."""
  try:
    settings = config_lib.flatten(saved.read_config(path))
  except UserError:
    return {}  # the list gives the reason
  return {field: value for field, value in settings.items() if field not in identity.NEUTRAL}


if __name__ == '__main__':
  cli.run(main)
