"""The same narrow network on the CPU and on the GPU: how much scores, gradients and predictions differ.

  python -m benchmarks.gpu.parity

The reference is the CPU in float32. The GPU computes in float32 at its default precision, which is TF32 on GPUs that
have it, and at the precision 'highest'; and in bfloat16.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import steps
from benchmarks.gpu import rows
from fcn_jax import cli, models
from fcn_jax.config import default
from fcn_jax.run import devices

# dtype of the network, and precision of its products, of each row.
SETTINGS = (('float32', 'default'), ('float32', 'highest'), ('bfloat16', 'default'))


def measure(*, small: bool = False) -> Iterator[dict]:
  """The differences from the CPU for each of the settings on the default device.

  Yields:
    A row for each of `SETTINGS`: `scores`, the relative difference in the Frobenius norm; `gradients`, the same of the
    worst tensor; `labels_percent`, how many pixels have another predicted class.
  """
  config = default('voc2011')
  config.model.update(width=0.25, dropout=0.0)
  if small:
    config.model.update(rows.SMALL)
  shape = (1, 33, 47, 3) if small else (2, 97, 131, 3)
  images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  cpu, device = jax.devices('cpu')[0], jax.devices()[0]
  with jax.default_device(cpu):
    model = models.build(config.model, {'rgb': 3}, {'semantic': 21}, platform='cpu')
    params = steps.with_scores(jax.jit(model.init)(jax.random.key(0), model.example_inputs())['params'])
  params = jax.tree.map(np.asarray, params)
  reference = _compute(config.model, params, images, cpu, 'default')
  for dtype, precision in SETTINGS:
    config.model.dtype = dtype
    found = _compute(config.model, params, images, device, precision)
    yield {'dtype': dtype, 'precision': precision} | _differences(found, reference)


def _compute(model_config, params: dict, images: np.ndarray, device, precision: str) -> tuple[np.ndarray, dict]:
  """Scores, and the gradients of the sum of their squares, on a device."""
  model = models.build(model_config, {'rgb': 3}, {'semantic': 21}, platform=device.platform)

  def loss(params, images):
    scores = model.apply({'params': params}, {'rgb': images})['semantic'].astype(jnp.float32)
    return jnp.sum(scores**2) / 1e4, scores

  with jax.default_device(device), jax.default_matmul_precision(precision):
    arguments = jax.device_put((params, images), device)
    (_, scores), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(*arguments)
    return np.asarray(scores), jax.tree.map(np.asarray, gradients)


def _differences(found: tuple[np.ndarray, dict], reference: tuple[np.ndarray, dict]) -> dict[str, float]:
  def relative(a, b):
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))

  (scores, gradients), (scores_there, gradients_there) = found, reference
  return {
    'scores': relative(scores, scores_there),
    'gradients': max(jax.tree.leaves(jax.tree.map(relative, gradients, gradients_there))),
    'labels_percent': 100 * float(np.mean(scores.argmax(-1) != scores_there.argmax(-1))),
  }


def main(_) -> None:
  """The command."""
  devices.enable_compilation_cache()
  for row in measure(small=flags.FLAGS.small):
    rows.show(row)


if __name__ == '__main__':
  cli.run(main, rows.define_small)
