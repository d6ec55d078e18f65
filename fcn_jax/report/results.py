"""Run directories as data: the settings that vary between runs, and the scores and costs of each run.

The files that are read hold the results of a model's first head.
"""

import collections
import dataclasses
import functools
import json
import posixpath
import re

import numpy as np
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files, metrics
from fcn_jax.errors import UserError, closest
from fcn_jax.run import identity, saved


@dataclasses.dataclass(frozen=True)
class Result:
  """The contents of a run directory. Only runs that are done have scores and costs.

  Attributes:
    name: the name of the run.
    path: its directory.
    state: done, running, preempted, diverged, failed, or missing (the sweep lists the run, but it has not started).
    settings: the config by dotted names; for a missing run, the config in `sweep.json`.
    split: the split that was scored: test, or validation if the data set has no test split.
    scores: the metrics of the last evaluation, by `metrics.METRICS` and iou/CLASS; fractions of 1.
    bands: mean IoU near class boundaries, by width in pixels; fractions of 1.
    network: the contents of `eval/network.json`.
    costs: parameters, gflop, images_per_second, peak_memory_gib and minutes.
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

  @property
  def stride_px(self) -> int:
    """The stride of the finest scores in pixels of the image; `model.stride` counts cells of `model.shrink` pixels."""
    return self.settings['model.stride'] * self.settings['model.shrink']

  @property
  def scored(self) -> epath.Path:
    """The folder of the example images of the last evaluation."""
    return self.path / 'eval' / self.split

  @functools.cached_property
  def _matrices(self) -> dict[str, np.ndarray]:
    return saved.read_arrays(self.path / 'eval' / f'{self.split}.npz')

  @functools.cached_property
  def ids(self) -> list[str]:
    """The ids of the scored images."""
    return list(self._matrices['id'])

  @property
  def confusion(self) -> np.ndarray:
    """int64 [N, C, C], one confusion matrix per image."""
    return self._matrices['confusion']

  @functools.cached_property
  def log(self) -> list[dict]:
    """The rows of `metrics.jsonl`."""
    return saved.read_rows(self.path / 'metrics.jsonl')

  @functools.cached_property
  def kernels(self) -> dict[str, np.ndarray]:
    """The trained upsampling kernels [k, k, C] by layer, coarse to fine; empty if upsampling is fixed."""
    path = self.path / 'eval' / 'kernels.npz'
    found = saved.read_arrays(path) if path.exists() else {}
    return {name: found[name] for name in sorted(found, key=lambda n: -int(re.search(r'\d+', n).group()))}

  @functools.cached_property
  def environment(self) -> dict:
    """The entry of the run's last start in `env.json`."""
    return (saved.read_starts(self.path) or [{}])[-1]

  @functools.cached_property
  def examples(self) -> list[str]:
    """The ids of the images that have files ID.image.jpg, ID.label.png and ID.prediction.png in `scored`."""
    return sorted(path.name.removesuffix('.prediction.png') for path in self.scored.glob('*.prediction.png'))


# The runs of each network, by its values of the settings that vary; the runs of a network differ in the seed only.
Cells = dict[tuple, list[Result]]


def read(folder: epath.Path) -> list[Result]:
  """All runs in a folder, in the order of its sweep, or by name if the folder has no `sweep.json`.

  Raises:
    UserError: the folder holds no run, or a file of a run is damaged.
  """
  if not folder.is_dir():
    raise UserError(f'there is no folder {folder}')
  found = [path.name for path in folder.iterdir() if (path / 'config.json').exists()]
  found.sort(key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)])
  if not found:
    raise UserError(f'{folder} holds no run; expected folders with a config.json, as fcn_jax.sweep writes them')
  try:
    sweep = files.read_json(folder / 'sweep.json', {'runs': {}})
    names = [*sweep['runs'], *(name for name in found if name not in sweep['runs'])]
    return [_read_run(folder / name) if name in found else _missing(folder / name, sweep) for name in names]
  except (json.JSONDecodeError, KeyError, TypeError) as error:
    raise UserError(f'a run in {folder} is damaged: {type(error).__name__}: {error}') from error


