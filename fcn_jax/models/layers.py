"""Layers in the forms that are fast: convolutions, pooling, ReLU, norm, and masking (`results/speed.md`).

If the fast form depends on the hardware, the name of the target platform selects it ('cpu', 'gpu', 'tpu'), which the
model is built with. Nothing here asks jax which hardware is present, so a program can be compiled for other hardware.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

_FEW = 2  # images; with three, the weight gradient is as fast without strips
_STRIPS = 4  # per image


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
