"""The trunk: VGG-16 with its classifier turned into convolutions (CVPR'15, section 4.1)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from fcn_jax.models.grid import PADDINGS
from fcn_jax.models.layers import PatchConv, conv_general_dilated

BLOCKS = (
  (64, 2),
  (128, 2),
  (256, 3),
  (512, 3),
  (512, 3),
)  # channels and 3x3 convolutions before each pooling


def max_pool(x: jax.Array) -> jax.Array:
  """2x2 max-pooling of stride 2 of x >= 0, sizes rounded up: [B, H, W, C] to [B, ceil(H/2), ceil(W/2), C].

  Written with slices because XLA's own backward pass (select-and-scatter) is several times slower on CPUs, and has no
  deterministic form on GPUs. x follows a ReLU, so padding with zeros is padding with -inf.
  """
  x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
  rows = jnp.maximum(x[:, 0::2], x[:, 1::2])
  return jnp.maximum(rows[:, :, 0::2], rows[:, :, 1::2])


@jax.custom_vjp
def relu(x: jax.Array, mask: jax.Array | None) -> jax.Array:
  """The larger of x and 0 inside the pictures, zero outside; `mask` as for `keep`.

  Its gradient is read from what it returns. By XLA's own choice, the x before would be kept for it as well, and bias,
  ReLU and mask computed anew by whatever reads the result.
  """
  return keep(mask, nn.relu(x))


def _relu_forward(x, mask):
  y = jax.lax.optimization_barrier(keep(mask, nn.relu(x)))
  return y, y


def _relu_backward(y, gradient):
  return jnp.where(y > 0, gradient, 0), None


relu.defvjp(_relu_forward, _relu_backward)


class VGG(nn.Module):
  """Images [B, H, W, 3], normalised, to the maps that scores are read from.

  Attributes:
    width: scales all channels; 1 is the paper's.
    fc_channels: of fc6 and fc7, before `width`.
    norm: 'none' (the paper) or 'group': GroupNorm after each convolution, which then has no bias. GroupNorm keeps no
      running statistics: a picture's result depends neither on its batch nor on the number of devices.
    group_size: channels a group.
    dropout: the share of fc6's and fc7's outputs that training drops, element by element.
    dtype: of the computation; parameters are float32.
    remat: recompute each block's activations in the backward pass instead of keeping them.
    paddings: zeros on each side of conv1_1 and of fc6, a value of `geometry.PADDINGS`.
  """

  width: float = 1.0
  fc_channels: int = 4096
  norm: str = 'none'
  group_size: int = 8
  dropout: float = 0.5
  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  paddings: tuple[int, int] = PADDINGS['aligned']

  def _norm(self, x: jax.Array, mask: jax.Array | None, name: str) -> jax.Array:
    if self.norm == 'none':
      return x
    # Statistics over the picture's own pixels only; flax wants the mask in x's full shape.
    mask = None if mask is None else jnp.broadcast_to(mask, x.shape)
    return nn.GroupNorm(None, group_size=self.group_size, dtype=self.dtype, name=name)(x, mask=mask)

  def _block(self, x: jax.Array, mask: jax.Array | None, index: int) -> jax.Array:
    channels, convolutions = BLOCKS[index]
    for i in range(convolutions):
      number = f'{index + 1}_{i + 1}'
      x = nn.Conv(
        scaled(channels, self.width),
        (3, 3),
        padding=self.paddings[0] if index == i == 0 else 1,
        use_bias=self.norm == 'none',
        dtype=self.dtype,
        kernel_init=nn.initializers.he_normal(),
        conv_general_dilated=conv_general_dilated,
        name=f'conv{number}',
      )(x)
      x = relu(self._norm(x, mask, f'norm{number}'), mask)
    return max_pool(x)

  @nn.compact
  def __call__(self, x: jax.Array, mask_of: Callable, train: bool) -> dict[str, jax.Array]:
    """Returns pool1 to pool5 (strides 2 to 32) and fc7 (stride 32).

    Args:
      x: [B, H, W, 3].
      mask_of: gives the valid mask [B, h, w, 1] of a map of `geometry.maps`, or None where all of it is valid.
      train: drop out fc6 and fc7; wants the random key 'dropout'.
    """
    maps = {}
    for index in range(len(BLOCKS)):
      block = nn.remat(VGG._block, static_argnums=(3,)) if self.remat else VGG._block
      x = block(self, x, mask_of(f'conv{index + 1}'), index)
      maps[f'pool{index + 1}'] = x
    channels = scaled(self.fc_channels, self.width)
    mask = mask_of('fc7')
    for name, kernel, padding in (('fc6', 7, self.paddings[1]), ('fc7', 1, 0)):
      bias = self.norm == 'none'
      x = PatchConv(channels, kernel, padding, bias, self.dtype, name=name)(x)
      x = relu(self._norm(x, mask, f'norm_{name}'), mask)
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return maps | {'fc7': x}


def scaled(channels: int, width: float) -> int:
  """A number of channels at a width; `config.validate` sees to it that it is whole and fits the groups."""
  return round(channels * width)


def keep(mask: jax.Array | None, x: jax.Array) -> jax.Array:
  """x inside the pictures, zero outside; x itself where there is no mask."""
  return x if mask is None else jnp.where(mask, x, 0)
