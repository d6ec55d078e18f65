"""Upsampling by transposed convolution with one kernel per class: fixed bilinear, or trained.

With stride s and kernel 2s (or 2s - 1), only two features along each axis reach a pixel. A layer with one kernel per
class is therefore four shifted products: the features, shifted by 0 or 1, each times one quarter of the kernel. The
bilinear kernel is separable and the same for all classes. So if it is fixed, one matrix product along each axis gives
the same result. XLA's grouped transposed convolution takes seconds on a CPU.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax.models import grid

# How the layers of a network upsample: between score maps, and the last one, to pixels. `bilinear_fixed` has no
# parameter; `bilinear_learned` starts bilinear and is trained; `learned_random` starts at random and is trained.
METHODS = {
  'bilinear_fixed': ('bilinear_fixed', 'bilinear_fixed'),
  'bilinear_learned': ('bilinear_learned', 'bilinear_learned'),
  'learned_random': ('learned_random', 'learned_random'),
  'bilinear_last_fixed': ('bilinear_learned', 'bilinear_fixed'),  # CVPR'15, section 4.3
}


def transposed_convolution(x: jax.Array, kernel: jax.Array, stride: int | None = None) -> jax.Array:
  """A transposed convolution of each channel with its own kernel.

  Args:
    x: [B, h, w, C].
    kernel: [k, k, C], or [k, k, 1] for one kernel for all channels; k is 2 * stride or 2 * stride - 1.
    stride: k / 2 by default.

  Returns:
    [B, (h-1)*stride + k, (w-1)*stride + k, C]: x[:, i, j] times the kernel is added at rows i*stride to i*stride + k
    and at columns j*stride to j*stride + k.
  """
  batch, height, width, channels = x.shape
  size, stride = kernel.shape[0], stride or kernel.shape[0] // 2
  missing = 2 * stride - size
  if missing:  # a row and a column of zeros, which are cut off again at the end
    kernel = jnp.pad(kernel, ((0, missing), (0, missing), (0, 0)))
  # The four quarters of the kernel: quarters[p, :, q] meets the feature p rows above and q columns to the left.
  quarters = kernel.reshape(2, stride, 2, stride, -1)
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

  def product(p, q):
    shifted = padded[:, 1 - p : height + 2 - p, 1 - q : width + 2 - q]
    return shifted[:, :, None, :, None, :] * quarters[p, :, q][:, None]

  cells = product(0, 0) + product(0, 1) + product(1, 0) + product(1, 1)  # [B, h+1, s, w+1, s, C]
  out = cells.reshape(batch, (height + 1) * stride, (width + 1) * stride, channels)
  return out[:, : out.shape[1] - missing, : out.shape[2] - missing] if missing else out


def interpolate(x: jax.Array, stride: int, offset: int, size, kernel: int | None = None) -> jax.Array:
  """`transposed_convolution` with the bilinear kernel, cropped: [B, h, w, C] to [B, *size, C].

  Forward and backward, it takes less than half the time of shifted products on a CPU (`results/speed.md`).

  Args:
    x: [B, h, w, C].
    stride: the factor.
    offset: rows and columns that are cropped at the top left.
    size: height and width of the output.
    kernel: 2 * stride (the default) or 2 * stride - 1.
  """
  batch, h, w, channels = x.shape
  (height, width), exact = size, jax.lax.Precision.HIGHEST
  columns = jnp.asarray(grid.interpolation(w, stride, kernel)[offset : offset + width], x.dtype)
  rows = jnp.asarray(grid.interpolation(h, stride, kernel)[offset : offset + height], x.dtype)
  x = jnp.einsum('Ww,bhwc->bhWc', columns, x, precision=exact)
  # One product per image: otherwise XLA would move the images to the last axis and transpose the full-size result.
  rows = jnp.broadcast_to(rows, (batch, height, h))
  return jnp.matmul(rows, x.reshape(batch, h, -1), precision=exact).reshape(batch, height, width, channels)


def enlarge(x: jax.Array, size: jax.Array, full: jax.Array, rows: jax.Array, width: int) -> jax.Array:
  """Rows of a map that is enlarged bilinearly by any factor, for images that were resized when they were read.

  Features are squares; the outer edges of the map stay where they are, and its outermost features are continued.

  Args:
    x: [h, w, C], whose features outside of `size` are not read.
    size: height and width of the map, int [2].
    full: height and width of the enlarged map, int [2].
    rows: the rows of the enlarged map to compute, int [R].
    width: the number of columns to compute; those from `full` on have no meaning.

  Returns:
    [R, width, C].
  """

  def between(pixels, axis):
    """The features before and after each pixel, and how far it is from the first one to the second."""
    places = jnp.clip((pixels + 0.5) * (size[axis] / full[axis]) - 0.5, 0, size[axis] - 1)
    before = jnp.floor(places).astype(jnp.int32)
    return before, jnp.minimum(before + 1, size[axis] - 1), places - before

  for axis, pixels in ((0, rows), (1, jnp.arange(width))):
    before, after, share = between(pixels, axis)
    x, following = (jnp.take(x, places, axis, mode='clip') for places in (before, after))
    x += (following - x) * jnp.expand_dims(share, (1 - axis, 2)).astype(x.dtype)
  return x


class Upsample(nn.Module):
  """Upsamples scores [B, h, w, C] by the factor `stride`, and crops them to a size.

  Attributes:
    stride: the factor.
    method: 'bilinear_fixed', 'bilinear_learned' or 'learned_random' (`METHODS`).
    kernel: size of the kernel, 2 * stride or 2 * stride - 1 (`Grid.kernel_to`); 0 is 2 * stride.
  """

  stride: int
  method: str
  kernel: int = 0

  @nn.compact
  def __call__(self, x: jax.Array, offset: int, size) -> jax.Array:
    """[B, *size, C], from row and column `offset` of the transposed convolution; `size` is height and width."""
    kernel = self.kernel or 2 * self.stride
    if self.method == 'bilinear_fixed':
      return interpolate(x, self.stride, offset, size, kernel)
    shape = (kernel, kernel, x.shape[-1])
    if self.method == 'bilinear_learned':
      bilinear = grid.bilinear_kernel(self.stride, kernel)[..., None]
      weights = self.param('kernel', lambda _: jnp.broadcast_to(bilinear, shape))
    elif self.method == 'learned_random':
      # Four features reach a pixel, whatever the stride. Flax's default fan-in, the size of the kernel, would shrink
      # the scores with the stride and confound an ablation of it.
      weights = self.param('kernel', nn.initializers.normal(np.sqrt(1 / 4)), shape)
    else:
      raise ValueError(f'the upsampling method is {self.method!r}; expected one of {", ".join(METHODS)}')
    return crop(transposed_convolution(x, weights.astype(x.dtype), self.stride), offset, size)


def crop(x: jax.Array, offset: int, size) -> jax.Array:
  """[B, H, W, C] to [B, *size, C], from the same offset along both axes."""
  return x[:, offset : offset + size[0], offset : offset + size[1]]
