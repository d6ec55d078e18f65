"""The files of one run as a report needs them. A file that cannot be read is a fault of the run, not an error."""

import contextlib
import hashlib
import os
import re
import shlex
import time
from collections.abc import Iterator

import numpy as np
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files, metrics
from fcn_jax.errors import UserError
from fcn_jax.run import kept, lock, progress, saved

_SOURCE, _PREDICTION = ('image.jpg', 'label.png'), 'prediction.png'  # the endings of the files of an example


@contextlib.contextmanager
def noted(faults: list[str], path: epath.Path) -> Iterator[None]:
  """A context in which an error becomes an entry of `faults`; `path` is the file or folder that is read."""
  try:
    yield
  except UserError as error:
    faults.append(str(error))
  except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
    faults.append(f'{path} is damaged ({type(error).__name__}: {error}); restore it from a copy')


def listed(folder: epath.Path) -> list[epath.Path]:
  """The files and folders in a folder. `iterdir` leaves out those whose names end in ~."""
  return list(folder.iterdir()) if files.is_remote(folder) else [folder / name for name in os.listdir(folder)]


def is_run(path: epath.Path) -> bool:
  """Whether a folder has files of a run, or may not be read."""
  try:
    return saved.is_run(path)
  except UserError:  # `state` gives the reason
    return True


def state(path: epath.Path, faults: list[str]) -> dict:
  """The attributes of a `Result` that any run may have: settings, state, environment, warnings and its time."""
  found = {'state': 'damaged', 'settings': {}}
  with noted(faults, path / 'config.json'):
    found['settings'] = config_lib.flatten(saved.read_config(path))
    with noted(faults, path / 'status.json'):
      status = saved.read_status(path)
      now, seconds = status.get('state', 'running'), status.get('wall_seconds')
      if now == 'running' and not lock.is_training(path):
        now = 'stopped'
        gone = f'{path / "status.json"} is missing; run the command that trains the run again'
        faults.append(_stopped(status) if status else gone)
      if status.get('error') and now != 'done':
        faults.append(str(status['error']))
      found |= {'state': now, 'costs': {} if seconds is None else {'minutes': seconds / 60}}
      found['warnings'] = tuple(map(str, status.get('warnings', ())))
    with noted(faults if found['state'] == 'done' else [], path / 'env.json'):
      found['environment'] = _start(path)
  return found


def _stopped(status: dict) -> str:
  of = f' of {status["steps"]}' if 'steps' in status else ''
  age = f', {progress.duration(time.time() - status["time"])} ago' if 'time' in status else ''
  return f'its process is gone: it stopped at step {status.get("step", 0)}{of}{age}'


def scores(path: epath.Path, stem: str) -> dict | None:
  """The attributes of a `Result` that hold its scores, or None if there is no `eval/STEM.json`.

  Raises:
    UserError: one of the files is damaged, or they are of different evaluations.
  """
  found = saved.read_scores(path, stem)
  if found is None:
    return None
  arrays = saved.read_arrays(path / 'eval' / f'{stem}.npz')
  ids, confusion = tuple(map(str, arrays['id'])), arrays['confusion'].astype(np.int64)
  recomputed = metrics.summarize(confusion.sum(0), tuple(found['iou']))
  if len(ids) != len(confusion) or any(abs(recomputed[name] - found[name]) > 1e-6 for name in metrics.PAPERS):
    raise UserError(
      f'{path / "eval" / stem}.json and .npz are of different evaluations; run python -m fcn_jax.evaluate '
      f'--workdir={path}'
    )
  return {
    'scores': flat(recomputed),
    'bands': {width: value if value is None else float(value) for width, value in found['boundary_iou'].items()},
    'ids': ids,
    'confusion': confusion,
    'images': hashlib.sha256(repr(ids).encode() + confusion.sum(2).tobytes()).hexdigest(),
  }


def flat(summary: dict) -> dict:
  """The scores that `metrics.summarize` returns, without nesting: by `metrics.METRICS`, and iou/CLASS and so on."""
  of_class = {f'{kind}/{name}': x for kind in metrics.OF_CLASS for name, x in summary[kind].items()}
  return {n: summary[n] for n in metrics.METRICS} | of_class


