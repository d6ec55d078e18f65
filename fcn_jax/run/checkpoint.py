"""Checkpoints by Orbax, which are saved while training continues. The newest intact one is restored."""

import contextlib
import logging
import os

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import hosts

logger = logging.getLogger(__name__)


class Checkpoints:
  """The folder `checkpoints` of a run, or `best`, which holds the checkpoint with the best validation score."""

  def __init__(self, workdir: os.PathLike | str, keep: int, folder: str = 'checkpoints'):
    """Keeps the newest `keep` checkpoints."""
    self._path = _folder(workdir, folder)
    # A killed run leaves half a checkpoint, a temporary directory.
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
    self._manager = ocp.CheckpointManager(self._path, options=options)

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
        arguments = ocp.args.StandardSave(hosts.to_global(state))
        self._manager.save(step, args=ocp.args.Composite(state=arguments), force=True)

  def close(self) -> None:
    """Returns when all checkpoints are on disk; nothing can be saved afterwards.

    Raises:
      UserError: the last checkpoint cannot be written.
    """
    with self._explained():
      self._manager.wait_until_finished()
    self._manager.close()

  @contextlib.contextmanager
  def _explained(self):
    """A context in which a checkpoint that cannot be written is a `UserError`."""
    try:
      yield
    except Exception as error:  # Orbax, TensorStore and the file system raise different exceptions for a full disk
      last = self._manager.latest_step()
      last = 'No checkpoint was saved before' if last is None else f'The checkpoint of step {last} is intact'
      raise UserError(
        f'cannot save a checkpoint in {self._path}: {_reason(error)}. {last}. Free some space, and run the same '
        'command to resume'
      ) from error

  def restore(self, state):
    """The newest intact checkpoint, on the devices of `state`, or `state` itself if there is no checkpoint.

    A checkpoint that cannot be read, for example because the disk was full, is deleted, and the previous one is used.

    Raises:
      UserError: there are checkpoints, but none can be read.
    """
    failed = []
    for step in self.steps()[::-1]:
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


def _folder(workdir: os.PathLike | str, name: str) -> epath.Path:
  """Orbax requires an absolute path; `resolve` would also turn a bucket into one."""
  workdir = epath.Path(workdir)
  return (workdir if files.is_remote(workdir) else workdir.resolve()) / name


def _read(manager, step: int, like):
  """The state of a step with the shapes, types and devices of `like`."""
  # The item is named: otherwise Orbax guesses the items of all steps from the newest one, which may be damaged.
  shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
  return manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes)))['state']


def _reason(error: Exception) -> str:
  """The system's reason: the end of the first line of an error, after the quoted paths."""
  lines = str(error).strip().splitlines() or ['']
  return lines[0].rsplit('": ', 1)[-1][:200]


def load_params(workdir: os.PathLike | str, which: str = 'last') -> tuple[int, dict]:
  """The step and the parameters of a run's checkpoint `which`, last or best: a nested dict of numpy arrays.

  Raises:
    UserError: the run does not have this checkpoint, or it cannot be read.
  """
  path = _folder(workdir, {'last': 'checkpoints', 'best': 'best'}[which])
  steps = ocp.utils.checkpoint_steps(path) if path.exists() else []
  if not steps and which == 'best':
    when = 'a run keeps one only on data sets with both a validation and a test split'
    raise UserError(f'{workdir} has no best checkpoint; {when}')
  if not steps:
    raise UserError(f'{workdir} has no checkpoint; expected a run that has saved one')
  step = max(steps)
  # On one device of this process, whichever devices the run had.
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  with ocp.CheckpointManager(path, item_handlers={'state': ocp.StandardCheckpointHandler()}) as manager:
    try:
      shapes = manager.item_metadata(step)['state']
      like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)
      state = _read(manager, step, like)
    except Exception as error:  # a damaged file makes the readers raise almost anything
      raise UserError(f'the checkpoint of step {step} in {path} cannot be read: {_reason(error)}') from error
  return step, jax.tree.map(np.asarray, state['params'])
