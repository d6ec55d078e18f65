"""The per-pixel loss, as a sum and a count, so that devices and micro-batches add up exactly."""

import jax
import jax.numpy as jnp

from fcn_jax.datasets import IGNORE


def softmax_cross_entropy(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Cross entropy summed over the labelled pixels, and their number (CVPR'15, section 4).

  Args:
    logits: float32 [B, H, W, C].
    label: integers [B, H, W], 0 to C-1, or 255 for pixels to ignore.

  Returns:
    Two float32 scalars: the sum, in nats, and the count.
  """
  valid = label != IGNORE
  # A comparison rather than a gather: the gradient of a gather is a scatter, slow on every device.
  own = label[..., None] == jnp.arange(logits.shape[-1])
  loss = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(own, logits, 0), axis=-1)
  return jnp.sum(jnp.where(valid, loss, 0)), jnp.sum(valid, dtype=jnp.float32)