def details(path: epath.Path, split: str, suffix: str, faults: list[str], fingerprint: str) -> dict:
  """The other attributes of a `Result`; what cannot be read is missing.

  Args:
    path: the run directory.
    split: the split that was scored.
    suffix: of the files in `eval/`, before the ending.
    faults: gets a sentence per file that cannot be read.
    fingerprint: of the data of the run.
  """
  found, evaluated = {'costs': {}}, path / 'eval'
  examples = evaluated / f'{split}{suffix}'
  with noted(faults, evaluated / f'network{suffix}.json'):
    found |= _network(path, split, suffix)
  with noted(faults, path / 'timing.jsonl'):
    rows = [row for row in _rows(path, 'timing.jsonl') if 'images_per_second' in row]
    if rows:
      speed, memory = np.median([float(row['images_per_second']) for row in rows]), rows[-1]['peak_memory_gib']
      found['costs'] |= {'images_per_second': float(speed), 'peak_memory_gib': float(memory)}
  with noted(faults, path / 'metrics.jsonl'):
    rows, names = _rows(path, 'metrics.jsonl'), ('eval/mean_iou', 'train/loss')
    found['curves'] = {name: {row['step']: float(row[name]) for row in rows if name in row} for name in names}
  with noted(faults, path / 'data.json'):
    found['classes'] = _classes(path)
  with noted(faults, examples):
    sources = [examples, kept.images_folder(path, fingerprint) / split]
    found |= {'examples_folder': examples, 'examples': _examples(examples, sources)}
  return found


def _classes(path: epath.Path) -> list[tuple[str, tuple[int, ...]]]:
  """Name and color of each class of the first head, from `data.json`."""
  first, *_ = saved.read_data(path)[1].values()
  return [(str(name), tuple(map(int, color))) for name, color in zip(first.names, first.palette, strict=True)]


def _rows(path: epath.Path, name: str) -> list[dict]:
  rows = saved.read_rows(path / name)
  if not rows:
    what = 'empty' if files.exists(path / name) else 'missing'
    raise UserError(f'{path / name} is {what}; restore it from a copy')
  return rows


def _start(path: epath.Path) -> dict:
  """The last start of the run, from `env.json`."""
  starts = saved.read_starts(path)
  if not starts:
    raise UserError(f'{path / "env.json"} has no start; restore it from a copy')
  start = {name: str(starts[-1][name] or 'unknown') for name in ('data', 'commit', 'time')}
  devices = [str(kind) for kind in starts[-1]['devices']]
  command = _command(list(map(str, starts[-1].get('command', []))))
  return start | {'dirty': bool(starts[-1]['dirty']), 'device': devices[0], 'devices': len(devices), 'command': command}


def _command(arguments: list[str]) -> str:
  """A command as a user types it: 'python -m fcn_jax.main --config=...'."""
  if len(arguments) > 1 and (module := re.search(r'fcn_jax/(\w+)\.py$', arguments[1])):
    arguments = ['python', '-m', f'fcn_jax.{module[1]}', *arguments[2:]]
  return shlex.join(arguments)


def overridden(command: str) -> set[str]:
  """The settings that a command sets with flags such as --config.model.mean=0,0,0."""
  return set(re.findall(r'--?config\.([\w.]+)', command))


def _network(path: epath.Path, split: str, suffix: str) -> dict:
  """The attributes from `eval/network.json` and `eval/kernels.npz`."""
  network = saved.read_network(path, f'network{suffix}')
  if network is None:
    raise UserError(f'{path / "eval"}/network{suffix}.json is missing; run python -m fcn_jax.evaluate --workdir={path}')
  found = {
    'costs': {name: float(network[name]) for name in ('parameters', 'gflop')},
    'size': '{}x{}'.format(*map(int, network['size'])),
    'upper_bound': {name: float(bound) for name, bound in network['upper_bound'].get(split, {}).items()},
  }
  if network['kernel_distance']:  # otherwise upsampling is fixed
    arrays = saved.read_arrays(path / 'eval' / f'kernels{suffix}.npz')
    layers = sorted(arrays, key=lambda name: -int(re.search(r'\d+', name).group()))
    found['kernels'] = {name: arrays[name] for name in layers}
    found['distances'] = {name: list(map(float, network['kernel_distance'][name])) for name in layers}
  return found


def _examples(folder: epath.Path, sources: list[epath.Path]) -> dict[str, epath.Path]:
  """The first of `sources` that has image and label, by the id of each image with a prediction in `folder`."""
  found = {source: _below(source) for source in sources}
  out = {}
  for name in sorted(found[folder]):
    stem = name.removesuffix(f'.{_PREDICTION}')
    if stem != name:
      whole = (x for x in sources if {f'{stem}.{kind}' for kind in _SOURCE} <= found[x])
      if source := next(whole, None):
        out[stem] = source
  return out


def _below(folder: epath.Path) -> set[str]:
  """The paths of all files below a folder, relative to it."""
  pending, names = [folder] if files.exists(folder) else [], set()
  with files.explained(folder):
    while pending:
      for path in listed(pending.pop()):
        if path.is_dir():
          pending.append(path)
        else:
          names.add(str(path.relative_to(folder)))
  return names
