"""The loss of each pixel, as a weighted sum, so that devices and micro-batches add up exactly."""

import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax.data.dataset import IGNORE, Classes, Split, class_shares


def softmax_cross_entropy(logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
  """Cross entropy of the labeled pixels, times their weights, summed (CVPR'15, section 4).

  Args:
    logits: float32 [B, H, W, C].
    label: integers [B, H, W], 0 to C-1, or 255 for pixels to ignore.
    weight: float32 [B, H, W], such as `pixel_weights` returns; ignored pixels must have weight 0.

  Returns:
    A float32 scalar, in nats.
  """
  return jnp.sum(weight * _cross_entropy(logits, label))


@jax.custom_vjp
def _cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
  """The cross entropy of each pixel, [B, H, W].

  Its gradient is written out. JAX's automatic gradient would keep the exponentials: one more array as large as the
  scores, which are the largest array of a step if there are many classes. It would also turn the gather into a scatter.
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


_cross_entropy.defvjp(_forward, _backward)


def pixel_weights(label: jax.Array, of_class: np.ndarray | None = None) -> jax.Array:
  """The weight of each pixel in the loss, float32 of the shape of `label`.

  Args:
    label: integers, 0 to C-1, or 255 for pixels to ignore, which have weight 0.
    of_class: float32 [C], the weight of the pixels of each class; None gives all classes weight 1.
  """
  if of_class is None:
    return (label != IGNORE).astype(jnp.float32)
  of_label = jnp.zeros(IGNORE + 1, jnp.float32).at[: len(of_class)].set(of_class)
  return of_label[label.astype(jnp.int32)]


def sample_cells(key: jax.Array, label: jax.Array, share: float, cell: int) -> jax.Array:
  """Patch sampling (CVPR'15, sections 3.4 and 4.3): labels in which only some cells count.

  Args:
    key: the random key.
    label: uint8 [B, H, W].
    share: the probability that a cell counts, drawn independently for each cell of each image.
    cell: pixels per side of a cell, from the top left of the canvas.

  Returns:
    `label`, with 255 in the cells that do not count.
  """
  batch, height, width = label.shape
  kept = jax.random.bernoulli(key, share, (batch, -(-height // cell), -(-width // cell)))
  kept = jnp.repeat(jnp.repeat(kept, cell, axis=1), cell, axis=2)[:, :height, :width]
  return jnp.where(kept, label, IGNORE).astype(label.dtype)


def inverse_weights(shares: np.ndarray) -> np.ndarray:
  """Weights of classes, float32 [C], by the inverse of their shares [C] of the training pixels.

  The mean weight of a training pixel is 1. A class without pixels has weight 0.
  """
  weights = np.zeros(len(shares), np.float32)
  there = shares > 0
  weights[there] = 1 / (shares[there] * there.sum())
  return weights


def class_weights(balance: str, split: Split, heads: dict[str, Classes]) -> dict[str, np.ndarray | None]:
  """The weight of the pixels of each class, float32 [C] per head; None if all classes weigh 1.

  Args:
    balance: the setting `loss.balance`.
    split: the training images. All are counted, because the share of a rare class must not depend on a few images.
    heads: the classes of each head.
  """
  if balance == 'none':
    return dict.fromkeys(heads)
  return {
    head: inverse_weights(class_shares(split, head, len(classes), most=len(split))) for head, classes in heads.items()
  }
