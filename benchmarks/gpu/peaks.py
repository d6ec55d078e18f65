"""The peaks of a device, which other numbers are relative to: matrix products and memory bandwidth.

python -m benchmarks.gpu.peaks
"""

import jax
import jax.numpy as jnp
from absl import flags

from benchmarks import steps, turns
from benchmarks.gpu import rows
from fcn_jax import cli


def size(*, small: bool) -> int:
  """Rows and columns of the matrices."""
  return 512 if small else 8192


def measure(*, small: bool = False) -> dict[str, float]:
  """TFLOP/s of matrix products and TB/s of a copy (bytes read plus bytes written).

  float32 products use TF32 on GPUs that have it, except at the precision 'highest'.
  """
  n = size(small=small)
  array = jnp.ones(2**20 if small else 2**30, jnp.float32)
  add_one = jax.jit(lambda x: x + 1)
  seconds = turns.queued(lambda: add_one(array), jax.block_until_ready, calls=5)
  return {
    'bfloat16_tflops': steps.matrix_peak('bfloat16', n=n) / 1e12,
    'float32_tflops': steps.matrix_peak('float32', n=n) / 1e12,
    'float32_highest_tflops': steps.matrix_peak('float32', precision='highest', n=n) / 1e12,
    'copy_tb_per_second': 2 * array.nbytes / seconds / 1e12,
  }


def main(_) -> None:
  """The command."""
  rows.show(measure(small=flags.FLAGS.small))


if __name__ == '__main__':
  cli.run(main, rows.define_small)
