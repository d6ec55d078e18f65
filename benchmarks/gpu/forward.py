"""Time of a forward pass of one 500x500 image on a GPU, with the passes queued, as in continuous use.

  python -m benchmarks.gpu.forward

`benchmarks/forward.py` waits for each pass instead, which adds the latency of a call.
"""

import jax
import numpy as np

from benchmarks import turns
from fcn_jax import cli, models, optim, train
from fcn_jax.config import default
from fcn_jax.models import cost

SETTINGS = (('caffe', 'float32'), ('aligned', 'bfloat16'))  # geometry and dtype


def measure(geometry: str, dtype: str, *, small: bool = False) -> dict[str, float]:
  """Milliseconds and TFLOP/s of a pass of FCN-8s; `small` makes image and network tiny."""
  config, size = default('voc2011'), 64 if small else 500
  config.model.update(geometry=geometry, dtype=dtype)
  if small:
    config.model.update(width=0.0625, fc_channels=512)
  model = models.build(config.model, {'rgb': 3}, {'semantic': 21})
  params = train.init_state(model, optim.make(config.optim, 1), seed=0).params
  image = jax.device_put(np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8))
  forward = jax.jit(lambda params, image: model.apply({'params': params}, {'rgb': image})['semantic'])
  seconds = turns.queued(lambda: forward(params, image), jax.block_until_ready, calls=3 if small else 30)
  return {'ms': 1000 * seconds, 'tflops': cost.flops(model, (size, size)) / seconds / 1e12}


def main(_) -> None:
  """The command."""
  for geometry, dtype in SETTINGS:
    found = measure(geometry, dtype)
    print(f'forward, {geometry}, {dtype}: {found["ms"]:.2f} ms, {found["tflops"]:.0f} TFLOP/s', flush=True)


if __name__ == '__main__':
  cli.run(main)
