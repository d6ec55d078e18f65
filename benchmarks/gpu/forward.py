"""Time of a forward pass of one 500x500 image on a GPU, with the passes queued, as in continuous use.

  python -m benchmarks.gpu.forward

`benchmarks/forward.py` waits for each pass instead, which adds the latency of a call.
"""

import jax
import numpy as np
from absl import flags

from benchmarks import turns
from benchmarks.gpu import rows
from fcn_jax import cli, models, optim, train
from fcn_jax.config import default
from fcn_jax.models import cost
from fcn_jax.run import devices

SETTINGS = (('aligned', 'bfloat16'), ('caffe', 'float32'))  # geometry and dtype


def measure(geometry: str, dtype: str, *, small: bool = False) -> dict[str, float]:
  """Milliseconds and TFLOP/s of a pass of FCN-8s; `small` makes image and network tiny."""
  config, size = default('voc2011'), 64 if small else 500
  config.model.update(geometry=geometry, dtype=dtype)
  if small:
    config.model.update(rows.SMALL)
  model = models.build(config.model, {'rgb': 3}, {'semantic': 21})
  params = train.init_state(model, optim.make(config.optim, 1), seed=0).params
  image = jax.device_put(np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8))
  forward = jax.jit(lambda params, image: model.apply({'params': params}, {'rgb': image})['semantic'])
  seconds = turns.queued(lambda: forward(params, image), jax.block_until_ready, calls=3 if small else 30)
  return {'ms': 1000 * seconds, 'tflops': cost.flops(model, (size, size)) / seconds / 1e12}


def main(_) -> None:
  """The command."""
  devices.enable_compilation_cache()
  for geometry, dtype in SETTINGS:
    rows.show({'geometry': geometry, 'dtype': dtype} | measure(geometry, dtype, small=flags.FLAGS.small))


if __name__ == '__main__':
  cli.run(main, rows.define_small)
