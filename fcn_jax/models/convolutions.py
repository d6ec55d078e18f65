"""Convolutions in the forms that are fast (`results/speed.md`).

If the fast form depends on the hardware, the name of the target platform selects it ('cpu', 'gpu', 'tpu'), which the
model is built with. Nothing here asks jax which hardware is present, so a program can be compiled for other hardware.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

_FEW = 2  # images; with three, the weight gradient is as fast without strips
_STRIPS = 4  # per image


def convolution_for(platform: str | None) -> Callable:
  """The function that `nn.Conv(conv_general_dilated=...)` calls on a platform.

  On CPUs, 3x3 convolutions have another form of gradient. For few images, as in the authors' recipes, the weight
  gradient is computed in strips: XLA contracts over images in its innermost loop, and takes up to twice as long for a
  single image. Also, x is transposed for the gradient in the backward pass only: XLA would transpose it in the forward
  pass and keep both.
  """
  return _cpu_convolution if platform == 'cpu' else jax.lax.conv_general_dilated


def _cpu_convolution(x: jax.Array, kernel: jax.Array, strides, padding, **options) -> jax.Array:
  if kernel.shape[:2] == (3, 3) and list(padding) == [(1, 1), (1, 1)] and set(strides) == {1}:
    return _convolution_3x3(x, kernel)
  return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


def _plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


@jax.custom_vjp
def _convolution_3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """[B, H, W, I] with [3, 3, I, O], padded by 1, to [B, H, W, O]."""
  return _plain(x, kernel)


def _forward(x, kernel):
  return _plain(x, kernel), (x, kernel)


def _backward(saved, gradient):
  x, kernel = saved
  x, gradient = jax.lax.optimization_barrier((x, gradient))
  (of_x,) = jax.linear_transpose(lambda x: _plain(x, kernel), x)(gradient)
  return of_x, _weight_gradient(x, gradient)


_convolution_3x3.defvjp(_forward, _backward)


def _weight_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
  """Sums over images and pixels of x [B, H, W, I] times gradient [B, H, W, O], at each of nine shifts: [3, 3, I, O].

  This is a convolution of x by the gradient. A few images are cut into vertical strips, which count as images.
  """
  padding = ((1, 1), (1, 1))
  if len(x) <= _FEW:
    width = -(-x.shape[2] // _STRIPS)
    starts = [i * width for i in range(_STRIPS)]
    x = jnp.concatenate([_columns(x, start - 1, start + width + 1) for start in starts])
    gradient = jnp.concatenate([_columns(gradient, start, start + width) for start in starts])
    padding = ((1, 1), (0, 0))  # each strip of x includes the neighboring columns
  images_inside = ('CHWN', 'IHWO', 'HWNC')
  return jax.lax.conv_general_dilated(x, gradient, (1, 1), padding, dimension_numbers=images_inside)


def _columns(x: jax.Array, start: int, stop: int) -> jax.Array:
  """The columns of x [B, H, W, C] from `start` to `stop`, with zeros for columns outside x."""
  x = x[:, :, max(start, 0) : stop]
  left = max(-start, 0)
  return jnp.pad(x, ((0, 0), (0, 0), (left, stop - start - left - x.shape[2]), (0, 0)))


class PatchConv(nn.Module):
  """A convolution of stride 1 as gathered patches times a matrix.

  For a kernel about as large as the map, such as fc6's, XLA's convolution is up to 77 times slower on a CPU, and makes
  the whole step 2.8 times slower on a GPU.

  Attributes:
    channels: of the output.
    kernel: height and width of the kernel.
    padding: zeros added on each side.
    use_bias: whether there is a bias.
    dtype: of the computation.
  """

  channels: int
  kernel: int
  padding: int
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] to [B, H + 2 * padding - kernel + 1, W + 2 * padding - kernel + 1, channels]."""
    k, p = self.kernel, self.padding
    shape = (k, k, x.shape[-1], self.channels)
    kernel = self.param('kernel', nn.initializers.he_normal(), shape).astype(self.dtype)
    x = jnp.pad(x.astype(self.dtype), ((0, 0), (p, p), (p, p), (0, 0)))
    height, width = x.shape[1] - k + 1, x.shape[2] - k + 1
    # One axis after the other: 2k shifted copies instead of k * k, which compiles in a quarter of the time.
    x = jnp.stack([x[:, i : i + height] for i in range(k)], axis=3)
    x = jnp.stack([x[:, :, j : j + width] for j in range(k)], axis=4)
    x = x.reshape(*x.shape[:3], -1) @ kernel.reshape(-1, self.channels)
    if self.use_bias:
      x += self.param('bias', nn.initializers.zeros, (self.channels,)).astype(self.dtype)
    return x


