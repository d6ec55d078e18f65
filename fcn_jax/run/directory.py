"""The run directory: the only interface between training and reading the results.

Every file is written under a temporary name and then renamed, so that a reader never sees half of one. The next start
of a killed run removes its temporary files. `metrics.jsonl` depends only on the config and the data, so a resumed run
ends with the same file as an undisturbed one. Whatever depends on the machine goes to `timing.jsonl`.

Nothing here imports jax or the module of a data set, so that reports and sweeps can read any run.
"""

import dataclasses
import json
import math
import os
import time

import ml_collections
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files
from fcn_jax.data import dataset, names
from fcn_jax.errors import UserError

FORMAT = 2  # of config.json and the other files of a run

# Settings that decide only where and how a run is computed. Two configs that differ only in these are the same run.
WHERE_AND_HOW = ('data.dir', 'data.archive', 'data.sbd_archive', 'data.cache_gib', 'data.threads')


class RunDirectory:
  """The directory of one run, and the one object that writes to it.

  `directory / 'eval'` is a path below it.

  Attributes:
    path: of the directory, which may be in a bucket.
    writes: whether this process writes. On several hosts only the first one does.
  """

  def __init__(self, path: os.PathLike | str, *, writes: bool = True):
    """If `writes` is false, everything that would write does nothing."""
    self.path, self.writes = files.path(path), writes

  def __truediv__(self, name: str) -> epath.Path:
    return self.path / name

  def __fspath__(self) -> str:
    return os.fspath(self.path)

  __str__ = __fspath__

  def write(self, name: str, content: str | bytes) -> None:
    """Writes the file `name`, which may include folders; see `files.write`."""
    if self.writes:
      files.write(self / name, content)

  def write_json(self, name: str, value) -> None:
    """Writes the file `name` as JSON."""
    if self.writes:
      files.write_json(self / name, value)

  def read_json(self, name: str, default):
    """The value in the JSON file `name`, or `default` if there is no file."""
    return files.read_json(self / name, default)

  def rows(self, name: str, last_step: float = math.inf) -> 'Rows':
    """The rows of a `.jsonl` file up to `last_step`."""
    return Rows(self, name, last_step)

  def status(self, steps: int) -> 'Status':
    """The status of a run of `steps` steps."""
    return Status(self, steps)


def read_rows(path: epath.Path, last_step: float = math.inf) -> list[dict]:
  """The rows of a `.jsonl` file up to `last_step`; none if there is no file."""
  lines = path.read_text().splitlines() if path.exists() else []
  return [row for row in map(json.loads, lines) if row['step'] <= last_step]


class Rows:
  """A file with one JSON object per line, each with its `step`. Rows are kept in memory and written by `flush`.

  Attributes:
    rows: one dict per line.
  """

  def __init__(self, directory: RunDirectory, name: str, last_step: float):
    """Starts with the rows of the file up to `last_step`; a resumed run computes later rows again."""
    self._directory, self._name = directory, name
    self.rows = read_rows(directory / name, last_step)

  def add(self, step: int, values: dict) -> None:
    """Adds a row."""
    self.rows.append({'step': step} | values)

  def at(self, step: int) -> list[dict]:
    """The rows of a step."""
    return [row for row in self.rows if row['step'] == step]

  def with_field(self, name: str) -> list[dict]:
    """The rows that have a field."""
    return [row for row in self.rows if name in row]

  def flush(self) -> None:
    """Writes the file."""
    self._directory.write(self._name, ''.join(json.dumps(row) + '\n' for row in self.rows))


class Status:
  """`status.json`: the state of a run, its step, its time and how often it was restarted.

  Attributes:
    state: running, preempted, diverged, failed or done; None before the first `write`.
    step: the step of the last `write`, 0 before the first.
    wall_seconds: the time of all starts together.
  """

  def __init__(self, directory: RunDirectory, steps: int):
    self._directory, self._steps = directory, steps
    previous = directory.read_json('status.json', {})
    self.state, self.step = previous.get('state'), previous.get('step', 0)
    self.wall_seconds = previous.get('wall_seconds', 0.0)
    self._restarts = previous.get('restarts', -1) + 1
    self._started = time.time() - self.wall_seconds

  def write(self, state: str, step: int, **more) -> None:
    """Writes the file; `more` are further fields, for example `error`, the reason of a failure."""
    self.state, self.step = state, step
    self.wall_seconds = round(time.time() - self._started, 2)
    values = {'state': state, 'step': step, 'steps': self._steps} | more
    values |= {'wall_seconds': self.wall_seconds, 'restarts': self._restarts}
    self._directory.write_json('status.json', values)


def begin(directory: RunDirectory, config: ml_collections.ConfigDict) -> None:
  """Makes the directory, or checks that the run in it has the same config.

  Raises:
    UserError: the directory has a run of another config, or cannot be made.
  """
  check(directory.path, config)
  if directory.writes:
    try:
      directory.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise UserError(f'cannot write {directory}: {error.strerror or error}') from error


def check(workdir: epath.Path, config: ml_collections.ConfigDict) -> None:
  """Raises `UserError` if the directory has a run of another config or of another format."""
  theirs = _read_saved(workdir)
  if theirs and (different := difference(plain(resolve_config(workdir, config)), theirs)):
    raise UserError(
      f'{workdir} holds a run of another config: {different}. Use another --workdir, or delete this directory'
    )


