"""The same narrow network on the CPU and on the GPU: how much scores, gradients and predictions differ.

  python -m benchmarks.gpu.parity

The reference is the CPU in float32. The GPU runs twice: at its default precision, which is TF32 on GPUs that have it,
and at the precision 'highest'.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import steps
from fcn_jax import cli, models
from fcn_jax.config import default

PRECISIONS = ('default', 'highest')


def measure(*, small: bool = False) -> dict[str, dict[str, float]]:
  """The differences from the CPU of each precision of the default device.

  Returns:
    By precision: `scores`, the relative difference in the Frobenius norm; `gradients`, the same of the worst tensor;
    `labels`, the share of pixels whose predicted class differs.
  """
  config = default('voc2011')
  config.model.update(width=0.25, dropout=0.0)
  if small:
    config.model.update(width=0.0625, fc_channels=512)
  shape = (1, 33, 47, 3) if small else (2, 97, 131, 3)
  images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  cpu, device = jax.devices('cpu')[0], jax.devices()[0]
  with jax.default_device(cpu):
    model = models.build(config.model, {'rgb': 3}, {'semantic': 21}, platform='cpu')
    params = steps.with_scores(jax.jit(model.init)(jax.random.key(0), model.example_inputs())['params'])
  params = jax.tree.map(np.asarray, params)
  reference = _compute(config.model, params, images, cpu, 'default')
  found = {precision: _compute(config.model, params, images, device, precision) for precision in PRECISIONS}
  return {precision: _differences(values, reference) for precision, values in found.items()}


def _compute(model_config, params: dict, images: np.ndarray, device, precision: str) -> tuple[np.ndarray, dict]:
  """Scores, and the gradients of the sum of their squares, on a device."""
  model = models.build(model_config, {'rgb': 3}, {'semantic': 21}, platform=device.platform)

  def loss(params, images):
    scores = model.apply({'params': params}, {'rgb': images})['semantic']
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
    'labels': float(np.mean(scores.argmax(-1) != scores_there.argmax(-1))),
  }


def main(_) -> None:
  """The command."""
  for precision, found in measure().items():
    print(
      f'{jax.devices()[0].platform}, precision {precision}: scores differ by {found["scores"]:.1e}, gradients by up to '
      f'{found["gradients"]:.1e}, {100 * found["labels"]:.2g} % of the predicted labels'
    )


if __name__ == '__main__':
  cli.run(main)