class DoublingConv(nn.Module):
  """The transposed convolution with a 2x2 kernel and stride 2 that doubles the resolution, as one matrix product.

  Attributes:
    channels: of the output.
    dtype: of the computation.
  """

  channels: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] to [B, 2H, 2W, channels]: feature (i, j) times kernel[p, q] is at (2i + p, 2j + q)."""
    batch, height, width, _ = x.shape
    kernel = self.param('kernel', nn.initializers.he_normal(), (2, 2, x.shape[-1], self.channels)).astype(self.dtype)
    bias = self.param('bias', nn.initializers.zeros, (self.channels,)).astype(self.dtype)
    x = x.astype(self.dtype) @ kernel.transpose(2, 0, 1, 3).reshape(x.shape[-1], -1)
    x = x.reshape(batch, height, width, 2, 2, self.channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, 2 * height, 2 * width, self.channels) + bias


class StridedConv(nn.Module):
  """A convolution with a large kernel and stride; the attributes are those of `PatchConv`, and `stride`.

  Its gradient takes less than half the time of XLA's strided convolution on a CPU.
  """

  channels: int
  kernel: int
  stride: int
  padding: int
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] to [B, (H + 2 padding - kernel) // stride + 1, ..., channels]."""
    k, s, p = self.kernel, self.stride, self.padding
    kernel = self.param('kernel', nn.initializers.he_normal(), (k, k, x.shape[-1], self.channels)).astype(self.dtype)
    height, width = ((n + 2 * p - k) // s + 1 for n in x.shape[1:3])
    # Cells of s x s pixels become channels, which leaves a convolution of stride 1 with a kernel of cells.
    cells = -(-k // s)
    kernel = jnp.pad(kernel, ((0, cells * s - k), (0, cells * s - k), (0, 0), (0, 0)))
    kernel = kernel.reshape(cells, s, cells, s, -1, self.channels).transpose(0, 2, 1, 3, 4, 5)
    ends = [(size + cells - 1) * s - n - p for size, n in zip((height, width), x.shape[1:3], strict=True)]
    x = jax.lax.pad(
      x.astype(self.dtype), jnp.zeros((), self.dtype), ((0, 0, 0), (p, ends[0], 0), (p, ends[1], 0), (0, 0, 0))
    )
    x = x.reshape(len(x), height + cells - 1, s, width + cells - 1, s, -1).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(*x.shape[:3], -1)
    x = jax.lax.conv_general_dilated(
      x, kernel.reshape(cells, cells, -1, self.channels), (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    return x + self.param('bias', nn.initializers.zeros, (self.channels,)).astype(self.dtype) if self.use_bias else x


class GroupedConv(nn.Module):
  """A padded convolution of stride 1 in groups: each group of output channels sees one group of input channels.

  It is computed as one convolution per group: the gradient of XLA's grouped convolution takes four times as long on a
  CPU.

  Attributes:
    channels: of the output.
    kernel: height and width of the kernel, odd.
    groups: the number of groups.
    use_bias: whether there is a bias.
    dtype: of the computation.
    platform: as in `convolution_for`.
  """

  channels: int
  kernel: int
  groups: int = 1
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32
  platform: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] to [B, H, W, channels]."""
    shape = (self.kernel, self.kernel, x.shape[-1] // self.groups, self.channels)
    kernel = self.param('kernel', nn.initializers.he_normal(), shape).astype(self.dtype)
    parts = zip(jnp.split(x.astype(self.dtype), self.groups, -1), jnp.split(kernel, self.groups, -1), strict=True)
    convolve, padding = convolution_for(self.platform), [(self.kernel // 2,) * 2] * 2
    layout = {'dimension_numbers': ('NHWC', 'HWIO', 'NHWC')}
    x = jnp.concatenate([convolve(part, weights, (1, 1), padding, **layout) for part, weights in parts], -1)
    return x + self.param('bias', nn.initializers.zeros, (self.channels,)).astype(self.dtype) if self.use_bias else x