def resolve_config(workdir: epath.Path, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config with the normalization constants of the weights or the run that the run in the directory started from.

  If the config itself sets `model.mean` or `model.std`, that value stays; only values of its recipe and data set are
  replaced.
  """
  saved = _read_saved(workdir)
  if not saved or not (config.init.run or config.init.weights):
    return config
  usual = config_lib.usual(config).model
  with config.copy_and_resolve_references().unlocked() as changed:
    for field in ('mean', 'std'):
      if config.model[field] == usual[field]:
        changed.model[field] = tuple(saved['model'][field])
  return changed.lock()


def plain(config: ml_collections.ConfigDict) -> dict:
  """The config as nested dicts, with lists instead of tuples, as JSON has it."""
  return json.loads(config.to_json())


def difference(mine: dict, theirs: dict) -> str:
  """The settings in which two plain configs differ, 'seed is 0 there, 1 here; ...', or '' if they are the same run.

  A setting that did not exist when `theirs` was saved has its default there. `format` and the settings in
  `WHERE_AND_HOW` are not compared.
  """
  mine, theirs = (config_lib.flatten(ml_collections.ConfigDict(c)) for c in (mine, theirs))
  theirs = config_lib.flatten(ml_collections.ConfigDict(plain(_defaults(theirs.get('data.name'))))) | theirs
  skipped = ('format', *WHERE_AND_HOW)
  different = [n for n in {**theirs, **mine} if n not in skipped and mine.get(n) != theirs.get(n)]
  return '; '.join(f'{n} is {theirs.get(n)} there, {mine.get(n)} here' for n in different)


def write_config(directory: RunDirectory, config: ml_collections.ConfigDict) -> None:
  """Writes `config.json`. From then on the directory refuses another config, so the data must be ready before."""
  directory.write_json('config.json', {'format': FORMAT} | plain(config))


def read_config(workdir: epath.Path) -> ml_collections.ConfigDict:
  """The config of a run; settings that did not exist when it was made have their defaults.

  Raises:
    UserError: there is no run, its config is damaged or invalid, or it has another format.
  """
  saved = _read_saved(workdir)
  if saved is None:
    raise UserError(f'{workdir} holds no run: there is no config.json in it')
  try:
    config = from_plain(saved)
    config_lib.validate(config, settings=config_lib.flatten(config))
  except UserError as error:
    raise UserError(f'{workdir / "config.json"}: {error}') from error
  return config


def from_plain(saved: dict) -> ml_collections.ConfigDict:
  """The config that `plain` turned into `saved`, with defaults for settings that it lacks.

  Raises:
    UserError: `saved` has an unknown setting, or a value of the wrong type. If the data set is a module outside the
      package, every setting of the section `data` is accepted.
  """
  fields = with_tuples(config_lib.flatten(ml_collections.ConfigDict(saved)))
  fields.pop('format', None)
  name = fields.get('data.name', '')
  config = _defaults(name)
  defaults = config_lib.flatten(config)
  for field in fields:
    if field not in defaults and not (field.startswith('data.') and name not in names.DATASETS):
      raise UserError(config_lib.unknown_setting(field, defaults))
  try:
    config.update_from_flattened_dict(fields)
  except TypeError as error:
    raise UserError(str(error)) from error
  return config


def with_tuples(fields: dict) -> dict:
  """Settings with tuples, as a config has them, instead of JSON's lists."""
  return {name: tuple(x) if isinstance(x, list) else x for name, x in fields.items()}


def write_data(directory: RunDirectory, data: dataset.Data) -> None:
  """Writes `data.json`: what a reader of the run needs to know about its data set, without opening it."""
  heads = {head: dataclasses.asdict(classes) for head, classes in data.heads.items()}
  directory.write_json('data.json', {'inputs': data.inputs, 'heads': heads, 'fingerprint': data.fingerprint})


def read_data(workdir: epath.Path) -> tuple[dict[str, int], dict[str, dataset.Classes]]:
  """The input streams of a run with their channels, and its heads with their classes.

  Raises:
    UserError: there is no `data.json`.
  """
  saved = files.read_json(workdir / 'data.json', None)
  if saved is None:
    raise UserError(f'{workdir} has no data.json, which a run writes when it starts; train it again')
  heads = {
    head: dataset.Classes(tuple(values['names']), tuple(map(tuple, values['palette'])), values['ignore'])
    for head, values in saved['heads'].items()
  }
  return saved['inputs'], heads


def _read_saved(workdir: epath.Path) -> dict | None:
  """The content of `config.json`, or None if there is none."""
  path = workdir / 'config.json'
  try:
    saved = files.read_json(path, None)
  except json.JSONDecodeError as error:
    raise UserError(f'{path} is damaged: {error}') from error
  if saved is not None and saved.get('format') != FORMAT:
    found = f'format {saved["format"]}' if 'format' in saved else 'no "format": an earlier version of fcn_jax made it'
    raise UserError(
      f'{path} has {found}; expected format {FORMAT}. Use the version of fcn_jax that made this run, or train again in '
      'another --workdir'
    )
  return saved


def _defaults(data_name: str) -> ml_collections.ConfigDict:
  """The settings of every run, and those of a built-in data set. Other data sets' settings are saved with the run."""
  config = config_lib.base()
  if data_name in names.DATASETS:
    config_lib.add_settings(config, names.settings(data_name))
  return config
