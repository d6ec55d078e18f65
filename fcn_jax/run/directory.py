"""The run directory: the only interface between training and reading the results; its writers.

Every file is written under a temporary name and then renamed, so that a reader never sees half of one. The next start
of a killed run removes its temporary files. `metrics.jsonl` depends only on the config and the data, so a resumed run
ends with the same file as an undisturbed one. Whatever depends on the machine goes to `timing.jsonl`. `saved.py` has
the readers. Nothing here imports jax or the module of a data set.
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
from fcn_jax.config import length, normalization
from fcn_jax.data import dataset, names
from fcn_jax.errors import UserError
from fcn_jax.run import identity, saved


class RunDirectory:
  """The directory of one run, and the one object that writes to it.

  `directory / 'eval'` is a path below it.

  Attributes:
    path: of the directory, which may be in a bucket.
    writes: whether this process writes. On several hosts only the first one does.
  """

  def __init__(self, path: os.PathLike | str, *, writes: bool = True):
    """If `writes` is false, everything that would write does nothing."""
    self.path, self.writes, self._made = files.path(path), writes, False

  def __truediv__(self, name: str) -> epath.Path:
    return self.path / name

  def __fspath__(self) -> str:
    return os.fspath(self.path)

  __str__ = __fspath__

  def write(self, name: str, content: str | bytes) -> None:
    """Writes the file `name`, which may include folders; see `files.write`."""
    if self.writes:
      self._check_made()
      files.write(self / name, content)

  def write_json(self, name: str, value) -> None:
    """Writes the file `name` as JSON."""
    if self.writes:
      self._check_made()
      files.write_json(self / name, value)

  def read_json(self, name: str, default):
    """The value in the JSON file `name`, or `default` if there is no file."""
    return files.read_json(self / name, default)

  def make(self) -> None:
    """Makes the directory; from then on, a write fails if the directory is gone."""
    with files.explained(self, 'write'):
      self.path.mkdir(parents=True, exist_ok=True)
    self._made = not files.is_remote(self)

  def _check_made(self) -> None:
    if self._made and not files.exists(self.path):
      raise UserError(f'{self} is gone: another program has deleted or moved this directory while it was in use')

  def remove_leftovers(self) -> None:
    """Removes the temporary files of a killed process; no other process may be writing."""
    files.remove_leftovers(self.path)
    for name in ('eval', 'images'):
      files.remove_leftovers(self / name, below=True)

  def rows(self, name: str, last_step: float = math.inf) -> 'Rows':
    """The rows of a `.jsonl` file up to `last_step`."""
    return Rows(self, name, last_step)

  def status(self, steps: int) -> 'Status':
    """The status of a run of `steps` steps."""
    return Status(self, steps)


class Rows:
  """A file with one JSON object per line, each with its `step`. Rows are kept in memory and written by `flush`.

  Attributes:
    rows: one dict per line.
  """

  def __init__(self, directory: RunDirectory, name: str, last_step: float):
    """Starts with the rows of the file up to `last_step`; a resumed run computes later rows again."""
    self._directory, self._name = directory, name
    self.rows = saved.read_rows(directory / name, last_step)

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
    previous = saved.read_status(directory.path)
    self.state, self.step = previous.get('state'), previous.get('step', 0)
    self.wall_seconds = previous.get('wall_seconds', 0.0)
    self._restarts = previous.get('restarts', -1) + 1
    self._started = time.time() - self.wall_seconds

  def write(self, state: str, step: int, **more) -> None:
    """Writes the file; `more` are further fields, for example `error`, the reason of a failure."""
    self.state, self.step = state, step
    self.wall_seconds = round(time.time() - self._started, 2)
    values = {'state': state, 'step': step, 'steps': self._steps} | more
    values |= {'wall_seconds': self.wall_seconds, 'restarts': self._restarts, 'time': round(time.time(), 1)}
    self._directory.write_json('status.json', values)


def begin(directory: RunDirectory, config: ml_collections.ConfigDict) -> None:
  """Makes the directory, or checks that the run in it has the same config and that none of its files is damaged.

  Raises:
    UserError: the directory has a sweep, or a run of another config or with a damaged file, or cannot be made.
  """
  if files.exists(directory / 'sweep.json'):
    raise UserError(f'{directory} holds a sweep, not a run; choose another --workdir')
  check(directory.path, config)
  saved.check_all(directory.path)
  if directory.writes:
    directory.make()


def check(workdir: epath.Path, config: ml_collections.ConfigDict) -> None:
  """Raises `UserError` if the directory has a run of another config or of another format."""
  theirs = saved.read_plain(workdir)
  if theirs and (different := identity.difference(identity.plain(_resolved(config, theirs)), theirs, workdir)):
    raise UserError(
      f'{workdir} holds a run of another config: {different}. Use another --workdir, where --config.init.run={workdir} '
      'starts from the parameters of this run (once it is done), with --config.init.optimizer=True also from its '
      'optimizer state; or delete this directory'
    )


def resolve_config(workdir: epath.Path, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config as the run in the directory resolved it, with its `model.mean` and `model.std` (`normalization.py`).

  The weights file or the run that it started from may be gone. `data.augment_on` is that of the run, if it is 'auto',
  and so is `train.steps`, if `train.epochs` is set.
  """
  return _resolved(config, saved.read_plain(workdir))


def _resolved(config: ml_collections.ConfigDict, theirs: dict | None) -> ml_collections.ConfigDict:
  """The config as a run resolved it whose plain config is `theirs`."""
  has_start = theirs and (config.init.run or config.init.weights)
  start = ml_collections.ConfigDict(theirs['model']) if has_start else None
  resolved = normalization.resolve(config, start, measured=_measured(config, theirs) if theirs else None)
  if theirs and resolved.data.augment_on == 'auto':
    resolved.data.augment_on = theirs['data'].get('augment_on', 'host')  # earlier versions had no choice
  return length.resolve(resolved, theirs['train']['steps']) if theirs and config.train.epochs else resolved


def _measured(config: ml_collections.ConfigDict, theirs: dict) -> dict:
  """The settings that were measured on the data when the run with the plain config `theirs` first started."""
  is_same = theirs['data'].get('name') == config.data.name
  flat = identity.with_tuples(config_lib.flatten(ml_collections.ConfigDict(theirs)))
  return {field: flat[field] for field in names.MEASURED.get(config.data.name, ()) if is_same}


def write_config(directory: RunDirectory, config: ml_collections.ConfigDict) -> None:
  """Writes `config.json`. From then on the directory refuses another config, so the data must be ready before."""
  directory.write_json('config.json', {'format': saved.FORMAT} | identity.plain(config))


def write_data(directory: RunDirectory, data: dataset.Data) -> None:
  """Writes `data.json`: what a reader of the run needs to know about its data set, without opening it."""
  heads = {head: dataclasses.asdict(classes) for head, classes in data.heads.items()}
  directory.write_json('data.json', {'inputs': data.inputs, 'heads': heads, 'fingerprint': data.fingerprint})
