"""The runs of a sweep: reads an experiment file, overlays each point on its config, and checks every config."""

import dataclasses
import functools
import importlib.util
import json
import os
import posixpath
import sys

import ml_collections
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import identity, saved
from fcn_jax.sweep import space


@dataclasses.dataclass(frozen=True)
class Run:
  """One point of a sweep.

  Attributes:
    name: of the run and its folder: the settings that the point changes, shortened if they are many.
    workdir: the run directory.
    config: the complete, validated config; None if the run was read from `sweep.json`.
    command: trains this run alone; empty if the run was read from `sweep.json`.
    point: the settings that the point changes; the only source of what is selected, ordered and listed.
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
  if not isinstance(points, list) or not points or not all(map(_is_point, points)):
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
  named, found = _named(points), []
  for name, source in _sources(named, base.init.run, workdir).items():
    changed = named[name] | ({'init.run': str(workdir / source)} if source else {})
    config = _overlaid(base, changed, name)
    flags = [f'--config.{field}={space.as_flag(value)}' for field, value in (overridden | changed).items()]
    command = [sys.executable, '-m', 'fcn_jax.main', f'--config={experiment}', *flags, f'--workdir={workdir / name}']
    _check_command(command, name)
    found.append(Run(name, workdir / name, config, command, named[name], source))
  return found


def _is_point(value) -> bool:
  return isinstance(value, dict) and all(isinstance(field, str) for field in value)


def _named(points: list[dict]) -> dict[str, dict]:
  """The points by the names of their runs; `UserError` if two have the same name."""
  named = {}
  for point in points:
    name = space.name(point)
    if named.get(name) == point:
      raise UserError(f'the sweep has the point {name} twice; remove one')
    if name in named:
      raise UserError(
        f'the points {named[name]} and {point} of the sweep would both have the folder {name}; change a value, or put '
        'them into two sweeps'
      )
    named[name] = point
  return named


def _sources(named: dict[str, dict], usual: str, workdir: epath.Path) -> dict[str, str | None]:
  """The name of the run of this sweep that each run starts from, or None.

  Args:
    named: the points by the names of their runs.
    usual: `init.run` of points that do not set it: the name of a run of the sweep, or the address of any run.
    workdir: directory of the sweep.

  Raises:
    UserError: runs start from each other in a circle.
  """
  sources, places = {}, {identity.place(workdir / name): name for name in named}
  for name, point in named.items():
    given, sources[name] = point.get('init.run', usual), None
    if given and isinstance(given, str):  # `_overlaid` refuses other types
      sources[name] = given if given in named else places.get(identity.place(given))
  for name in named:
    chain = [name]
    while source := sources[chain[-1]]:
      if source in chain:
        circle = ', which starts from '.join([*chain[chain.index(source) + 1 :], source])
        raise UserError(f'{source} starts from {circle}: no run can be the first; change init.run of one of them')
      chain.append(source)
  return sources


@functools.cache
def _check_address(given: str) -> None:
  """Raises `UserError` if no run can have this address; the runs of a sweep share few addresses."""
  try:
    files.path(given)
  except UserError as error:
    raise UserError(f'init.run: {error}') from error


def _check_command(command: list[str], name: str) -> None:
  for word in command:
    try:
      valid = b'\0' not in os.fsencode(word)
    except UnicodeEncodeError:
      valid = False
    if not valid:
      raise UserError(f'point {name} of the sweep: a command line cannot contain {word!r}; use another value')


def lineage(run: Run, named: dict[str, Run]) -> list[Run]:
  """The run, the run that it starts from, and so on to the first; `named` are the runs of the sweep by name."""
  found = [run]
  while found[-1].source:
    found.append(named[found[-1].source])
  return found


def choose(all_runs: list[Run], *, only: str | None, shard: str | None) -> list[Run]:
  """The runs that --only and --shard select, and the runs that those start from.

  Args:
    all_runs: the runs of the sweep.
    only: settings joined by commas, for example 'stride=8,seed=0', or the name of a run; selects the runs whose points
      have all of these settings (`space.selects`).
    shard: 'i/n' selects the i-th of n parts of the sweep, i from 0. Runs that start from each other share a part.

  Raises:
    UserError: `only` selects no run, or `shard` is malformed.
  """
  chosen, named = all_runs, {run.name: run for run in all_runs}
  if only:
    chosen = [run for run in all_runs if only == run.name or space.selects(only, run.point)]
    if not chosen:
      example = space.settings(all_runs[0].point)
      raise UserError(f'--only={only} matches no run; expected settings of a run, for example {example}')
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
  if saved.is_run(workdir):
    raise UserError(f'{workdir} holds a single run, not a sweep; choose another --workdir')
  mine = {'experiment': experiment, 'config': identity.plain(base), 'runs': {run.name: run.point for run in all_runs}}
  theirs = saved.read_sweep(workdir) or mine
  if theirs['experiment'] != experiment:
    raise UserError(f'{workdir} holds the sweep {theirs["experiment"]}, not {experiment}; choose another --workdir')
  if different := identity.difference(mine['config'], theirs['config']):
    raise UserError(f'{workdir} holds a sweep with another config: {different}. Choose another --workdir')
  for name in mine['runs'].keys() & theirs['runs'].keys():
    here, there = _comparable(mine['runs'][name]), _comparable(theirs['runs'][name])
    if here != there:
      raise UserError(f'{workdir / name} is the folder of another point: {there} there, {here} here; change a value')
  mine['runs'] = theirs['runs'] | mine['runs']
  files.write_json(workdir / 'sweep.json', mine)


def recorded(workdir: epath.Path) -> list[Run]:
  """The runs that `sweep.json` lists. Neither the experiment file nor the module of the data set is needed.

  Raises:
    UserError: there is no `sweep.json`, or it is damaged.
  """
  sweep = saved.read_sweep(workdir)
  if sweep is None:
    what = 'there is no folder of this name'
    if files.exists(workdir):
      what = 'it is a single run' if saved.is_run(workdir) else 'there is no sweep.json in it'
    raise UserError(f'{workdir} holds no sweep: {what}; to list a new sweep, give --config')
  usual = config_lib.flatten(ml_collections.ConfigDict(sweep['config'])).get('init.run', '')
  sources = _sources(sweep['runs'], usual, workdir)
  return [Run(name, workdir / name, None, [], point, sources[name]) for name, point in sweep['runs'].items()]


def _comparable(point: dict) -> dict:
  """The point as in JSON; of `init.run`, only the last part, because the directory of a sweep can move."""
  plain = json.loads(json.dumps(point))
  return plain | ({'init.run': posixpath.basename(plain['init.run'])} if plain.get('init.run') else {})


def _overlaid(base: ml_collections.ConfigDict, point: dict, name: str) -> ml_collections.ConfigDict:
  config, fields = base.copy_and_resolve_references(), config_lib.flatten(base)
  try:
    for field, value in point.items():
      if field not in fields:
        raise UserError(config_lib.unknown_setting(field, fields))
      config.update_from_flattened_dict({field: value})
    config_lib.validate(config)
    if config.init.run:
      _check_address(config.init.run)
  except (TypeError, UserError) as error:  # TypeError: ml_collections rejects a value of another type
    raise UserError(f'point {name} of the sweep: {error}') from error
  return config.lock()
