"""The runs of a sweep: reads an experiment file, overlays each point on its config, and checks every config."""

import dataclasses
import importlib.util
import sys

import ml_collections
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import identity
from fcn_jax.sweep import space


@dataclasses.dataclass(frozen=True)
class Run:
  """One point of a sweep.

  Attributes:
    name: the settings that the point changes; also the name of the run's folder.
    workdir: the run directory.
    config: the complete, validated config; None if the run was read from `sweep.json`.
    command: trains this run alone; empty if the run was read from `sweep.json`.
    point: the settings that the point changes.
    source: the name of the run in this sweep that this run starts from, or None.
  """

  name: str
  workdir: epath.Path
  config: ml_collections.ConfigDict | None
  command: list[str]
  point: dict
  source: str | None


def load(path: str, argument: str) -> tuple[list[dict], ml_collections.ConfigDict]:
  """The points and the config of an experiment file.

  Args:
    path: the file.
    argument: passed to its `get_config`, or '' to call `get_config` without an argument.

  Returns:
    What `sweep()` returns, and what `get_config` returns: the config without command-line overrides.

  Raises:
    UserError: the file has no `sweep()`, or `sweep()` fails or does not return a list of points.
  """
  spec = importlib.util.spec_from_file_location('experiment', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)  # raises nothing: the command has already read a config from this file
  if not hasattr(module, 'sweep'):
    raise UserError(f'{path} defines no sweep(); expected one next to get_config(), as in experiments/ablation.py')
  try:
    points = module.sweep()
  except Exception as error:  # an experiment file may raise anything
    raise UserError(f'{path}: sweep() failed: {type(error).__name__}: {error}') from error
  if not isinstance(points, list) or not points or not all(isinstance(point, dict) for point in points):
    raise UserError(
      f'{path}: sweep() returned {points!r:.200}; expected a list of dicts, built with axis, product, chain and zipped '
      'of fcn_jax.sweep'
    )
  return points, module.get_config(argument) if argument else module.get_config()


def runs(experiment: str, base: ml_collections.ConfigDict, workdir: epath.Path) -> list[Run]:
  """One run per point of an experiment's sweep.

  Args:
    experiment: path of the experiment file and its argument: FILE or FILE:DATASET.
    base: the experiment's config with the command-line overrides; points are overlaid on it.
    workdir: directory of the sweep; each run gets a folder in it.

  Raises:
    UserError: a point has an unknown setting, an invalid value or a contradiction, or occurs twice.
  """
  path, _, argument = experiment.partition(':')
  points, unchanged = load(path, argument)
  before = config_lib.flatten(unchanged)
  overridden = {field: value for field, value in config_lib.flatten(base).items() if value != before.get(field)}
  named = {}
  names = {space.name(point) for point in points}
  for point in points:
    name = space.name(point)
    if name in named:
      raise UserError(f'the sweep has the point {name} twice; remove one')
    source = point.get('init.run') if point.get('init.run') in names else None
    if source:
      point = point | {'init.run': str(workdir / source)}
    flags = [f'--config.{field}={_as_flag(value)}' for field, value in (overridden | point).items()]
    command = [sys.executable, '-m', 'fcn_jax.main', f'--config={experiment}', *flags, f'--workdir={workdir / name}']
    named[name] = Run(name, workdir / name, _overlaid(base, point, name), command, point, source)
  return list(named.values())


def lineage(run: Run, named: dict[str, Run]) -> list[Run]:
  """The run, the run that it starts from, and so on to the first; `named` are the runs of the sweep by name.

  This terminates: a run's name contains the name of the run that it starts from, so it is longer.
  """
  return [run, *(lineage(named[run.source], named) if run.source else [])]


def choose(all_runs: list[Run], *, only: str | None, shard: str | None) -> list[Run]:
  """The runs that --only and --shard select, and the runs that those start from.

  Args:
    all_runs: the runs of the sweep.
    only: settings joined by commas, for example 'stride=8,seed=0'; selects the runs whose names contain all of them.
    shard: 'i/n' selects the i-th of n parts of the sweep, i from 0. Runs that start from each other share a part.

  Raises:
    UserError: `only` selects no run, or `shard` is malformed.
  """
  chosen, named = all_runs, {run.name: run for run in all_runs}
  if only:
    wanted = set(only.split(','))
    chosen = [run for run in all_runs if wanted <= set(run.name.split(','))]
    if not chosen:
      raise UserError(f'--only={only} matches no run; expected settings from run names such as {all_runs[0].name}')
  if shard:
    try:
      index, count = map(int, shard.split('/'))
    except ValueError:
      index, count = -1, 0
    if not 0 <= index < count:
      raise UserError(f'--shard is {shard}; expected i/n with i from 0 to n-1, for example 0/4')
    firsts = list(dict.fromkeys(lineage(run, named)[-1].name for run in chosen))
    chosen = [run for run in chosen if firsts.index(lineage(run, named)[-1].name) % count == index]
  required = {ancestor.name for run in chosen for ancestor in lineage(run, named)}
  return [run for run in all_runs if run.name in required]


def write_sweep(workdir: epath.Path, experiment: str, base: ml_collections.ConfigDict, all_runs: list[Run]) -> None:
  """Writes `sweep.json`: the experiment file, its config, and every run that the sweep ever had.

  A sweep can grow: runs may be added under the same experiment file and config. The list lets a report name the runs
  that are missing.

  Raises:
    UserError: `workdir` holds a run, or a sweep of another experiment file or config.
  """
  mine = {'experiment': experiment, 'config': identity.plain(base), 'runs': {run.name: run.point for run in all_runs}}
  theirs = files.read_json(workdir / 'sweep.json', mine | {'runs': {}})
  if (workdir / 'config.json').exists():
    raise UserError(f'{workdir} holds a single run, not a sweep; choose another --workdir')
  if theirs['experiment'] != experiment:
    raise UserError(f'{workdir} holds the sweep {theirs["experiment"]}, not {experiment}; choose another --workdir')
  if different := identity.difference(mine['config'], theirs['config']):
    raise UserError(f'{workdir} holds a sweep with another config: {different}. Choose another --workdir')
  mine['runs'] = theirs['runs'] | mine['runs']
  files.write_json(workdir / 'sweep.json', mine)


def recorded(workdir: epath.Path) -> list[Run]:
  """The runs that `sweep.json` lists. Neither the experiment file nor the module of the data set is needed.

  Raises:
    UserError: there is no `sweep.json`.
  """
  saved = files.read_json(workdir / 'sweep.json', None)
  if saved is None:
    raise UserError(f'{workdir} holds no sweep: there is no sweep.json in it; to list a new sweep, give --config')
  named = {str(workdir / name): name for name in saved['runs']}
  return [
    Run(name, workdir / name, None, [], point, named.get(point.get('init.run')))
    for name, point in saved['runs'].items()
  ]


def _overlaid(base: ml_collections.ConfigDict, point: dict, name: str) -> ml_collections.ConfigDict:
  config, fields = base.copy_and_resolve_references(), config_lib.flatten(base)
  try:
    for field, value in point.items():
      if field not in fields:
        raise UserError(config_lib.unknown_setting(field, fields))
      config.update_from_flattened_dict({field: value})
    config_lib.validate(config)
  except (TypeError, UserError) as error:  # TypeError: ml_collections rejects a value of another type
    raise UserError(f'point {name} of the sweep: {error}') from error
  return config.lock()


def _as_flag(value) -> str:
  return ','.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
