"""The readers of the files of a run, one for each file.

A file that is damaged or cannot be read is a `UserError` with its name, what is wrong, and what to do. Nothing here
imports jax or the module of a data set, so that reports and sweeps can read any run.
"""

import io
import json
import math
import os
import posixpath
import zipfile

import ml_collections
import numpy as np
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files, metrics
from fcn_jax.data import dataset
from fcn_jax.errors import UserError
from fcn_jax.run import identity

FORMAT = 2  # of config.json and the other files of a run
# What the names of the files in `eval` have before their ending, by checkpoint: SPLIT.json, SPLIT.best.json.
SUFFIXES = {'last': '', 'best': '.best'}

_RESTORE = 'restore it from a copy, or delete the run directory to train again'
_REWRITE = 'delete it, and run the command that trains the run again'
_UNNEEDED = 'restore it from a copy, or delete it'
_SCORE_AGAIN = 'run python -m fcn_jax.evaluate --workdir={}'
# A start writes `config.json` before any of these.
_LATER_FILES = ('data.json', 'env.json', 'metrics.jsonl', 'timing.jsonl', 'checkpoints')


def file_stem(name: str, head: str, heads, checkpoint: str = 'last') -> str:
  """The name of a head's files in `eval`: SPLIT for the first head, SPLIT.HEAD for the others; SPLIT.best, ..."""
  return (name if head == next(iter(heads)) else f'{name}.{head}') + SUFFIXES[checkpoint]


def is_run(workdir: epath.Path) -> bool:
  """Whether a folder has files of a run."""
  return files.exists(workdir / 'config.json') or bool(_later_files(workdir))


def _later_files(workdir: epath.Path) -> list[str]:
  return [name for name in _LATER_FILES if files.exists(workdir / name)]


def read_plain(workdir: epath.Path) -> dict | None:
  """The content of `config.json`, or None if the folder has no files of a run.

  Raises:
    UserError: the file is damaged, has another format, or is missing although the folder has other files of a run.
  """
  path = workdir / 'config.json'
  saved = _typed(path, files.read_json(path, None, _RESTORE), dict, _RESTORE)
  if saved is None and (later := _later_files(workdir)):
    raise UserError(f'{path} is missing, although there is a run in {workdir} ({", ".join(later)}); {_RESTORE}')
  if saved is not None and saved.get('format') != FORMAT:
    found = f'format {saved["format"]}' if 'format' in saved else 'no "format": an earlier version of fcn_jax made it'
    raise UserError(
      f'{path} has {found}; expected format {FORMAT}. Use the version of fcn_jax that made this run, or train again in '
      'another --workdir'
    )
  return saved


def read_config(workdir: epath.Path) -> ml_collections.ConfigDict:
  """The config of a run; settings that did not exist when it was made have their defaults.

  Raises:
    UserError: there is no run, its config is damaged or invalid, or it has another format.
  """
  saved = read_plain(workdir)
  if saved is None:
    what = 'there is no config.json in it' if files.exists(workdir) else 'there is no folder of this name'
    raise UserError(f'{workdir} holds no run: {what}')
  try:
    config = identity.from_plain(saved)
    config_lib.validate(config, settings=config_lib.flatten(config))
  except UserError as error:
    raise UserError(f'{workdir / "config.json"}: {error}') from error
  return config


def read_status(workdir: epath.Path) -> dict:
  """The content of `status.json`; {} if the run has not started. It has at least `state` and `step`."""
  path = workdir / 'status.json'
  status = _typed(path, files.read_json(path, {}, _REWRITE), dict, _REWRITE)
  if status and not (isinstance(status.get('state'), str) and isinstance(status.get('step', 0), int)):
    raise UserError(f'{path} has no state and step; expected those of a run: {_REWRITE}')
  return status


def read_attempt(workdir: epath.Path) -> dict:
  """The content of `attempt.json`, the process that is training or was the last to train; {} if there is none."""
  path, remedy = workdir / 'attempt.json', 'delete it'
  attempt = _typed(path, files.read_json(path, {}, remedy), dict, remedy)
  if not isinstance(attempt.get('time', 0.0), int | float) or not isinstance(attempt.get('pid', 0), int):
    raise UserError(f'{path} has no time and pid; expected those of a process: {remedy}')
  return attempt


def read_starts(workdir: epath.Path) -> list[dict]:
  """The content of `env.json`: one entry per start of the run; [] if the run has not started."""
  path = workdir / 'env.json'
  starts = _typed(path, files.read_json(path, [], _UNNEEDED), list, _UNNEEDED)
  if not all(isinstance(start, dict) and 'data' in start for start in starts):
    raise UserError(f'{path} is damaged; expected a list of starts, each with the fingerprint of its data: {_UNNEEDED}')
  return starts


def read_fingerprint(workdir: epath.Path) -> str | None:
  """The fingerprint of the data of a run, which its last start and `data.json` have; None if it has not started."""
  path = workdir / 'data.json'
  data = _typed(path, files.read_json(path, {}, _REWRITE), dict, _REWRITE)
  return ([start['data'] for start in read_starts(workdir)] or [data.get('fingerprint')])[-1]


