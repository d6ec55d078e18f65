"""Run directories as data: the settings, scores and costs of each run, and what is wrong with it.

A fault in one run ends neither the report nor the reading of its other files. The files hold the results of a model's
first head.
"""

import collections
import contextlib
import dataclasses
import itertools
import logging
import os
import posixpath
import re
from collections.abc import Sequence

import numpy as np
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.models import names
from fcn_jax.report import run_files
from fcn_jax.run import identity, saved
from fcn_jax.sweep import space

SPLITS = ('test', 'validation')  # that are reported, the first that a run has scores of

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
  """The contents of a run directory. Only runs that are done have scores and costs.

  Attributes:
    name: the name of the run.
    path: its directory.
    state: done, running, stopped (its process is gone), preempted, diverged or failed; waiting (the sweep lists the
      run, but it has not started), damaged (its config, status or scores cannot be read), unscored (it has no scores of
      the split and checkpoint of the report). `comparison.compare` adds incomparable and duplicate.
    settings: the settings that define a network, by dotted names; {} if they cannot be read.
    faults: what is wrong with the run, as sentences.
    split: the split that was scored: test or validation.
    examples_folder: of the predictions that the last evaluation kept, ID.prediction.png.
    examples: the folder of ID.image.jpg and ID.label.png, by the id of each of these images.
    scores: the metrics of the evaluation, by `metrics.METRICS`, and by iou/CLASS and so on; fractions of 1.
    bands: mean IoU near class boundaries, by width in pixels; fractions of 1.
    ids: of the scored images.
    confusion: int64 [N, C, C], one confusion matrix per image.
    images: identifies the scored images and their labels.
    costs: parameters, gflop, images_per_second, peak_memory_gib and minutes, as far as they can be read.
    size: height and width of the images that `gflop` is for: '128x160'.
    upper_bound: the highest scores that a network of this stride can reach, by `metrics.METRICS`.
    kernels: the trained upsampling kernels [k, k, C] by layer, coarse to fine; none if upsampling is fixed.
    distances: how far each class's kernel is from bilinear interpolation, by layer.
    curves: eval/mean_iou and train/loss, each by step.
    environment: the entry of the last start in `env.json`.
    given: the settings that the command of the run or its sweep gives.
    warnings: what seemed to be wrong with the training, from `status.json`.
    classes: name and color of each class.
    fold: the settings that select the scored images, as text; '' if all runs of the report scored the same images.
  """

  name: str
  path: epath.Path
  state: str
  settings: dict
  faults: tuple[str, ...] = ()
  split: str = ''
  examples_folder: epath.Path | None = None
  examples: dict = dataclasses.field(default_factory=dict)
  scores: dict = dataclasses.field(default_factory=dict)
  bands: dict = dataclasses.field(default_factory=dict)
  ids: tuple[str, ...] = ()
  confusion: np.ndarray | None = None
  images: str = ''
  costs: dict = dataclasses.field(default_factory=dict)
  size: str = ''
  upper_bound: dict = dataclasses.field(default_factory=dict)
  kernels: dict = dataclasses.field(default_factory=dict)
  distances: dict = dataclasses.field(default_factory=dict)
  curves: dict = dataclasses.field(default_factory=dict)
  environment: dict = dataclasses.field(default_factory=dict)
  given: frozenset[str] = frozenset()
  warnings: tuple[str, ...] = ()
  classes: list = dataclasses.field(default_factory=list)
  fold: str = ''

  @property
  def seed(self) -> int:
    return self.settings['seed']

  @property
  def done(self) -> bool:
    return self.state == 'done'

  @property
  def stride_px(self) -> int:
    """The stride of the finest scores in pixels of the image; `model.stride` counts cells of `model.shrink` pixels."""
    if 'stride' not in names.NETWORKS[self.settings['model.name']].settings:
      return 1  # a U-Net scores every pixel
    return self.settings['model.stride'] * self.settings['model.shrink']

  def but(self, *faults: str, **changes) -> 'Result':
    """The same run with further faults and changed attributes."""
    return dataclasses.replace(self, faults=(*self.faults, *faults), **changes)


def read(folder: epath.Path, checkpoint: str = 'last', only: Sequence[str] = ()) -> list[Result]:
  """All runs in a folder, in the order of its sweep, or by name if the folder has no `sweep.json`.

  Args:
    folder: the folder of the runs.
    checkpoint: last or best, the checkpoint whose scores are read.
    only: paths of runs below the folder, which are read instead of all runs in it.

  Raises:
    UserError: the folder holds no run, or none that can be read.
  """
  found, sweep = (list(only), {'config': {}, 'runs': {}}) if only else (_found(folder), _read_sweep(folder))
  names = [*sweep['runs'], *(name for name in found if name not in sweep['runs'])]
  runs = [_read_run(folder / name, name, sweep, checkpoint, begun=name in found) for name in names]
  runs = _with_origins(runs)
  splits = collections.Counter(filter(None, (_scored_split(run, checkpoint) for run in runs)))
  split = max(SPLITS, key=lambda name: splits[name])
  runs = [_with_scores(run, split, checkpoint) if run.done else run for run in runs]
  if all(run.state in ('damaged', 'unscored') for run in runs):
    raise UserError('; '.join(fault for run in runs for fault in run.faults))
  return runs


def in_order(name: str) -> list:
  """A sort key with which x=9 comes before x=10."""
  return [(0, int(part), '') if part.isdecimal() else (1, 0, part) for part in re.split(r'(\d+)', name)]


