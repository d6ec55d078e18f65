"""Variants of the network's layers, to check that the forms in `fcn_jax/models` are the faster ones on a GPU too.

All variants compute the same scores from the same parameters, up to rounding.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp

from fcn_jax.models import grid, layers, upsample, vgg


class Convolution(nn.Module):
  """`convolutions.PatchConv` as XLA's convolution."""

  channels: int
  kernel: int
  padding: int
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.kernel, self.kernel, x.shape[-1], self.channels)
    kernel = self.param('kernel', nn.initializers.he_normal(), shape).astype(self.dtype)
    padding = [(self.padding, self.padding)] * 2
    x = jax.lax.conv_general_dilated(
      x.astype(self.dtype), kernel, (1, 1), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    if self.use_bias:
      x += self.param('bias', nn.initializers.zeros, (self.channels,)).astype(self.dtype)
    return x


def _even(x: jax.Array) -> jax.Array:
  """x [B, H, W, C] with H and W rounded up to even numbers."""
  return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))


def pool_by_xla(x: jax.Array) -> jax.Array:
  """`layers.max_pool` by reduce_window, with the gradient by select-and-scatter."""
  return nn.max_pool(_even(x), (2, 2), (2, 2))


def pool_by_reshape(x: jax.Array) -> jax.Array:
  """`layers.max_pool` as the maximum over two axes."""
  x = _even(x)
  batch, height, width, channels = x.shape
  return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def plain_relu(x: jax.Array, mask: jax.Array | None) -> jax.Array:
  """`layers.relu` with jax's automatic gradient."""
  return layers.mask_out(mask, nn.relu(x))


def interpolate_at_default_precision(x: jax.Array, stride: int, offset: int, size, kernel: int | None = None):
  """`upsample.interpolate` with products at the default precision, TF32 on GPUs that have it."""
  columns = jnp.asarray(grid.interpolation(x.shape[2], stride, kernel)[offset : offset + size[1]], x.dtype)
  rows = jnp.asarray(grid.interpolation(x.shape[1], stride, kernel)[offset : offset + size[0]], x.dtype)
  return jnp.einsum('Hh,bhWc->bHWc', rows, jnp.einsum('Ww,bhwc->bhWc', columns, x))


def interpolate_by_shifts(x: jax.Array, stride: int, offset: int, size, kernel: int | None = None):
  """`upsample.interpolate` as four shifted products, the form of trained kernels."""
  bilinear = jnp.asarray(grid.bilinear_kernel(stride, kernel)[..., None], x.dtype)
  return upsample.crop(upsample.transposed_convolution(x, bilinear, stride), offset, size)


class GroupNormSums(nn.Module):
  """GroupNorm with sums over pixels as matrix products in float32; the parameters are those of `nn.GroupNorm`."""

  group_size: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    channels = x.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (channels,))
    bias = self.param('bias', nn.initializers.zeros, (channels,))
    inside = jnp.ones(x.shape[:3]) if mask is None else jnp.broadcast_to(mask, (*x.shape[:3], 1))[..., 0].astype(float)
    x, pixels = x.astype(jnp.float32), inside.sum((1, 2))[:, None]

    def mean_of_groups(values: jax.Array) -> jax.Array:
      sums = jnp.einsum('bhwc,bhw->bc', values, inside)
      return sums.reshape(len(sums), -1, self.group_size).mean(-1) / pixels

    mean, square = mean_of_groups(x), mean_of_groups(x * x)
    inverse = jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0) + 1e-6)
    factor = jnp.repeat(inverse, self.group_size, axis=1) * scale
    offset = bias - jnp.repeat(mean, self.group_size, axis=1) * factor
    return (x * factor[:, None, None] + offset[:, None, None]).astype(self.dtype)


def normalize_by_sums(x: jax.Array, mask: jax.Array | None, *, norm: str, group_size: int, dtype, name: str):
  """`layers.normalize` by `GroupNormSums`."""
  return x if norm == 'none' else GroupNormSums(group_size, dtype, name=name)(x, mask)


# Name -> the replacements: a module, the name of a layer in it, and what takes its place.
VARIANTS = {
  'fc6_convolution': [(vgg, 'PatchConv', Convolution)],
  'pool_by_xla': [(vgg, 'max_pool', pool_by_xla)],
  'pool_by_reshape': [(vgg, 'max_pool', pool_by_reshape)],
  'plain_relu': [(vgg, 'relu', plain_relu)],
  'interpolate_default': [(upsample, 'interpolate', interpolate_at_default_precision)],
  'interpolate_by_shifts': [(upsample, 'interpolate', interpolate_by_shifts)],
  'group_norm_sums': [(vgg, 'normalize', normalize_by_sums)],
}
VARIANTS['all_plain'] = [
  replacement
  for name in ('fc6_convolution', 'pool_by_xla', 'plain_relu', 'interpolate_default')
  for replacement in VARIANTS[name]
]


@contextlib.contextmanager
def applied(name: str) -> Iterator[None]:
  """Networks that are traced in this context use the variant; 'ours' changes nothing."""
  with contextlib.ExitStack() as stack:
    for module, layer, replacement in VARIANTS[name] if name != 'ours' else ():
      stack.enter_context(mock.patch.object(module, layer, replacement))
    yield
