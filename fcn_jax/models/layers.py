"""Convolutions in another form where XLA's own are slow on a CPU (`results/speed.md`)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

_FEW = 2  # with three pictures, the weight gradient is as fast without strips
_STRIPS = 4  # of a picture


def conv_general_dilated(x: jax.Array, kernel: jax.Array, strides, padding, **options) -> jax.Array:
  """`jax.lax.conv_general_dilated`, for `nn.Conv`.

  On a CPU the gradient of 3x3 kernels has two changes. Where pictures are few, as in the authors' recipes, that of the
  weights is computed in strips of them: XLA contracts over pictures in its innermost loop, and takes up to twice as
  long where there is one. And x is transposed for it in the backward pass only: XLA does so as soon as there is an x,
  and keeps both.
  """
  is_3x3 = kernel.shape[:2] == (3, 3) and list(padding) == [(1, 1), (1, 1)] and set(strides) == {1}
  if jax.default_backend() == 'cpu' and is_3x3:
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
  x, gradient = jax.lax.optimization_barrier((x, gradient))
  (of_x,) = jax.linear_transpose(lambda x: _plain(x, kernel), x)(gradient)
  return of_x, _weight_gradient(x, gradient)


def _weight_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
  """Sums over pictures and pixels of x [B, H, W, I] times gradient [B, H, W, O], at each of nine shifts: [3, 3, I, O].

  It is a convolution of x by the gradient. A few pictures are cut into vertical strips, which count as pictures.
  """
  padding = ((1, 1), (1, 1))
  if len(x) <= _FEW:
    width = -(-x.shape[2] // _STRIPS)
    starts = [i * width for i in range(_STRIPS)]
    x = jnp.concatenate([_columns(x, start - 1, start + width + 1) for start in starts])
    gradient = jnp.concatenate([_columns(gradient, start, start + width) for start in starts])
    padding = ((1, 1), (0, 0))  # a strip has the columns beside it
  pictures_inside = ('CHWN', 'IHWO', 'HWNC')
  return jax.lax.conv_general_dilated(x, gradient, (1, 1), padding, dimension_numbers=pictures_inside)


def _columns(x: jax.Array, start: int, stop: int) -> jax.Array:
  """The columns of x [B, H, W, C] from `start` to `stop`, zeros where there are none."""
  x = x[:, :, max(start, 0) : stop]
  left = max(-start, 0)
  return jnp.pad(x, ((0, 0), (0, 0), (left, stop - start - left - x.shape[2]), (0, 0)))


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
