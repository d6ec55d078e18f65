"""Layers in the forms that are fast: pooling, ReLU, norms, and masking (`results/speed.md`)."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def mask_out(mask: jax.Array | None, x: jax.Array) -> jax.Array:
  """x inside the images, zero outside; x itself if there is no mask."""
  return x if mask is None else jnp.where(mask, x, 0)


@jax.custom_vjp
def relu(x: jax.Array, mask: jax.Array | None) -> jax.Array:
  """The larger of x and 0 inside the images, zero outside; `mask` as in `mask_out`.

  Its gradient is computed from its result. By default XLA would also keep x for the gradient, and would recompute bias,
  ReLU and mask in every consumer of the result.
  """
  return mask_out(mask, nn.relu(x))


def _relu_forward(x, mask):
  y = jax.lax.optimization_barrier(mask_out(mask, nn.relu(x)))
  return y, y


def _relu_backward(y, gradient):
  return jnp.where(y > 0, gradient, 0), None


relu.defvjp(_relu_forward, _relu_backward)


def max_pool(x: jax.Array) -> jax.Array:
  """2x2 max-pooling of stride 2 of x >= 0, with sizes rounded up: [B, H, W, C] to [B, ceil(H/2), ceil(W/2), C].

  Written with slices because XLA's backward pass (select-and-scatter) is several times slower on CPUs, slower on GPUs,
  and has no deterministic form there. Because x follows a ReLU, padding with zeros is padding with -inf.
  """
  x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
  rows = jnp.maximum(x[:, 0::2], x[:, 1::2])
  return jnp.maximum(rows[:, :, 0::2], rows[:, :, 1::2])


def max_pool_3x3(x: jax.Array, padding: int = 0, *, ceil: bool = False) -> jax.Array:
  """3x3 max-pooling of stride 2 of x >= 0, [B, H, W, C], by slices as in `max_pool`.

  Args:
    x: [B, H, W, C].
    padding: zeros on each side.
    ceil: round the size of the output up, with zeros below and to the right of x.
  """
  sizes = [n + 2 * padding - 1 for n in x.shape[1:3]]  # twice the size of the output, before it is rounded
  more = [padding + (ceil and size % 2) for size in sizes]
  x = jnp.pad(x, ((0, 0), (padding, more[0]), (padding, more[1]), (0, 0)))
  height, width = ((n - 1) // 2 for n in x.shape[1:3])
  rows = jnp.maximum(jnp.maximum(x[:, 0 : 2 * height : 2], x[:, 1 : 2 * height : 2]), x[:, 2 : 2 * height + 1 : 2])
  columns = [rows[:, :, start : start + 2 * width - 1 : 2] for start in range(3)]
  return jnp.maximum(jnp.maximum(columns[0], columns[1]), columns[2])


def normalize(x: jax.Array, mask: jax.Array | None, *, norm: str, group_size: int, dtype, name: str) -> jax.Array:
  """A norm as a submodule of the calling module, or x itself.

  None has running statistics: the result of an image depends neither on its batch nor on the number of devices.

  Args:
    x: [B, H, W, C].
    mask: bool [B, H, W, 1], as in `mask_out`.
    norm: 'none'; 'group', GroupNorm over the pixels of each image; or 'frozen_batch', see `FrozenBatchNorm`.
    group_size: channels per group.
    dtype: of the computation.
    name: of the submodule.
  """
  if norm == 'none':
    return x
  if norm == 'frozen_batch':
    return FrozenBatchNorm(dtype, name=name)(x)
  mask = None if mask is None else jnp.broadcast_to(mask, x.shape)  # flax expects the full shape
  return nn.GroupNorm(None, group_size=group_size, dtype=dtype, name=name)(x, mask=mask)


class FrozenBatchNorm(nn.Module):
  """BatchNorm with the statistics of pretrained weights, which training does not change.

  Scale and bias are trained. The statistics are parameters too, so that checkpoints and weights files hold them, but no
  gradient reaches them and they do not decay.

  Attributes:
    dtype: of the computation.
    epsilon: added to the variance; PyTorch's default.
  """

  dtype: jnp.dtype = jnp.float32
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] to the same shape."""
    ones, zeros, shape = nn.initializers.ones, nn.initializers.zeros, (x.shape[-1],)
    scale, bias = self.param('scale', ones, shape), self.param('bias', zeros, shape)
    mean, var = jax.lax.stop_gradient((self.param('mean', zeros, shape), self.param('var', ones, shape)))
    factor = scale * jax.lax.rsqrt(var + self.epsilon)
    return x * factor.astype(self.dtype) + (bias - mean * factor).astype(self.dtype)


def local_response_norm(x: jax.Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75) -> jax.Array:
  """Caffe's LRN: x / (1 + alpha / size * s)^beta, where s sums the squares of `size` neighboring channels.

  Args:
    x: [B, H, W, C].
    size: number of channels, odd.
    alpha, beta: the constants of AlexNet (section 3.3).
  """
  # The gradient of shifted slices that are added takes four times as long on a CPU.
  squares = jnp.square(x.astype(jnp.float32))
  sums = jax.lax.reduce_window(squares, 0.0, jax.lax.add, (1, 1, 1, size), (1, 1, 1, 1), 'SAME')
  return (x * (1 + alpha / size * sums) ** -beta).astype(x.dtype)
