"""The per-pixel loss, as a sum and a count, so that devices and micro-batches add up exactly."""

import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax.datasets import IGNORE


def softmax_cross_entropy(
  logits: jax.Array, label: jax.Array, weights: np.ndarray | None = None
) -> tuple[jax.Array, jax.Array]:
  """Cross entropy summed over the labelled pixels, and their number (CVPR'15, section 4).

  Args:
    logits: float32 [B, H, W, C].
    label: integers [B, H, W], 0 to C-1, or 255 for pixels to ignore.
    weights: float32 [C], what a pixel of each class counts; None is 1 for all.

  Returns:
    Two float32 scalars: the sum, in nats, and the count, which is the sum of the weights where there are any.
  """
  valid = label != IGNORE
  # A comparison rather than a gather: the gradient of a gather is a scatter, slow on every device.
  own = label[..., None] == jnp.arange(logits.shape[-1])
  loss = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(own, logits, 0), axis=-1)
  if weights is None:
    return jnp.sum(jnp.where(valid, loss, 0)), jnp.sum(valid, dtype=jnp.float32)
  weight = jnp.sum(jnp.where(own, weights, 0), axis=-1)  # 0 where ignored, which is no class
  return jnp.sum(jnp.where(valid, weight * loss, 0)), jnp.sum(weight)


def sample_cells(key: jax.Array, label: jax.Array, share: float, cell: int) -> jax.Array:
  """Labels of which only some cells count: patch sampling (CVPR'15, sections 3.4 and 4.3).

  Args:
    key: the randomness.
    label: uint8 [B, H, W].
    share: the probability that a cell stays, each of each picture on its own.
    cell: pixels a side, from the top left of the canvas.

  Returns:
    `label`, with 255 in the cells that were dropped.
  """
  batch, height, width = label.shape
  kept = jax.random.bernoulli(key, share, (batch, -(-height // cell), -(-width // cell)))
  kept = jnp.repeat(jnp.repeat(kept, cell, axis=1), cell, axis=2)[:, :height, :width]
  return jnp.where(kept, label, IGNORE).astype(label.dtype)


def inverse_weights(shares: np.ndarray) -> np.ndarray:
  """Weights of classes, float32 [C], by the inverse of their shares [C] of the training pixels.

  A training pixel weighs 1 on average. A class without any has weight 0: no pixel to weigh, and no share to divide by.
  """
  weights = np.zeros(len(shares), np.float32)
  there = shares > 0
  weights[there] = 1 / (shares[there] * there.sum())
  return weights
