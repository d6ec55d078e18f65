"""Checkpoints by Orbax: saved while training goes on, and restored from the newest one that is whole."""

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import hosts


class Checkpoints:
  """The folder `checkpoints` of a run, or `best`, which holds the one that did best on the validation split."""

  def __init__(self, workdir: epath.Path, keep: int, folder: str = 'checkpoints'):
    """`keep` is how many of the newest stay."""
    self._path = _folder(workdir, folder)
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      cleanup_tmp_directories=True,  # what a killed run left half-written
    )
    self._manager = ocp.CheckpointManager(self._path, options=options)

  def steps(self) -> list[int]:
    return sorted(self._manager.all_steps())

  def save(self, step: int, state) -> None:
    """Starts saving; the state may be donated at once. Errors of the save before come up here."""
    if step in self.steps():
      return
    try:
      arguments = ocp.args.StandardSave(hosts.to_global(state))
      self._manager.save(step, args=ocp.args.Composite(state=arguments), force=True)
    except Exception as error:
      raise self._not_saved(error) from error

  def wait(self) -> None:
    """Returns when all that was saved is on disk."""
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._not_saved(error) from error

  def close(self) -> None:
    """Returns when all that was saved is on disk; nothing can be saved afterwards."""
    self.wait()
    self._manager.close()

  def _not_saved(self, error: Exception) -> UserError:
    # Orbax, TensorStore and the file system each have their own exceptions for a full disk.
    last = self._manager.latest_step()
    there = 'no checkpoint was saved before' if last is None else f'that of step {last} is there'
    return UserError(
      f'cannot save a checkpoint in {self._path}: {_reason(error)}. {there[0].upper()}{there[1:]}; make room, '
      'and the same command goes on from it'
    )

  def restore(self, state, say):
    """The newest whole checkpoint, on the devices of `state`, or `state` itself where there is none.

    A checkpoint that cannot be read, cut short by a full disk say, is deleted, and the one before is taken; `say` is
    told.

    Raises:
      UserError: if there are checkpoints, but none can be read.
    """
    failed = []
    for step in self.steps()[::-1]:
      try:
        restored = hosts.to_local(_read(self._manager, step, hosts.to_global(state)))
      except Exception as error:  # whatever a damaged file makes the readers raise
        say(f'the checkpoint of step {step} cannot be read ({type(error).__name__}: {_reason(error)})')
        failed.append(step)
        continue
      for later in failed:  # only now: if none can be read, the fault may lie elsewhere
        say(f'the checkpoint of step {later} is deleted')
        self._manager.delete(later)
      say(f'going on from step {step}')
      return restored
    if failed:
      raise UserError(f'none of the checkpoints in {self._path} can be read; delete the run to start it anew')
    return state


def _folder(workdir, name: str) -> epath.Path:
  """Orbax wants an absolute path; `resolve` would make one of a bucket's too."""
  workdir = epath.Path(workdir)
  return (workdir if files.is_remote(workdir) else workdir.resolve()) / name


def _read(manager, step: int, like):
  """The state of a step with the shapes, types and devices of `like`."""
  # By its name: without one, Orbax guesses from the newest step what all of them hold, and that one may be damaged.
  shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
  return manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes)))['state']


def _reason(error: Exception) -> str:
  """What the system said: the end of the first line of an error, behind the paths in quotes."""
  lines = str(error).strip().splitlines() or ['']
  return lines[0].rsplit('": ', 1)[-1][:200]


def load_params(workdir: epath.Path, which: str = 'last') -> tuple[int, dict]:
  """The step and the parameters of a run's last checkpoint, or of its best one: a nested dict of numpy arrays."""
  path = _folder(workdir, {'last': 'checkpoints', 'best': 'best'}[which])
  steps = ocp.utils.checkpoint_steps(path) if path.exists() else []
  if not steps:
    what = 'checkpoint; expected a run that has saved one'
    if which == 'best':
      what = 'best checkpoint; a run keeps one where it has a validation split beside its test split'
    raise UserError(f'{workdir} has no {what}')
  step = max(steps)
  # On one device of this process, whatever the devices were that saved it.
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  with ocp.CheckpointManager(path, item_handlers={'state': ocp.StandardCheckpointHandler()}) as manager:
    try:
      shapes = manager.item_metadata(step)['state']
      state = _read(
        manager, step, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)
      )
    except Exception as error:  # whatever a damaged file makes the readers raise
      raise UserError(f'the checkpoint of step {step} in {path} cannot be read: {_reason(error)}') from error
  return step, jax.tree.map(np.asarray, state['params'])
