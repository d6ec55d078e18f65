"""Upsampling by transposed convolution, one kernel a class: fixed bilinear, or trained from bilinear or at random.

With kernel 2s and stride s only two features reach a pixel along each axis, so a layer with a kernel a class is four
shifted products: the features, moved by 0 or 1, times one quarter of the kernel each. The bilinear kernel is the same
for all classes and is an outer product, so that as long as it stays fixed, a product of matrices along each axis does.
XLA's grouped transposed convolution takes seconds on a CPU.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax.models import grid

# How the layers of a network upsample: between score maps, and the last one, to pixels. `bilinear_fixed` has no
# parameter; `bilinear_learned` starts as bilinear and is trained; `learned_random` starts at random and is trained.
METHODS = {
  'bilinear_fixed': ('bilinear_fixed', 'bilinear_fixed'),
  'bilinear_learned': ('bilinear_learned', 'bilinear_learned'),
  'learned_random': ('learned_random', 'learned_random'),
  'bilinear_last_fixed': ('bilinear_learned', 'bilinear_fixed'),  # CVPR'15, section 4.3
}


def transposed_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Each channel convolved, transposed, with its own kernel.

  Args:
    x: [B, h, w, C].
    kernel: [2s, 2s, C], or [2s, 2s, 1] for one kernel for all.

  Returns:
    [B, (h+1)*s, (w+1)*s, C]: x[:, i, j] times the kernel is added at rows i*s to i*s + 2s, likewise columns.
  """
  batch, height, width, channels = x.shape
  stride = kernel.shape[0] // 2
  # The four quarters of the kernel: quarter[p, q] meets the feature p rows above and q columns to the left.
  quarters = kernel.reshape(2, stride, 2, stride, -1)
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

  def product(p, q):
    shifted = padded[:, 1 - p : height + 2 - p, 1 - q : width + 2 - q]
    return shifted[:, :, None, :, None, :] * quarters[p, :, q][:, None]

  cells = product(0, 0) + product(0, 1) + product(1, 0) + product(1, 1)  # [B, h+1, s, w+1, s, C]
  return cells.reshape(batch, (height + 1) * stride, (width + 1) * stride, channels)


def interpolate(x: jax.Array, stride: int, offset: int, size) -> jax.Array:
  """`transposed_convolution` with the bilinear kernel, cropped: [B, h, w, C] to [B, *size, C].

  Backward and forward, it takes less than half the time of shifted products on a CPU (`results/speed.md`).
  """
  batch, h, w, channels = x.shape
  (height, width), exact = size, jax.lax.Precision.HIGHEST
  columns = jnp.asarray(grid.interpolation(w, stride)[offset : offset + width], x.dtype)
  rows = jnp.asarray(grid.interpolation(h, stride)[offset : offset + height], x.dtype)
  x = jnp.einsum('Ww,bhwc->bhWc', columns, x, precision=exact)
  # One product a picture, since XLA would put the pictures last and the result of full size in order again.
  rows = jnp.broadcast_to(rows, (batch, height, h))
  return jnp.matmul(rows, x.reshape(batch, h, -1), precision=exact).reshape(batch, height, width, channels)


class Upsample(nn.Module):
  """Scores [B, h, w, C] to [B, (h+1)*stride, (w+1)*stride, C], of which a part is kept (`geometry.Map`).

  Attributes:
    stride: the factor; the kernel is [2*stride, 2*stride].
    method: a value of `METHODS`.
  """

  stride: int
  method: str

  @nn.compact
  def __call__(self, x: jax.Array, offset: int, size) -> jax.Array:
    """`size` (height, width) of the output, from the same offset along both axes."""
    shape = (2 * self.stride, 2 * self.stride, x.shape[-1])
    if self.method == 'bilinear_fixed':
      return interpolate(x, self.stride, offset, size)
    if self.method == 'bilinear_learned':
      bilinear = grid.bilinear_kernel(self.stride)[..., None]
      kernel = self.param('kernel', lambda _: jnp.broadcast_to(bilinear, shape))
    elif self.method == 'learned_random':
      # Four features reach a pixel, whatever the stride: a fan-in of the kernel's size, Flax's default, would shrink
      # the scores with the stride and confound an ablation of it.
      kernel = self.param('kernel', nn.initializers.normal(np.sqrt(1 / 4)), shape)
    else:
      raise ValueError(f'unknown upsampling method {self.method!r}')
    return crop(transposed_convolution(x, kernel.astype(x.dtype)), offset, size)


def crop(x: jax.Array, offset: int, size) -> jax.Array:
  """[B, H, W, C] to [B, *size, C], from the same offset along both axes."""
  return x[:, offset : offset + size[0], offset : offset + size[1]]
