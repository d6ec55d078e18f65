"""The run directory: the only interface between training and reading the results.

Every file is written whole under a temporary name and then renamed, so that a reader never meets half of one; what a
killed run leaves under such a name, its next start removes. `metrics.jsonl` holds only what is a function of the config
and the data: a resumed run's file equals the undisturbed one's. What depends on the machine goes to `timing.jsonl`.
"""

import json
import time

import ml_collections
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax.errors import UserError
from fcn_jax.files import read_json, write, write_json


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
