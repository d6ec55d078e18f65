"""The paper's backbone: VGG-16 with its classifier turned into convolutions (CVPR'15, section 4.1)."""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from fcn_jax.models import names
from fcn_jax.models.convolutions import PatchConv, convolution_for
from fcn_jax.models.grid import Grid
from fcn_jax.models.layers import max_pool, normalize, relu

# Channels and number of 3x3 convolutions of each block; a pooling follows each block.
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))

# Zeros on each side of conv1_1 and of fc6.
PADDINGS = {'aligned': (1, 3), 'caffe': (100, 0)}


class VGG16(nn.Module):
  """Maps normalized images [B, H, W, C] to the feature maps that scores are read from.

  Attributes:
    width: scales all channels; 1 is the paper's width.
    fc_channels: channels of fc6 and fc7, before `width`.
    norm: 'none' (the paper) or 'group': GroupNorm after each convolution, which then has no bias.
    group_size: channels per group.
    dropout: fraction of the outputs of fc6 and fc7 that training drops, element by element.
    dtype: of the computation; parameters are float32.
    remat: recompute the activations of each block in the backward pass instead of keeping them.
    geometry: a key of `PADDINGS`.
    platform: the hardware that the program is compiled for: 'cpu', 'gpu' or 'tpu'; None for XLA's convolutions.
  """

  width: float = 1.0
  fc_channels: int = 4096
  norm: str = 'none'
  group_size: int = 8
  dropout: float = 0.5
  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  geometry: str = 'aligned'
  platform: str | None = None

  taps: ClassVar[dict[str, int]] = names.BACKBONES['vgg16'].taps

  def grids(self, image: Grid) -> dict[str, Grid]:
    """The grids of conv1 to conv5 (all convolutions of a block), pool1 to pool5 and fc7, given the input's grid."""
    first, fc6 = PADDINGS[self.geometry]
    found, grid = {}, image.layer(3, padding=first)
    for number in range(1, len(BLOCKS) + 1):
      found[f'conv{number}'] = grid
      found[f'pool{number}'] = grid = grid.layer(2, stride=2, ceil=True)
    return found | {'fc7': grid.layer(7, padding=fc6)}

  @nn.compact
  def __call__(self, x: jax.Array, mask_of: Callable, train: bool) -> dict[str, jax.Array]:
    """Returns pool1 to pool5 (strides 2 to 32) and fc7 (stride 32).

    Args:
      x: [B, H, W, C].
      mask_of: gives the valid mask [B, h, w, 1] of a map of `grids`, or None if all of it is valid.
      train: drop out fc6 and fc7; requires the random key 'dropout'.
    """
    maps = {}
    for index in range(len(BLOCKS)):
      block = nn.remat(VGG16._block, static_argnums=(3,)) if self.remat else VGG16._block
      x = block(self, x, mask_of(f'conv{index + 1}'), index)
      maps[f'pool{index + 1}'] = x
    mask = mask_of('fc7')
    for name, kernel, padding in (('fc6', 7, PADDINGS[self.geometry][1]), ('fc7', 1, 0)):
      bias = self.norm == 'none'
      x = PatchConv(scaled(self.fc_channels, self.width), kernel, padding, bias, self.dtype, name=name)(x)
      x = relu(self._normalize(x, mask, f'norm_{name}'), mask)
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return maps | {'fc7': x}

  def _block(self, x: jax.Array, mask: jax.Array | None, index: int) -> jax.Array:
    channels, convolutions = BLOCKS[index]
    for i in range(convolutions):
      number = f'{index + 1}_{i + 1}'
      x = nn.Conv(
        scaled(channels, self.width),
        (3, 3),
        padding=PADDINGS[self.geometry][0] if index == i == 0 else 1,
        use_bias=self.norm == 'none',
        dtype=self.dtype,
        kernel_init=nn.initializers.he_normal(),
        conv_general_dilated=convolution_for(self.platform),
        name=f'conv{number}',
      )(x)
      x = relu(self._normalize(x, mask, f'norm{number}'), mask)
    return max_pool(x)

  def _normalize(self, x: jax.Array, mask: jax.Array | None, name: str) -> jax.Array:
    return normalize(x, mask, norm=self.norm, group_size=self.group_size, dtype=self.dtype, name=name)


def scaled(channels: int, width: float) -> int:
  """A number of channels at a width; `config.validate` ensures that it is whole and divisible into groups."""
  return round(channels * width)
