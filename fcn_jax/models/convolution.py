"""Convolutions in another form where XLA's own are slow on a CPU (`results/speed.md`)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

_LARGEST_BATCH = 2  # with three pictures, XLA's own weight gradient is as fast
_STRIPS = 4  # of a picture


def conv_general_dilated(x: jax.Array, kernel: jax.Array, strides, padding, **options) -> jax.Array:
  """`jax.lax.conv_general_dilated`, for `nn.Conv`.

  On a CPU and for a few pictures only, as in the authors' recipes, the weight gradient of 3x3 kernels is computed in
  strips of them: XLA contracts over pictures in its innermost loop, and takes up to twice as long where there is one.
  """
  is_3x3 = kernel.shape[:2] == (3, 3) and list(padding) == [(1, 1), (1, 1)] and set(strides) == {1}
  if jax.default_backend() == 'cpu' and is_3x3 and len(x) <= _LARGEST_BATCH:
    return _convolution(x, kernel)
  return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


def _plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


@jax.custom_vjp
def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """[B, H, W, I] with [3, 3, I, O], padded by 1, to [B, H, W, O]."""
  return _plain(x, kernel)


def _forward(x, kernel):
  return _plain(x, kernel), (x, kernel)


def _backward(saved, gradient):
  x, kernel = saved
  (of_x,) = jax.linear_transpose(lambda x: _plain(x, kernel), x)(gradient)
  return of_x, _weight_gradient(x, gradient)


def _weight_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
  """Sums over pictures and pixels of x [B, H, W, I] times gradient [B, H, W, O], at each of nine shifts: [3, 3, I, O].

  It is a convolution of x by the gradient. Each picture is cut into vertical strips, which count as pictures.
  """
  width = -(-x.shape[2] // _STRIPS)
  missing = _STRIPS * width - x.shape[2]
  x = jnp.pad(x, ((0, 0), (0, 0), (1, 1 + missing), (0, 0)))
  gradient = jnp.pad(gradient, ((0, 0), (0, 0), (0, missing), (0, 0)))
  x = jnp.concatenate([x[:, :, i * width : (i + 1) * width + 2] for i in range(_STRIPS)])
  gradient = jnp.concatenate([gradient[:, :, i * width : (i + 1) * width] for i in range(_STRIPS)])
  pictures_inside = ('CHWN', 'IHWO', 'HWNC')
  return jax.lax.conv_general_dilated(x, gradient, (1, 1), ((1, 1), (0, 0)), dimension_numbers=pictures_inside)


_convolution.defvjp(_forward, _backward)


class PatchConv(nn.Module):
  """A convolution of stride 1 as gathered patches times a matrix.

  For a kernel about as large as the map, as fc6 has, XLA's convolution is up to 77 times slower on a CPU.

  Attributes:
    channels: of the output.
    kernel: its height and width.
    padding: zeros added on each side.
    use_bias: whether there is one.
    dtype: of the computation.
  """

  channels: int
  kernel: int
  padding: int
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    k, p = self.kernel, self.padding
    shape = (k, k, x.shape[-1], self.channels)
    kernel = self.param('kernel', nn.initializers.he_normal(), shape).astype(self.dtype)
    x = jnp.pad(x.astype(self.dtype), ((0, 0), (p, p), (p, p), (0, 0)))
    height, width = x.shape[1] - k + 1, x.shape[2] - k + 1
    # One axis after the other: 2k shifted copies instead of k * k, which is a quarter of the time to compile a step.
    x = jnp.stack([x[:, i : i + height] for i in range(k)], axis=3)
    x = jnp.stack([x[:, :, j : j + width] for j in range(k)], axis=4)
    x = x.reshape(*x.shape[:3], -1) @ kernel.reshape(-1, self.channels)
    if self.use_bias:
      x += self.param('bias', nn.initializers.zeros, (self.channels,)).astype(self.dtype)
    return x
