"""A run on Stanford Background at full size, and the same step on a batch that stays on the device.

  python -m benchmarks.gpu.real_run --archive=iccv09Data.tar.gz

The run is that of `full_size.py`, shorter: it reads, augments, trains, evaluates and saves like every run. `ratio` is
its speed relative to the bare step, which includes the augmentation if the device does it.
"""

import pathlib
import tempfile

import jax
from absl import flags

from benchmarks import steps, turns
from benchmarks.gpu import full_size, peaks, rows, timings
from fcn_jax import cli, files, losses, models, optim, train
from fcn_jax.config import validate
from fcn_jax.data import dataset, pipeline
from fcn_jax.models import cost
from fcn_jax.run import devices, saved

STEPS = 600


def define_flags() -> None:
  """Defines the flags of the command."""
  rows.define_small()
  flags.DEFINE_string('archive', '', 'iccv09Data.tar.gz.')
  flags.DEFINE_enum('augment_on', 'auto', ['auto', 'device', 'host'], 'Where the run augments its images.')


def main(_) -> None:
  """The command."""
  given = flags.FLAGS
  config = full_size.get_config('small' if given.small else 'full')
  if not given.small:
    config.train.steps = config.checkpoint.every = STEPS
    config.eval.every = STEPS // 3
  config.data.update(archive=given.archive, augment_on=given.augment_on)
  validate(config)
  with tempfile.TemporaryDirectory() as folder:
    workdir = files.path(pathlib.Path(folder, 'run'))
    code = train.run(config, str(workdir))
    if code:
      raise SystemExit(code)
    run, config = timings.of_run(workdir), saved.read_config(workdir)
  rows.show(run)
  bare = bare_step(config, small=given.small)
  rows.show(bare | {'ratio': run['images_per_second'] / bare['images_per_second']})


def bare_step(config, *, small: bool) -> dict:
  """The step of a run, on the first batch of the run.

  Args:
    config: of the run, as the run stored it.
    small: measures fewer steps.

  Returns:
    augment_on, ms, images_per_second, share_of_peak (of a bfloat16 matrix product), and compile_seconds, which is short
    because the program is in the compilation cache.
  """
  data, batch_size = dataset.load(config.data), config.train.batch_size
  model, optimizer = models.build(config.model, data.inputs, data.heads), optim.make(config.optim, config.train.steps)
  weights = losses.class_weights(config.loss.balance, data.splits['train'], data.heads)
  state = devices.replicate(train.init_state(model, optimizer, config.seed))
  batches = pipeline.train_batches(data.splits['train'], config.data, batch_size=batch_size, seed=config.seed)
  batch = devices.shard(next(batches)), steps.no_signal()
  batches.close()
  lowered = train.make_train_step(model, optimizer, config, weights).lower(state, *batch)
  program, measured = steps.compiled(lowered)

  def step() -> jax.Array:
    nonlocal state
    state, numbers = program(state, *batch)
    return numbers['loss']

  seconds = turns.queued(step, jax.block_until_ready, calls=3 if small else 15)
  flop = 3 * cost.flops(model, tuple(config.data.train_size)) * batch_size
  peak = steps.matrix_peak('bfloat16', n=peaks.size(small=small))
  row = {'augment_on': config.data.augment_on, 'ms': 1000 * seconds, 'images_per_second': batch_size / seconds}
  return row | {'share_of_peak': flop / seconds / peak, 'compile_seconds': measured['compile_seconds']}


if __name__ == '__main__':
  cli.run(main, define_flags)
