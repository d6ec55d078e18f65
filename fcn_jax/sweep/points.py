"""The runs of a sweep: read from `sweep()` of an experiment file, laid over its config, and checked, all of them."""

import dataclasses
import importlib.util
import sys

import ml_collections
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files
from fcn_jax.errors import UserError, closest
from fcn_jax.run import directory
from fcn_jax.sweep import space


@dataclasses.dataclass(frozen=True)
class Run:
  """One point of a sweep.

  Attributes:
    name: what it changes, and the name of its folder.
    workdir: that folder.
    config: whole and valid.
    flags: the command line's part that makes this config.
    point: the settings that it changes.
    source: the name of the run of this sweep that it starts from, or None.
  """

  name: str
  workdir: epath.Path
  config: ml_collections.ConfigDict
  flags: tuple[str, ...]
  point: dict
  source: str | None

  def command(self) -> list[str]:
    """The plain command of the run."""
    return [sys.executable, '-m', 'fcn_jax.main', *self.flags, f'--workdir={self.workdir}']


def load(path: str, argument: str) -> tuple[list[dict], ml_collections.ConfigDict]:
  """What `sweep()` and `get_config(argument)` of an experiment file return, the second without any override."""
  spec = importlib.util.spec_from_file_location('experiment', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)  # a file that does not load was told of already, when its config was read
  if not hasattr(module, 'sweep'):
    raise UserError(f'{path} defines no sweep(); expected one beside get_config(), as in experiments/ablation.py')
  try:
    points = module.sweep()
  except Exception as error:  # whatever the file may raise
    raise UserError(f'{path}: sweep() does not run: {type(error).__name__}: {error}') from error
  if not isinstance(points, list) or not points or not all(isinstance(point, dict) for point in points):
    raise UserError(f'{path}: sweep() returned {points!r:.200}; expected a list of dicts, made by fcn_jax.sweep.space')
  return points, module.get_config(argument) if argument else module.get_config()


def runs(experiment: str, base: ml_collections.ConfigDict, workdir: epath.Path) -> list[Run]:
  """Every point of the sweep of an experiment.

  Args:
    experiment: path of its file, with its argument: FILE or FILE:DATASET.
    base: its config, overridden: what the points are laid over.
    workdir: of the sweep.

  Raises:
    UserError: at the first point with an unknown setting, a wrong value or a contradiction, or that stands there twice.
  """
  path, _, argument = experiment.partition(':')
  points, unchanged = load(path, argument)
  before = config_lib.flatten(unchanged)
  overridden = {field: value for field, value in config_lib.flatten(base).items() if value != before.get(field)}
  made = {}
  names = {space.name(point) for point in points}
  for point in points:
    name = space.name(point)
    if name in made:
      raise UserError(f'the sweep has the point {name} twice')
    source = point.get('init.run') if point.get('init.run') in names else None
    if source:
      point = point | {'init.run': str(workdir / source)}
    made[name] = Run(
      name=name,
      workdir=workdir / name,
      config=_laid_over(base, point, name),
      flags=(f'--config={experiment}', *(f'--config.{f}={_as_flag(x)}' for f, x in (overridden | point).items())),
      point=point,
      source=source,
    )
  return list(made.values())


def lineage(run: Run, made: dict[str, Run]) -> list[Run]:
  """The run, the one that it starts from, and so on to the first.

  It ends: a run's name holds that of the one before, so it is longer.
  """
  found = [run]
  while found[-1].source:
    found.append(made[found[-1].source])
  return found


def choose(all_runs: list[Run], *, only: str | None, shard: str | None) -> list[Run]:
  """The runs that --only names, and of these the share --shard=i/n, i from 0; with them those that they start from.

  Runs that start from each other go to the same shard.
  """
  chosen, made = all_runs, {run.name: run for run in all_runs}
  if only:
    wanted = set(only.split(','))
    chosen = [run for run in all_runs if wanted <= set(run.name.split(','))]
    if not chosen:
      raise UserError(f'--only={only} leaves no run; expected parts of names, as {all_runs[0].name}')
  if shard:
    try:
      index, count = map(int, shard.split('/'))
    except ValueError:
      index, count = -1, 0
    if not 0 <= index < count:
      raise UserError(f'--shard is {shard}; expected i/n with i from 0 to n-1, as 0/4')
    firsts = list(dict.fromkeys(lineage(run, made)[-1].name for run in chosen))
    chosen = [run for run in chosen if firsts.index(lineage(run, made)[-1].name) % count == index]
  needed = {before.name for run in chosen for before in lineage(run, made)}
  return [run for run in all_runs if run.name in needed]


def claim(workdir: epath.Path, experiment: str, base: ml_collections.ConfigDict, all_runs: list[Run]) -> None:
  """Writes `sweep.json`, or sees that the sweep there has the same experiment file and config.

  Its runs may be others: a sweep can grow. The file lists all that it ever had, so that a report can tell which are
  missing.
  """
  mine = {'experiment': experiment, 'config': directory.plain(base), 'runs': {run.name: run.point for run in all_runs}}
  theirs = files.read_json(workdir / 'sweep.json', mine | {'runs': {}})
  if (workdir / 'config.json').exists():
    raise UserError(f'{workdir} holds a run, not a sweep; take another --workdir')
  if theirs['experiment'] != experiment:
    raise UserError(f'{workdir} holds the sweep {theirs["experiment"]}, not {experiment}; take another --workdir')
  if different := directory.difference(mine['config'], theirs['config']):
    raise UserError(f'{workdir} holds a sweep of another config: {different}. Take another --workdir')
  mine['runs'] = theirs['runs'] | mine['runs']
  files.write_json(workdir / 'sweep.json', mine)


def _laid_over(base: ml_collections.ConfigDict, point: dict, name: str) -> ml_collections.ConfigDict:
  config, known = base.copy_and_resolve_references(), config_lib.flatten(base)
  try:
    for field, value in point.items():
      if field not in known:
        raise UserError(f'there is no setting {field}{closest(field, known)}')
      config.update_from_flattened_dict({field: value})
    config_lib.validate(config)
  except (TypeError, UserError) as error:  # ml_collections refuses another type
    raise UserError(f'point {name} of the sweep: {error}') from error
  return config.lock()


def _as_flag(value) -> str:
  return ','.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