def _found(folder: epath.Path) -> list[str]:
  """The names of the folders that hold a run, including those that cannot be read."""
  with files.explained(folder):
    try:
      entries = [path for path in run_files.listed(folder) if path.name != 'sweep.json']
    except FileNotFoundError as error:
      raise UserError(f'there is no folder {folder}') from error
  found = [path.name for path in entries if run_files.is_run(path)]
  if not found:
    raise UserError(f'{folder} holds no run; expected folders with a config.json, as fcn_jax.sweep writes them')
  return sorted(found, key=in_order)


def locate(paths: list[epath.Path]) -> tuple[epath.Path, list[str]]:
  """A folder and the names of runs in it, as `read` expects them, for paths of runs and of folders of runs.

  A single folder has no names: all of its runs are read, and those that its sweep has not started are listed. The
  folder is relative if all paths are.

  Raises:
    UserError: a path has no run.
  """
  if len(paths) == 1 and not run_files.is_run(paths[0]):
    return paths[0], []
  are_near = not any(files.is_remote(path) or os.path.isabs(path) for path in paths)
  paths = [path if files.is_remote(path) else epath.Path(os.path.abspath(path)) for path in paths]
  runs = [[path] if run_files.is_run(path) else [path / name for name in _found(path)] for path in paths]
  found = list(dict.fromkeys(itertools.chain(*runs)))
  for folder in found[0].parents:
    if all(folder in path.parents for path in found):
      shown = epath.Path(os.path.relpath(folder)) if are_near else folder
      return shown, [str(path.relative_to(folder)) for path in found]
  raise UserError(f'{found[0]} and {found[-1]} have no folder in common; copy the runs to one place')


def _read_sweep(folder: epath.Path) -> dict:
  """The content of `sweep.json`; without one, a sweep without runs."""
  sweep = None
  try:
    sweep = saved.read_sweep(folder)
  except UserError as error:
    logger.warning('%s. The report lacks the runs that have not started', error)
  return sweep or {'config': {}, 'runs': {}}


def _read_run(path: epath.Path, name: str, sweep: dict, checkpoint: str, *, begun: bool) -> Result:
  """The settings and the state of a run, without its scores; `begun` says whether there is a directory."""
  faults, point = [], sweep['runs'].get(name)
  found = run_files.state(path, faults) if begun else {'state': 'waiting', 'settings': {}}
  if not found['settings'] and point is not None:
    with run_files.noted(faults, path.parent / 'sweep.json'):
      base = config_lib.flatten(identity.from_plain(sweep['config']))
      found['settings'] = base | identity.with_tuples(point)
  # How often a run is evaluated decides which of its checkpoints is the best one, and when its patience ends it.
  counts = checkpoint == 'best' or found['settings'].get('train.patience')
  neutral = [field for field in identity.NEUTRAL if field != 'eval.every' or not counts]
  neutral += ['train.steps'] if found['settings'].get('train.epochs') else []  # they follow from the epochs
  given = run_files.overridden(found.get('environment', {}).get('command', '')) | set(point or {})
  data = {'data': found['settings']['data.folder']} if found['settings'].get('data.folder') else {}
  found['settings'] = {field: value for field, value in found['settings'].items() if field not in neutral} | data
  return Result(name, path, faults=tuple(faults), given=frozenset(given), **found)


def _with_origins(runs: list[Result]) -> list[Result]:
  """Replaces the directory in `init.run` by the settings in which the run in it differs, apart from the seed.

  So runs of the same network have the same value, also if they and the runs that they start from are of several seeds
  and folds. For a run in another folder, it is the name without the seed.
  """
  by_name = {run.path.name: run for run in runs}

  def origin(run: Result, after: tuple[str, ...] = ()) -> str:
    name = posixpath.basename(run.settings.get('init.run', '').rstrip('/'))
    source, skipped = by_name.get(name), ('seed', 'init.run', 'data')
    changed = {}
    if source and name not in after:  # otherwise runs start from each other in a circle
      changed = {n: x for n, x in source.settings.items() if n not in skipped and x != run.settings.get(n)}
      before = origin(source, (*after, name))
      changed |= {'init.run': before} if before else {}
    return space.settings(changed) if changed else re.sub(r'[,+]?\bseed=\d+', '', name)

  return [run.but(settings=run.settings | {'init.run': origin(run)}) if run.settings else run for run in runs]


def _scored_split(run: Result, checkpoint: str) -> str | None:
  """The first of `SPLITS` that a run has scores of."""
  for split in SPLITS if run.done else ():
    with contextlib.suppress(UserError):  # `_with_scores` gives the reason
      if files.exists(run.path / 'eval' / f'{split}{saved.SUFFIXES[checkpoint]}.json'):
        return split
  return None


def _with_scores(run: Result, split: str, checkpoint: str) -> Result:
  suffix, faults, found = saved.SUFFIXES[checkpoint], [], {}
  with run_files.noted(faults, run.path / 'eval' / f'{split}{suffix}.json'):
    found = run_files.scores(run.path, f'{split}{suffix}')
  if found is None:
    return run.but(
      f'there are no scores of the {checkpoint} checkpoint on {split}; run python -m fcn_jax.evaluate '
      f'--workdir={run.path} --split={split} --checkpoint={checkpoint}',
      state='unscored',
    )
  if not found:
    return run.but(*faults, state='damaged')
  found |= run_files.details(run.path, split, suffix, faults, run.environment.get('data', ''))
  return run.but(*faults, split=split, **found | {'costs': found['costs'] | run.costs})
