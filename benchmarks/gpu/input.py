"""Images per second of the input pipeline alone, on Stanford Background: augmented on the device, and on the host.

  JAX_PLATFORMS=cpu python -m benchmarks.gpu.input --archive=iccv09Data.tar.gz

Images are decoded already, as they are when a run reads its first batch. If the device augments, the number is the
speed of what is left for the host. A GPU that trains faster than this waits for its input.
"""

import itertools
import time

from absl import flags

from benchmarks.gpu import rows
from fcn_jax import cli
from fcn_jax.config import default
from fcn_jax.data import dataset, pipeline

BATCH = 16
WARMUP = 6  # batches
THREADS = (1, 4, 16)


def define_flags() -> None:
  """Defines the flags of the command."""
  rows.define_small()
  flags.DEFINE_string('archive', '', 'iccv09Data.tar.gz.')


def main(_) -> None:
  """The command."""
  given, data = flags.FLAGS, default('stanford_background').data
  data.archive = given.archive
  split = dataset.load(data).splits['train']
  for where, threads in itertools.product(('device', 'host'), THREADS):
    data.update(augment_on=where, threads=threads)
    rate = measure(split, data, batches=2 if given.small else 100)
    rows.show({'augment_on': where, 'threads': threads, 'images_per_second': rate})


def measure(split: dataset.Split, data, batches: int) -> float:
  """Images per second of the training batches of a split.

  Args:
    split: the training images; all are read once first, which decodes them.
    data: the section `data` of the config.
    batches: number of timed batches.
  """
  for index in range(len(split)):
    split[index]
  source = pipeline.train_batches(split, data, batch_size=BATCH, seed=0)
  for _ in range(WARMUP):
    next(source)
  begun = time.perf_counter()
  for _ in range(batches):
    next(source)
  rate = BATCH * batches / (time.perf_counter() - begun)
  source.close()
  return rate


if __name__ == '__main__':
  cli.run(main, define_flags)
