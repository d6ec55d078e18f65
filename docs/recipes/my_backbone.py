"""A backbone: ResNet with one residual block per stage."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from fcn_jax.models.grid import Grid
from fcn_jax.models.layers import normalize, relu


class TinyResNet(nn.Module):
  taps: ClassVar = {'stage4': 32, 'stage3': 16, 'stage2': 8, 'stage1': 4, 'stem': 2}
  width: float = 1.0  # the settings of the section `model` that the backbone has
  norm: str = 'none'
  group_size: int = 8
  dtype: jnp.dtype = jnp.float32

  def grids(self, image: Grid) -> dict[str, Grid]:
    grid = image.layer(kernel=7, stride=2, padding=3)
    found = {'stem': grid}
    for stage in ('stage1', 'stage2', 'stage3', 'stage4'):
      grid = found[stage] = grid.layer(kernel=3, stride=2, padding=1)
    return found

  @nn.compact
  def __call__(self, x, mask_of, train):  # x: [B, H, W, C], normalized; train: for dropout
    def conv(x, channels, kernel, stride, mask, name):
      x = nn.Conv(channels, (kernel, kernel), stride, kernel // 2, dtype=self.dtype, name=name)(x)
      options = {'norm': self.norm, 'group_size': self.group_size, 'dtype': self.dtype}
      return normalize(x, mask, **options, name=f'{name}.norm')

    channels, mask = round(64 * self.width), mask_of('stem')
    maps = {'stem': relu(conv(x, channels, 7, 2, mask, 'stem.conv'), mask)}
    for stage, before in (('stage1', 'stem'), ('stage2', 'stage1'), ('stage3', 'stage2'), ('stage4', 'stage3')):
      x, mask = maps[before], mask_of(stage)
      y = relu(conv(x, channels, 3, 2, mask, f'{stage}.conv1'), mask)
      y = conv(y, channels, 3, 1, mask, f'{stage}.conv2') + conv(x, channels, 1, 2, mask, f'{stage}.shortcut')
      maps[stage] = relu(y, mask)
    return maps
