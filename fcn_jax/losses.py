"""The per-pixel loss, as a weighted sum, so that devices and micro-batches add up exactly."""

import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax.data.dataset import IGNORE


def softmax_cross_entropy(logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
  """Cross entropy of the labelled pixels, times their weights, summed (CVPR'15, section 4).

  Args:
    logits: float32 [B, H, W, C].
    label: integers [B, H, W], 0 to C-1, or 255 for pixels to ignore.
    weight: float32 [B, H, W], as `pixel_weights` gives it.

  Returns:
    A float32 scalar, in nats.
  """
  return jnp.sum(weight * _of_pixels(logits, label))


@jax.custom_vjp
def _of_pixels(logits: jax.Array, label: jax.Array) -> jax.Array:
  """The cross entropy of each pixel, [B, H, W].

  Its gradient is written out: JAX's own would keep the exponentials, one more array as large as the scores, the largest
  of a step where there are many classes, and would turn the gather into a scatter.
  """
  return _forward(logits, label)[0]


def _forward(logits, label):
  total = jax.nn.logsumexp(logits, axis=-1)
  own = jnp.take_along_axis(logits, label[..., None].astype(jnp.int32), axis=-1, mode='clip')[..., 0]
  return total - own, (logits, label, total)


def _backward(saved, gradient):
  logits, label, total = saved
  own = label[..., None] == jnp.arange(logits.shape[-1])
  return gradient[..., None] * (jnp.exp(logits - total[..., None]) - own), None


_of_pixels.defvjp(_forward, _backward)


def pixel_weights(label: jax.Array, of_class: np.ndarray | None = None) -> jax.Array:
  """What each pixel counts in the loss, float32 of the shape of `label`.

  Args:
    label: integers, 0 to C-1, or 255 for pixels to ignore, which count 0.
    of_class: float32 [C], what a pixel of each class counts; None is 1 for all.
  """
  if of_class is None:
    return (label != IGNORE).astype(jnp.float32)
  of_label = jnp.zeros(IGNORE + 1, jnp.float32).at[: len(of_class)].set(of_class)
  return of_label[label.astype(jnp.int32)]


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
