"""A loss: Poly-1 with epsilon 1 (Leng et al., ICLR 2022)."""

import jax
import jax.numpy as jnp


def poly(logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
  """[B, H, W, C], [B, H, W] and [B, H, W] to a sum; pixels to ignore have the label 255 and the weight 0."""
  index = label[..., None].astype(jnp.int32)
  log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), index, axis=-1, mode='clip')[..., 0]
  return jnp.sum(weight * (1 - jnp.exp(log_p) - log_p))
