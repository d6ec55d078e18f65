"""Traces of training steps by jax's profiler."""

import contextlib
import logging

import jax

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run.directory import RunDirectory

logger = logging.getLogger(__name__)


class Profiler:
  """A context that writes a trace of some steps of a run to the folder `profile` of the run directory."""

  def __init__(self, directory: RunDirectory, steps: tuple[int, int] | None):
    """If `steps`, the first and the last step of the trace, is None, nothing is traced.

    Raises:
      UserError: the run directory is not on a disk.
    """
    if steps and files.is_remote(directory):
      raise UserError(f'--profile is given, but --workdir is {directory}; expected a folder on a disk')
    self._folder, self._steps = directory / 'profile', steps if directory.writes else None
    self._running = False

  def __enter__(self) -> 'Profiler':
    return self

  def __exit__(self, *_) -> None:
    """Ends a trace whose last step was not reached."""
    self._stop()
    if self._steps:
      logger.warning('--profile=%d,%d: this start trained none of these steps', *self._steps)

  @contextlib.contextmanager
  def step(self, run):
    """A context for the next step of a run, which has the attributes `step` and `state`."""
    number = run.step + 1
    if self._steps and not self._running and self._steps[0] <= number <= self._steps[1]:
      jax.block_until_ready(run.state)  # no earlier step in the trace
      jax.profiler.start_trace(self._folder)
      self._running = True
    with jax.profiler.StepTraceAnnotation('train', step_num=number):
      yield
    if self._running and number == self._steps[1]:
      jax.block_until_ready(run.state)
      self._stop()

  def _stop(self) -> None:
    if self._running:
      jax.profiler.stop_trace()
      logger.info('profile  %s. To open it: pip install xprof; xprof --logdir=%s', self._folder, self._folder)
      self._running, self._steps = False, None
