"""Run directories as data: the settings that vary between runs, and what each scored and cost."""

import dataclasses
import functools
import json
import posixpath
import re

import numpy as np
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import runlog
from fcn_jax.errors import UserError

METRICS = ('pixel_accuracy', 'mean_accuracy', 'mean_iou', 'fw_iou')
COSTS = ('images_per_second', 'peak_memory_gib', 'minutes')
# They say where and how a run is computed and kept, not what it is.
_NO_SETTINGS = ('data.dir', 'data.archive', 'data.cache', 'data.threads')


@dataclasses.dataclass(frozen=True)
class Result:
  """What a run directory says.

  Attributes:
    name: of the run.
    path: its directory.
    state: done, or why there is nothing to trust: running, preempted, diverged, failed, missing (not begun).
    settings: by dotted name; without a config, empty.
    scores: of the last evaluation of the split that results are reported on, by `METRICS`, and iou/CLASS; fractions of
      1. Empty unless done.
    costs: by `COSTS`.
    seed: of the run, None where it is missing.
  """

  name: str
  path: epath.Path
  state: str
  settings: dict
  scores: dict
  costs: dict

  @property
  def seed(self) -> int | None:
    return self.settings.get('seed')

  @functools.cached_property
  def _matrices(self) -> tuple[list[str], np.ndarray]:
    with (self.path / 'eval' / f'{_split(self.path)}.npz').open('rb') as file, np.load(file) as stored:
      return list(stored['id']), stored['confusion']

  @property
  def ids(self) -> list[str]:
    """Of the pictures that were scored."""
    return self._matrices[0]

  @property
  def confusion(self) -> np.ndarray:
    """int64 [N, C, C], one matrix a picture."""
    return self._matrices[1]


def read(folder: epath.Path) -> list[Result]:
  """All runs below a folder, in the order of its sweep, or by name.

  Raises:
    UserError: there is no run in it, or one of its files is damaged.
  """
  if not folder.is_dir():
    raise UserError(f'there is no folder {folder}')
  planned = runlog.read_json(folder / 'sweep.json', {}).get('runs', [])
  there = sorted(path.name for path in folder.iterdir() if (path / 'config.json').exists())
  names = planned + [name for name in there if name not in planned]
  if not there:
    raise UserError(f'{folder} holds no run; expected folders with a config.json, as fcn_jax.sweep makes them')
  try:
    return [_read_run(folder / name) for name in names]
  except (json.JSONDecodeError, KeyError) as error:
    raise UserError(f'a run in {folder} is damaged: {type(error).__name__}: {error}') from error


def _read_run(path: epath.Path) -> Result:
  if not (path / 'config.json').exists():
    return Result(path.name, path, 'missing', {}, {}, {})
  settings = config_lib.flatten(runlog.read_config(path))
  status = runlog.read_json(path / 'status.json', {'state': 'running'})
  scores, costs = {}, {}
  if status['state'] == 'done':
    found = runlog.read_json(path / 'eval' / f'{_split(path)}.json', None)
    if found is None:
      raise UserError(f'{path} is done, but has no scores in eval/; fcn_jax.evaluate makes them')
    scores = {name: found[name] for name in METRICS} | {f'iou/{name}': x for name, x in found['iou'].items()}
    timing = runlog.Rows(path / 'timing.jsonl', status['step']).with_field('images_per_second')
    costs = {
      'images_per_second': float(np.median([row['images_per_second'] for row in timing])),
      'peak_memory_gib': timing[-1]['peak_memory_gib'],
      'minutes': status['wall_seconds'] / 60,
    }
  return Result(path.name, path, status['state'], _comparable(settings), scores, costs)


def _split(path: epath.Path) -> str:
  """What results are reported on: the test split where it was scored, else validation."""
  return 'test' if (path / 'eval' / 'test.json').exists() else 'validation'


def _comparable(settings: dict) -> dict:
  """Without what does not matter; a run that another starts from goes by its name without the seed."""
  kept = {field: value for field, value in settings.items() if field not in _NO_SETTINGS}
  kept['init.run'] = re.sub(r'[,+]?\bseed=\d+', '', posixpath.basename(settings['init.run']))
  return kept


def varying(runs: list[Result]) -> list[str]:
  """The settings that are not the same in all runs that have a config, the seed left out."""
  known = [run.settings for run in runs if run.settings]
  fields = dict.fromkeys(field for settings in known for field in settings)
  return [f for f in fields if f != 'seed' and len({repr(settings.get(f)) for settings in known}) > 1]
