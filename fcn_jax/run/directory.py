"""The run directory: the only interface between training and reading the results.

Every file is written whole under a temporary name and then renamed, so that a reader never meets half of one; what a
killed run leaves under such a name, its next start removes. `metrics.jsonl` holds only what is a function of the config
and the data: a resumed run's file equals the undisturbed one's. What depends on the machine goes to `timing.jsonl`.
"""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import time

import ml_collections
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax.errors import UserError

# What an evaluation reports, by their names in all files.
METRICS = ('pixel_accuracy', 'mean_accuracy', 'mean_iou', 'fw_iou')


_leaves_writing_to_another = False


def leave_writing_to_another() -> None:
  """From now on `write` does nothing: of a run on several hosts, the first one writes."""
  global _leaves_writing_to_another
  _leaves_writing_to_another = True


def write(path: epath.Path, content: str | bytes) -> None:
  """Writes a file whole, or not at all; `UserError` where the disk does not take it."""
  if _leaves_writing_to_another:
    return
  if is_remote(path):
    try:  # no other name first: there, a file is seen whole or not at all
      path.write_bytes(content.encode() if isinstance(content, str) else content)
    except Exception as error:  # each store has its own
      raise UserError(f'cannot write {path}: {error}; what was written before is intact') from error
    return
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):  # the folder may be what is wrong
      temporary.unlink(missing_ok=True)
    raise UserError(f'cannot write {path}: {error.strerror or error}; what was written before is intact') from error


def remove_leftovers(workdir: epath.Path) -> None:
  """Removes the files that a process which was killed had not renamed yet; no other may be writing there."""
  if not is_remote(workdir):
    for path in pathlib.Path(workdir).rglob('.*.tmp'):
      path.unlink(missing_ok=True)


def is_remote(path) -> bool:
  """Whether it is in a bucket, as gs://bucket/run, not on a disk."""
  return '://' in os.fspath(path)


def write_json(path: epath.Path, value) -> None:
  write(path, json.dumps(value, indent=1) + '\n')


def read_json(path: epath.Path, default):
  return json.loads(path.read_text()) if path.exists() else default


class Rows:
  """A file of one JSON object a line, each with its `step`, kept in memory and written by `flush`."""

  def __init__(self, path: epath.Path, last_step: int):
    """Goes on with what is there up to `last_step`; a resumed run makes later rows anew."""
    self._path = path
    lines = path.read_text().splitlines() if path.exists() else []
    self.rows = [row for row in map(json.loads, lines) if row['step'] <= last_step]

  def add(self, step: int, values: dict) -> None:
    self.rows.append({'step': step} | values)

  def at(self, step: int) -> list[dict]:
    return [row for row in self.rows if row['step'] == step]

  def with_field(self, name: str) -> list[dict]:
    return [row for row in self.rows if name in row]

  def flush(self) -> None:
    write(self._path, ''.join(json.dumps(row) + '\n' for row in self.rows))


class Status:
  """`status.json`: the state of the run, its step, its seconds and how often it was started again.

  Attributes:
    state: running, preempted, diverged, failed or done; None before the first `write`.
    step: the step that it was written at.
    wall_seconds: of all starts together.
  """

  def __init__(self, workdir: epath.Path, steps: int):
    self._path, self._steps = workdir / 'status.json', steps
    before = read_json(self._path, {})
    self.state, self.step = before.get('state'), before.get('step', 0)
    self.wall_seconds = before.get('wall_seconds', 0.0)
    self._restarts = before.get('restarts', -1) + 1
    self._started = time.time() - self.wall_seconds

  def write(self, state: str, step: int, **more) -> None:
    """`more` says why, where there is something to say."""
    self.state, self.step = state, step
    self.wall_seconds = round(time.time() - self._started, 2)
    values = {'state': state, 'step': step, 'steps': self._steps} | more
    values |= {'wall_seconds': self.wall_seconds, 'restarts': self._restarts}
    write_json(self._path, values)


def begin(workdir: epath.Path, config: ml_collections.ConfigDict) -> None:
  """Makes the directory, or sees that the run there has the same config."""
  check(workdir, config)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f'cannot write {workdir}: {error.strerror or error}') from error


