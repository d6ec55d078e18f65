"""Too little memory on a device: what was needed, and which settings need less."""

import contextlib
import re
import traceback

import jax

from fcn_jax import machine
from fcn_jax.errors import UserError

_EXHAUSTED = 'RESOURCE_EXHAUSTED'


@contextlib.contextmanager
def explained(config):
  """A context in which too little memory on a device is a `UserError` that names the settings of the run."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if not is_exhausted(error):
      raise
    raise UserError(_message(config, error)) from error


def is_exhausted(error: Exception) -> bool:
  """Whether a device had too little memory, for a program or for its arrays."""
  return _EXHAUSTED in str(error)


def _message(config, error: Exception) -> str:
  of_xla = (str(error).partition(_EXHAUSTED)[2].strip(': \n').splitlines() or ['out of memory'])[0].rstrip('. ')
  needed = re.sub(r'(\d+) bytes', lambda match: f'{int(match[1]) / 2**30:.2f} GiB', of_xla)
  stats = jax.local_devices()[0].memory_stats()  # None for a CPU
  limit = f' ({stats["bytes_limit"] / 2**30:.2f} GiB for this process)' if stats and 'bytes_limit' in stats else ''
  frames = traceback.walk_tb(error.__traceback__)
  if any(frame.f_globals.get('__name__') == 'fcn_jax.evaluation' for frame, _ in frames):
    work, ways = _evaluation(config)
  else:
    work, ways = _step(config)
  if config.model.dtype == 'float32':
    ways.append('set model.dtype=bfloat16')
  if machine.memory_is_divided():
    ways.append('let fewer runs share the device (--slots)')
  return f'the memory of the device{limit} is too small for {work}: {needed}. To need less: {", ".join(ways)}'


def _evaluation(config) -> tuple[str, list[str]]:
  """The work of an evaluation in words, and how to need less memory for it."""
  return f'an evaluation of eval.batch_size={config.eval.batch_size} images at a time', ['lower eval.batch_size']


def _step(config) -> tuple[str, list[str]]:
  """The work of a training step in words, and how to need less memory for it."""
  train, (height, width) = config.train, config.data.train_size
  work = f'a step with train.batch_size={train.batch_size} images of {height}x{width} pixels (data.train_size)'
  if train.accumulation > 1:
    work += f' in train.accumulation={train.accumulation} parts'
  ways = ['lower train.batch_size or data.train_size']
  if train.batch_size > train.accumulation * jax.device_count():
    ways.append('raise train.accumulation')
  if not config.model.remat:
    ways.append('set model.remat=True')
  return work, ways
