"""Checkpoints by Orbax, which are saved while training continues. The newest intact one is restored."""

import contextlib
import errno
import logging
import os
import pathlib
import re
from collections.abc import Iterator

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import hosts

logger = logging.getLogger(__name__)

# Orbax takes the first three for patterns, TensorStore a backslash for a slash, and it wants valid UTF-8.
_UNSAFE = re.compile(r'[*?\[\\\ud800-\udfff]')
_DESCRIPTORS = pathlib.Path('/proc/self/fd')
_FULL = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))  # in the messages of all libraries


class Checkpoints:
  """The folder `checkpoints` of a run, or `best`, which holds the checkpoint with the best validation score."""

  def __init__(self, workdir: os.PathLike | str, keep: int, folder: str = 'checkpoints'):
    """Keeps the newest `keep` checkpoints.

    Raises:
      UserError: the folder cannot be made or read.
    """
    self._path, self._opened = epath.Path(workdir) / folder, contextlib.ExitStack()
    # A killed run leaves half a checkpoint, a temporary directory.
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
    with files.explained(self._path, 'open'):
      self._manager = ocp.CheckpointManager(self._opened.enter_context(_opened(self._path)), options=options)

  def steps(self) -> list[int]:
    """The steps that have a checkpoint, in ascending order."""
    return sorted(self._manager.all_steps())

  def save(self, step: int, state) -> None:
    """Starts saving a step that has no checkpoint yet; the state may be donated as soon as this returns.

    Raises:
      UserError: this checkpoint or the previous one cannot be written.
    """
    if step not in self.steps():
      with self._explained():
        self._check_folder()
        arguments = ocp.args.StandardSave(hosts.to_global(state))
        self._manager.save(step, args=ocp.args.Composite(state=arguments), force=True)

  def _check_folder(self) -> None:
    """Raises an error if the folder is gone, which Orbax would make again, or if no folder can be made in it."""
    if files.is_remote(self._path) or not hosts.is_first_host():
      return
    if not files.exists(self._path):
      raise UserError(f'{self._path} is gone: another program has deleted or moved it while it was in use')
    # Orbax's threads would keep this process alive for five minutes. Nothing is made as a test: they would see it.
    if not files.can_write(self._path):
      reason = errno.EROFS if os.statvfs(self._path).f_flag & os.ST_RDONLY else errno.EACCES
      raise OSError(reason, os.strerror(reason))

  def close(self) -> None:
    """Returns when all checkpoints are on disk; nothing can be saved afterwards.

    Raises:
      UserError: the last checkpoint cannot be written.
    """
    with self._explained():
      self._manager.wait_until_finished()
    self._manager.close()
    self._opened.close()

  @contextlib.contextmanager
  def _explained(self):
    """A context in which a checkpoint that cannot be written is a `UserError`."""
    try:
      yield
    except UserError:
      raise
    except Exception as error:  # Orbax, TensorStore and the file system raise different exceptions for a full disk
      last = self._manager.latest_step()
      last = 'No checkpoint was saved before' if last is None else f'The checkpoint of step {last} is intact'
      remedy = 'Free some space' if any(words in str(error) for words in _FULL) else 'Remove the cause'
      raise UserError(
        f'cannot save a checkpoint in {self._path}: {_reason(error)}. {last}. {remedy}, and run the same command to '
        'resume'
      ) from error

  def restore(self, state):
    """The newest intact checkpoint, on the devices of `state`, or `state` itself if there is no checkpoint.

    A checkpoint that cannot be read, for example because the disk was full, is deleted, and the previous one is used.

    Raises:
      UserError: there are checkpoints, but none can be read, or this user may not read them.
    """
    failed = []
    for step in self.steps()[::-1]:
      _check_permissions(self._path / str(step))
      try:
        restored = hosts.to_local(_read(self._manager, step, hosts.to_global(state)))
      except Exception as error:  # a damaged file makes the readers raise almost anything
        logger.info('the checkpoint of step %d cannot be read (%s: %s)', step, type(error).__name__, _reason(error))
        failed.append(step)
        continue
      for later in failed:  # not before: if no checkpoint can be read, the cause may be elsewhere
        logger.info('the checkpoint of step %d is deleted', later)
        self._manager.delete(later)
      logger.info('resuming from step %d', step)
      return restored
    if failed:
      raise UserError(f'none of the checkpoints in {self._path} can be read; delete the run directory to start over')
    return state


