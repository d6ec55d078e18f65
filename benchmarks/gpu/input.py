"""Images per second of the input pipeline alone, by number of threads, on Stanford Background.

  JAX_PLATFORMS=cpu python -m benchmarks.gpu.input --archive=iccv09Data.tar.gz

Images are decoded already, as they are from a run's second epoch on. So the numbers are the speed of what the host
does if the device augments, and that of augmentation on the host. A GPU that trains faster than this waits for its
input.
"""

import time
from collections.abc import Iterable

from absl import flags

from fcn_jax import cli
from fcn_jax.config import default
from fcn_jax.data import dataset, pipeline

BATCH = 16
WARMUP = 6  # batches


def define_flags() -> None:
  """Defines the flags of the command."""
  flags.DEFINE_string('archive', '', 'iccv09Data.tar.gz.')
  flags.DEFINE_multi_integer('threads', [1, 2, 4, 8, 16, 32], 'Numbers of threads to try.')
  flags.DEFINE_integer('batches', 100, f'Timed batches of {BATCH} images.', lower_bound=1)


def main(_) -> None:
  """The command."""
  given, data = flags.FLAGS, default('stanford_background').data
  data.archive = given.archive
  split = dataset.load(data).splits['train']
  for where in ('device', 'host'):
    data.augment_on = where
    rates = measure(split, data, given.threads, given.batches)
    print(
      f'augmented on the {where}, images/s by threads: {", ".join(f"{n}: {x:.0f}" for n, x in rates.items())}',
      flush=True,
    )


def measure(split: dataset.Split, data, threads: Iterable[int], batches: int) -> dict[int, float]:
  """Images per second of the training batches of a split, by number of threads.

  Args:
    split: the training images; all are read once first, which decodes them into memory.
    data: the section `data` of the config.
    threads: the numbers to try.
    batches: timed batches per number.
  """
  for index in range(len(split)):
    split[index]
  rates = {}
  for count in threads:
    data.threads = count
    source = pipeline.train_batches(split, data, batch_size=BATCH, seed=0)
    for _ in range(WARMUP):
      next(source)
    begun = time.perf_counter()
    for _ in range(batches):
      next(source)
    rates[count] = BATCH * batches / (time.perf_counter() - begun)
    source.close()
  return rates


if __name__ == '__main__':
  cli.run(main, define_flags)