def varying(runs: list[Result]) -> list[str]:
  """The settings that differ between runs, without the seed."""
  fields = dict.fromkeys(field for run in runs for field in run.settings)
  return [f for f in fields if f != 'seed' and len({repr(run.settings.get(f)) for run in runs}) > 1]


def layout(runs: list[Result], rows: list[str] | None, cols: list[str] | None) -> tuple[list[str], list[str]]:
  """The settings that form the rows and the columns of the first table.

  Args:
    runs: all runs of the report.
    rows: the settings of the rows; None selects the varying settings that are not in `cols`.
    cols: the settings of the columns; None selects the varying settings that are not in `rows`. If both are None, the
      last setting that varies forms the columns.

  Raises:
    UserError: a setting is unknown, or a setting that varies is in neither, so that a table would average over it.
  """
  vary, named = varying(runs), (rows or []) + (cols or [])
  fields = {field for run in runs for field in run.settings}
  for field in named:
    if field not in fields:
      raise UserError(f'there is no setting {field}{closest(field, fields)}; these settings vary: {", ".join(vary)}')
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


def grouped(runs: list[Result], fields: list[str]) -> Cells:
  """The runs by their values of the settings `fields`.

  Raises:
    UserError: two runs with equal settings have the same seed.
  """
  cells = collections.defaultdict(list)
  for run in runs:
    cells[tuple(run.settings[field] for field in fields)].append(run)
  for values, members in cells.items():
    seeds = [run.seed for run in members]
    if len(set(seeds)) < len(seeds):
      names = ', '.join(run.name for run in members)
      raise UserError(f'{names} have the same settings {values} and share a seed; keep one run per seed')
  return dict(cells)


def done(cells: Cells) -> Cells:
  """The runs that are done; networks without any are left out."""
  finished = {key: [run for run in members if run.done] for key, members in cells.items()}
  return {key: members for key, members in finished.items() if members}


def _missing(path: epath.Path, sweep: dict) -> Result:
  settings = config_lib.flatten(identity.from_plain(sweep['config'])) | identity.with_tuples(sweep['runs'][path.name])
  return Result(path.name, path, 'missing', _comparable(settings))


def _read_run(path: epath.Path) -> Result:
  settings = _comparable(config_lib.flatten(saved.read_config(path)))
  status = saved.read_status(path) or {'state': 'running'}
  if status['state'] != 'done':
    return Result(path.name, path, status['state'], settings)
  split = 'test' if (path / 'eval' / 'test.json').exists() else 'validation'
  scores, network = saved.read_scores(path, split), saved.read_network(path)
  if scores is None or network is None or split not in network['upper_bound']:
    raise UserError(
      f'{path} is done, but its scores in eval/ are incomplete; recompute them with '
      f'python -m fcn_jax.evaluate --workdir={path}'
    )
  timing = [row for row in saved.read_rows(path / 'timing.jsonl', status['step']) if 'images_per_second' in row]
  costs = {
    'parameters': network['parameters'],
    'gflop': network['gflop'],
    'images_per_second': float(np.median([row['images_per_second'] for row in timing])),
    'peak_memory_gib': timing[-1]['peak_memory_gib'],
    'minutes': status['wall_seconds'] / 60,
  }
  bands = scores['boundary_iou']
  scores = {name: scores[name] for name in metrics.METRICS} | {f'iou/{name}': x for name, x in scores['iou'].items()}
  return Result(path.name, path, 'done', settings, split, scores, bands, network, costs)


def _comparable(settings: dict) -> dict:
  """The settings that define a network; in `init.run`, only the name of the run is kept, without its seed."""
  kept = {field: value for field, value in settings.items() if field not in identity.WHERE_AND_HOW}
  kept['init.run'] = re.sub(r'[,+]?\bseed=\d+', '', posixpath.basename(settings['init.run']))
  return kept
