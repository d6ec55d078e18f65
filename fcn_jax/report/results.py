"""Run directories as data: the settings that vary between runs, and what each scored and cost."""

import dataclasses
import functools
import json
import posixpath
import re

import numpy as np
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files, metrics
from fcn_jax.errors import UserError
from fcn_jax.run import directory

# They say where and how a run is computed and kept, not what it is.
_NO_SETTINGS = ('data.dir', 'data.archive', 'data.sbd_archive', 'data.cache', 'data.threads')


@dataclasses.dataclass(frozen=True)
class Result:
  """What a run directory says. Scores and costs are empty unless the run is done.

  Attributes:
    name: of the run.
    path: its directory.
    state: done, or why there is nothing to trust: running, preempted, diverged, failed, missing (not begun).
    settings: by dotted name; of a run that is not begun, those that its sweep has for it.
    split: that results are reported on: the test split where it was scored, else validation.
    scores: of the last evaluation on it, by `runlog.METRICS` and iou/CLASS; fractions of 1.
    bands: mean IoU by pixels around label boundaries.
    network: what `eval/network.json` says.
    costs: parameters, gflop, images_per_second, peak_memory_gib, minutes.
  """

  name: str
  path: epath.Path
  state: str
  settings: dict
  split: str = ''
  scores: dict = dataclasses.field(default_factory=dict)
  bands: dict = dataclasses.field(default_factory=dict)
  network: dict = dataclasses.field(default_factory=dict)
  costs: dict = dataclasses.field(default_factory=dict)

  @property
  def seed(self) -> int:
    return self.settings['seed']

  @property
  def done(self) -> bool:
    return self.state == 'done'

  @functools.cached_property
  def _matrices(self) -> dict[str, np.ndarray]:
    return _arrays(self.path / 'eval' / f'{self.split}.npz')

  @functools.cached_property
  def ids(self) -> list[str]:
    """Of the pictures that were scored."""
    return list(self._matrices['id'])

  @property
  def confusion(self) -> np.ndarray:
    """int64 [N, C, C], one matrix a picture."""
    return self._matrices['confusion']

  @functools.cached_property
  def log(self) -> list[dict]:
    """The rows of `metrics.jsonl`."""
    return directory.Rows(self.path / 'metrics.jsonl', np.inf).rows

  @functools.cached_property
  def kernels(self) -> dict[str, np.ndarray]:
    """The trained upsampling kernels [2s, 2s, C] by layer, coarse to fine; empty where upsampling is fixed."""
    path = self.path / 'eval' / 'kernels.npz'
    found = _arrays(path) if path.exists() else {}
    return {name: found[name] for name in sorted(found, key=lambda n: -int(n.rpartition('_')[2]))}

  @functools.cached_property
  def environment(self) -> dict:
    """What its last start ran on."""
    return files.read_json(self.path / 'env.json', [{}])[-1]

  @functools.cached_property
  def examples(self) -> list[str]:
    """Of which pictures there are files ID.image.jpg, ID.label.png and ID.prediction.png in `eval/SPLIT`."""
    found = (self.path / 'eval' / self.split).glob('*.prediction.png')
    return sorted(path.name.removesuffix('.prediction.png') for path in found)


def _arrays(path: epath.Path) -> dict[str, np.ndarray]:
  with path.open('rb') as file, np.load(file) as stored:
    return dict(stored)


def read(folder: epath.Path) -> list[Result]:
  """All runs below a folder, in the order of its sweep, or by name.

  Raises:
    UserError: there is no run in it, or one of its files is damaged.
  """
  if not folder.is_dir():
    raise UserError(f'there is no folder {folder}')
  there = [path.name for path in folder.iterdir() if (path / 'config.json').exists()]
  there.sort(key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)])
  if not there:
    raise UserError(f'{folder} holds no run; expected folders with a config.json, as fcn_jax.sweep makes them')
  try:
    sweep = files.read_json(folder / 'sweep.json', {'runs': {}})
    names = [*sweep['runs'], *(name for name in there if name not in sweep['runs'])]
    return [_read_run(folder / name) if name in there else _missing(folder / name, sweep) for name in names]
  except (json.JSONDecodeError, KeyError, TypeError) as error:
    raise UserError(f'a run in {folder} is damaged: {type(error).__name__}: {error}') from error


def _missing(path: epath.Path, sweep: dict) -> Result:
  settings = config_lib.flatten(directory.from_plain(sweep['config'])) | directory.with_tuples(sweep['runs'][path.name])
  return Result(path.name, path, 'missing', _comparable(settings))


def _read_run(path: epath.Path) -> Result:
  settings = _comparable(config_lib.flatten(directory.read_config(path)))
  status = files.read_json(path / 'status.json', {'state': 'running'})
  if status['state'] != 'done':
    return Result(path.name, path, status['state'], settings)
  split = 'test' if (path / 'eval' / 'test.json').exists() else 'validation'
  scores, network = (files.read_json(path / 'eval' / f'{name}.json', None) for name in (split, 'network'))
  if scores is None or network is None or split not in network['upper_bound']:
    raise UserError(f'{path} is done, but its scores in eval/ are not whole; fcn_jax.evaluate makes them anew')
  timing = directory.Rows(path / 'timing.jsonl', status['step']).with_field('images_per_second')
  return Result(
    path.name,
    path,
    'done',
    settings,
    split,
    {name: scores[name] for name in metrics.METRICS} | {f'iou/{name}': x for name, x in scores['iou'].items()},
    scores['boundary_iou'],
    network,
    {
      'parameters': network['parameters'],
      'gflop': network['gflop'],
      'images_per_second': float(np.median([row['images_per_second'] for row in timing])),
      'peak_memory_gib': timing[-1]['peak_memory_gib'],
      'minutes': status['wall_seconds'] / 60,
    },
  )


def _comparable(settings: dict) -> dict:
  """Without what does not matter; a run that another starts from goes by its name without the seed."""
  kept = {field: value for field, value in settings.items() if field not in _NO_SETTINGS}
  kept['init.run'] = re.sub(r'[,+]?\bseed=\d+', '', posixpath.basename(settings['init.run']))
  return kept


def varying(runs: list[Result]) -> list[str]:
  """The settings that are not the same in all runs, the seed left out."""
  fields = dict.fromkeys(field for run in runs for field in run.settings)
  return [f for f in fields if f != 'seed' and len({repr(run.settings.get(f)) for run in runs}) > 1]