def read_rows(path: epath.Path, last_step: float = math.inf) -> list[dict]:
  """The rows of a `.jsonl` file up to `last_step`; none if there is no file.

  Raises:
    UserError: the file cannot be read, or a line of it is damaged.
  """
  rows = []
  lines = files.read(path).decode(errors='replace').splitlines() if files.exists(path) else []
  for number, line in enumerate(lines, start=1):
    try:
      row = json.loads(line)
      if row['step'] <= last_step:
        rows.append(row)
    except (ValueError, KeyError, TypeError) as error:
      where = 'the last line' if number == len(lines) else f'line {number} of {len(lines)}'
      raise UserError(
        f'{path} is damaged: {where} is {line[:60]!r}; expected a JSON object with a step: delete this line, or '
        'restore the file from a copy'
      ) from error
  return rows


def read_evaluations(workdir: epath.Path, last_step: float = math.inf) -> list[dict]:
  """The rows of `metrics.jsonl` with the scores of an evaluation, up to `last_step`; see `read_rows`."""
  return [row for row in read_rows(workdir / 'metrics.jsonl', last_step) if 'eval/mean_iou' in row]


def read_data(workdir: epath.Path) -> tuple[dict[str, int], dict[str, dataset.Classes]]:
  """The input streams of a run with their channels, and its heads with their classes.

  Raises:
    UserError: there is no `data.json`, or it is damaged.
  """
  path, again = workdir / 'data.json', _SCORE_AGAIN.format(workdir)
  remedy = f'delete it, and {again}, which writes it again'
  saved = _typed(path, files.read_json(path, None, remedy), dict, remedy)
  if saved is None:
    raise UserError(f'{workdir} has no data.json, which a run writes when it starts; {again}, which writes it too')
  try:
    heads = {
      head: dataset.Classes(tuple(values['names']), tuple(map(tuple, values['palette'])), values['ignore'])
      for head, values in saved['heads'].items()
    }
    return dict(saved['inputs']), heads
  except (KeyError, TypeError, AttributeError, ValueError, UserError) as error:
    raise UserError(f'{path} is damaged ({error!r:.100}); {remedy}') from error


def read_scores(workdir: epath.Path, stem: str) -> dict | None:
  """The scores in `eval/STEM.json`, or None if there is no file.

  Raises:
    UserError: the file is damaged.
  """
  path, remedy = workdir / 'eval' / f'{stem}.json', _SCORE_AGAIN.format(workdir)
  scores = _typed(path, files.read_json(path, None, remedy), dict, remedy)
  missing = [] if scores is None else [n for n in (*metrics.PAPERS, 'iou', 'boundary_iou') if n not in scores]
  if missing:
    raise UserError(f'{path} lacks {", ".join(missing)}; {remedy}')
  return scores


def read_network(workdir: epath.Path, stem: str = 'network') -> dict | None:
  """Size and cost of the network in `eval/STEM.json`, or None if there is no file; UserError if it is damaged."""
  path, remedy = workdir / 'eval' / f'{stem}.json', _SCORE_AGAIN.format(workdir)
  network = _typed(path, files.read_json(path, None, remedy), dict, remedy)
  expected = ('parameters', 'gflop', 'size', 'upper_bound', 'kernel_distance')
  missing = [] if network is None else [name for name in expected if name not in network]
  if missing:
    raise UserError(f'{path} lacks {", ".join(missing)}; {remedy}')
  return network


def read_sweep(workdir: epath.Path) -> dict | None:
  """The content of the `sweep.json` of a sweep, or None if there is no file.

  Returns:
    `experiment`, the name of the experiment file; `config`, which the points of the sweep change; and `runs`: the point
    of each run, a dict of settings, by the name of its folder.

  Raises:
    UserError: the file is damaged.
  """
  path, remedy = workdir / 'sweep.json', 'delete it, and run the command of the sweep again, with --config'
  sweep = _typed(path, files.read_json(path, None, remedy), dict, remedy)
  if sweep is None:
    return None
  for name, kind in {'experiment': str, 'config': dict, 'runs': dict}.items():
    if not isinstance(sweep.get(name), kind):
      raise UserError(f'{path} is damaged: {name} is {sweep.get(name)!r:.60}; expected a {kind.__name__}: {remedy}')
  for name, point in sweep['runs'].items():
    if not isinstance(point, dict) or posixpath.basename(name) != name or name in ('', '.', '..'):
      raise UserError(f'{path} is damaged: run {name!r:.60} is {point!r:.60}; expected a dict of settings: {remedy}')
  return sweep


def read_arrays(path: epath.Path) -> dict[str, np.ndarray]:
  """The arrays in an `.npz` file of the folder `eval` of a run.

  Raises:
    UserError: the file is missing or damaged.
  """
  remedy = _SCORE_AGAIN.format(path.parent.parent)
  if not files.exists(path):
    raise UserError(f'{path} is missing; {remedy}')
  content = files.read(path)
  try:
    with np.load(io.BytesIO(content)) as stored:
      return dict(stored)
  except (zipfile.BadZipFile, EOFError, ValueError, KeyError) as error:
    raise UserError(f'{path} is {f"damaged ({error})" if content else "empty"}; {remedy}') from error


def check_all(workdir: os.PathLike | str) -> None:
  """Reads all files that a start of the run reads, so that damage is found before anything is written.

  Raises:
    UserError: one of them is damaged.
  """
  workdir = epath.Path(workdir)
  if read_plain(workdir) is None:
    return
  read_status(workdir)
  read_starts(workdir)
  for name in ('metrics.jsonl', 'timing.jsonl'):
    read_rows(workdir / name)


def _typed(path: epath.Path, value, kind: type, remedy: str):
  """The value, which is None or of this type; else a `UserError`."""
  if value is not None and not isinstance(value, kind):
    raise UserError(f'{path} holds a JSON {type(value).__name__}; expected a {kind.__name__}: {remedy}')
  return value