def save_best(workdir: os.PathLike | str, step: int, state) -> None:
  """Saves a step as the only checkpoint in the folder `best`; when this returns, it is on disk."""
  best = Checkpoints(workdir, 1, 'best')
  best.save(step, state)
  best.close()


def check_path(workdir: os.PathLike | str) -> None:
  """Raises `UserError` if a run directory has a name with which no checkpoint could be saved or read."""
  found = _UNSAFE.search(os.fspath(_absolute(workdir)))
  if found and (files.is_remote(workdir) or not _DESCRIPTORS.is_dir()):
    where = 'in a bucket' if files.is_remote(workdir) else 'without /proc'
    raise UserError(f'{workdir}: checkpoints {where} cannot have {found[0]!a} in their path; choose another name')


def _absolute(path: os.PathLike | str) -> epath.Path:
  """The absolute path, which Orbax requires; `resolve` would turn a bucket into a path on a disk."""
  path = epath.Path(path)
  return path if files.is_remote(path) else path.resolve()


@contextlib.contextmanager
def _opened(folder: epath.Path) -> Iterator[epath.Path]:
  """A context with a path of the folder, which need not exist, that Orbax and TensorStore accept.

  If they would misinterpret a character of the path, the path leads there by way of an open descriptor of the parent
  directory. Unlike a symbolic link, this leaves nothing behind, however the process ends.
  """
  folder = _absolute(folder)
  if not _UNSAFE.search(os.fspath(folder)):
    yield folder
    return
  folder.parent.mkdir(parents=True, exist_ok=True)
  descriptor = os.open(folder.parent, os.O_RDONLY)
  try:
    yield epath.Path(_DESCRIPTORS / str(descriptor) / folder.name)
  finally:
    os.close(descriptor)


def _read(manager, step: int, like):
  """The state of a step with the shapes, types and devices of `like`."""
  # The item is named: otherwise Orbax guesses the items of all steps from the newest one, which may be damaged.
  shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
  return manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes)))['state']


def _check_permissions(path: epath.Path) -> None:
  """Raises `UserError` if this user may not read a file of a checkpoint, which is not damaged."""
  if files.is_remote(path):
    return
  failed = []
  for folder, _, names in os.walk(path, onerror=failed.append):
    paths = (os.path.join(folder, name) for name in names)
    failed += [PermissionError(0, '', file) for file in paths if not os.access(file, os.R_OK, effective_ids=True)]
  if denied := [error.filename for error in failed if isinstance(error, PermissionError)]:
    raise UserError(f'cannot read {denied[0]}: {os.strerror(errno.EACCES)}; make the checkpoint readable for this user')


def _reason(error: Exception) -> str:
  """The system's reason: the end of the first line of an error, after the quoted paths."""
  return files.reason(error).rsplit('": ', 1)[-1][:200]


def load_params(workdir: os.PathLike | str, which: str = 'last') -> tuple[int, dict]:
  """The step and the parameters of a run's checkpoint `which`, last or best: a nested dict of numpy arrays.

  Raises:
    UserError: see `load_state`.
  """
  step, state = load_state(workdir, which)
  return step, state['params']


def load_state(workdir: os.PathLike | str, which: str = 'last') -> tuple[int, dict]:
  """The step and the whole state of a run's checkpoint `which`, as nested dicts and lists of numpy arrays.

  Raises:
    UserError: the run does not have this checkpoint, or it cannot be read.
  """
  path = epath.Path(workdir) / {'last': 'checkpoints', 'best': 'best'}[which]
  with files.explained(path):
    steps = ocp.utils.checkpoint_steps(path) if files.exists(path) else []
  if not steps and which == 'best':
    when = 'a run keeps one only with train.patience, or on data sets with both a validation and a test split'
    raise UserError(f'{workdir} has no best checkpoint; {when}')
  if not steps:
    raise UserError(f'{workdir} has no checkpoint; expected a run that has saved one')
  step, handlers = max(steps), {'state': ocp.StandardCheckpointHandler()}
  _check_permissions(path / str(step))
  # On one device of this process, whichever devices the run had.
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  with _opened(path) as opened, ocp.CheckpointManager(opened, item_handlers=handlers) as manager:
    try:
      shapes = manager.item_metadata(step)['state']
      like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)
      state = _read(manager, step, like)
    except Exception as error:  # a damaged file makes the readers raise almost anything
      raise UserError(f'the checkpoint of step {step} in {path} cannot be read: {_reason(error)}') from error
  return step, jax.tree.map(np.asarray, state)