def check(workdir: epath.Path, config: ml_collections.ConfigDict) -> None:
  """Raises `UserError` where the directory holds a run of another config."""
  theirs = read_json(workdir / 'config.json', None)
  if theirs and (different := difference(plain(settled(workdir, config)), theirs)):
    raise UserError(f'{workdir} holds a run of another config: {different}. Take another --workdir, or delete that one')


def settled(workdir: epath.Path, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config with the preprocessing that came with what the run in the directory started from."""
  saved = read_json(workdir / 'config.json', None)
  if not saved or not (config.init.run or config.init.weights):
    return config
  usual = config_lib.default(config.data.name).data
  with config.copy_and_resolve_references().unlocked() as changed:
    for field in ('mean', 'std'):
      if config.data[field] == usual[field]:
        changed.data[field] = tuple(saved['data'][field])
  return changed.lock()


def plain(config: ml_collections.ConfigDict) -> dict:
  """The config as its file has it: nested dicts, with lists for tuples."""
  return json.loads(config.to_json())


def difference(mine: dict, theirs: dict) -> str:
  """Where two plain configs differ, 'seed is 0 there, 1 here; ...', or '' where they do not.

  A setting that did not exist yet when theirs was made has its default there.
  """
  mine, theirs = (config_lib.flatten(ml_collections.ConfigDict(c)) for c in (mine, theirs))
  if theirs.get('data.name') == mine.get('data.name'):
    defaults = config_lib.flatten(ml_collections.ConfigDict(plain(config_lib.default(mine['data.name']))))
    theirs = defaults | theirs
  different = [name for name in {**theirs, **mine} if mine.get(name) != theirs.get(name)]
  return '; '.join(f'{n} is {theirs.get(n)} there, {mine.get(n)} here' for n in different)


def write_config(workdir: epath.Path, config: ml_collections.ConfigDict) -> None:
  """Makes `config.json`. From then on the directory refuses another config, so not before the data are seen to fit."""
  write_json(workdir / 'config.json', plain(config))


def read_config(workdir: epath.Path) -> ml_collections.ConfigDict:
  """The config of a run; settings that did not exist yet when it was made have their defaults."""
  try:
    saved = read_json(workdir / 'config.json', None)
  except json.JSONDecodeError as error:
    raise UserError(f'{workdir / "config.json"} is damaged: {error}') from error
  if saved is None:
    raise UserError(f'{workdir} holds no run: there is no config.json in it')
  config = from_plain(saved)
  config_lib.validate(config)
  return config


def from_plain(saved: dict) -> ml_collections.ConfigDict:
  """The config of which `plain` made this, with the defaults of what it lacks."""
  fields = config_lib.flatten(ml_collections.ConfigDict(saved))
  config = config_lib.default(fields.get('data.name'))
  config.update_from_flattened_dict(with_tuples(fields))
  return config


def with_tuples(fields: dict) -> dict:
  """Settings as a config has them: JSON knows lists only."""
  return {name: tuple(x) if isinstance(x, list) else x for name, x in fields.items()}


def add_environment(workdir: epath.Path, devices: list[str], fingerprint: str) -> None:
  """Appends to `env.json` what this start runs on: code, versions, devices, command, data."""
  here = pathlib.Path(__file__).parent
  git = ['git', '-C', str(here)]
  names = (
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'tensorflow-datasets',
    'grain',
    'numpy',
    'pillow',
  )
  start = {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'command': [sys.executable, *sys.argv],
    'commit': _output([*git, 'rev-parse', 'HEAD']),
    'dirty': bool(_output([*git, 'status', '--porcelain', '--untracked-files=no'])),
    'python': sys.version.split()[0],
    'versions': {name: importlib.metadata.version(name) for name in names},
    'devices': devices,
    'data': fingerprint,
  }
  write_json(workdir / 'env.json', [*read_json(workdir / 'env.json', []), start])


def _output(command: list[str]) -> str | None:
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
  except OSError:  # no git on this machine
    return None
  return done.stdout.strip() if done.returncode == 0 else None
