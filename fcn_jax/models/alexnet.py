"""CaffeNet, Caffe's AlexNet (Krizhevsky, Sutskever and Hinton, 2012), with its classifier turned into convolutions.

The FCN-AlexNet of the papers is FCN-32s on this backbone, in the `caffe` geometry.
"""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from fcn_jax.models import names
from fcn_jax.models.convolutions import GroupedConv, PatchConv, StridedConv
from fcn_jax.models.grid import Grid
from fcn_jax.models.layers import local_response_norm, mask_out, max_pool_3x3, normalize, relu

# Name, channels, kernel and groups of the convolutions after conv1; a pooling follows conv2 and conv5.
CONVOLUTIONS = (
  ('conv2', 256, 5, 2),
  ('conv3', 384, 3, 1),
  ('conv4', 384, 3, 2),
  ('conv5', 256, 3, 2),
)
# Zeros on each side of conv1, of the poolings and of fc6. Caffe's poolings round sizes up instead.
PADDINGS = {'aligned': (5, 1, 3), 'caffe': (100, 0, 0)}


class AlexNet(nn.Module):
  """Maps normalized images [B, H, W, C] to the feature maps that scores are read from.

  Attributes: those of `VGG16`, whose dropout and fully connected layers are the same.
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

  taps: ClassVar[dict[str, int]] = names.BACKBONES['alexnet'].taps

  def grids(self, image: Grid) -> dict[str, Grid]:
    """The grids of conv1, pool1 (also conv2), pool2 (also conv3 to conv5), pool5 and fc7."""
    first, pool, fc6 = PADDINGS[self.geometry]
    found = {'conv1': image.layer(11, stride=4, padding=first)}
    grid = found['conv1']
    for name in ('pool1', 'pool2', 'pool5'):
      found[name] = grid = grid.layer(3, stride=2, padding=pool, ceil=not pool)
    return found | {'fc7': grid.layer(6, padding=fc6)}

  @nn.compact
  def __call__(self, x: jax.Array, mask_of: Callable, train: bool) -> dict[str, jax.Array]:
    """Returns conv1, pool1, pool2 and pool5 (strides 4 to 32) and fc7 (stride 32); arguments as those of `VGG16`."""
    features = nn.remat(AlexNet._features) if self.remat else AlexNet._features
    maps = features(self, x, {name: mask_of(name) for name in ('conv1', 'pool1', 'pool2', 'pool5')})
    x, mask = maps['pool5'], mask_of('fc7')
    for name, kernel, padding in (('fc6', 6, PADDINGS[self.geometry][2]), ('fc7', 1, 0)):
      bias = self.norm == 'none'
      x = PatchConv(round(self.fc_channels * self.width), kernel, padding, bias, self.dtype, name=name)(x)
      x = relu(self._norm(x, mask, name), mask)
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return maps | {'fc7': x}

  def _features(self, x: jax.Array, masks: dict) -> dict[str, jax.Array]:
    bias, dtype = self.norm == 'none', self.dtype
    conv = StridedConv(round(96 * self.width), 11, 4, PADDINGS[self.geometry][0], bias, dtype, name='conv1')
    maps = {'conv1': relu(self._norm(conv(x), masks['conv1'], 'conv1'), masks['conv1'])}
    maps['pool1'] = x = self._pool(maps['conv1'], masks['pool1'])
    x = local_response_norm(x)
    for name, channels, kernel, groups in CONVOLUTIONS:
      mask = masks['pool1'] if name == 'conv2' else masks['pool2']
      x = GroupedConv(round(channels * self.width), kernel, groups, bias, dtype, self.platform, name=name)(x)
      x = relu(self._norm(x, mask, name), mask)
      if name == 'conv2':
        maps['pool2'] = x = self._pool(x, masks['pool2'])
        x = local_response_norm(x)
    return maps | {'pool5': self._pool(x, masks['pool5'])}

  def _pool(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    padding = PADDINGS[self.geometry][1]
    # A window that starts outside the image may reach into it.
    return mask_out(mask, max_pool_3x3(x, padding, ceil=not padding))

  def _norm(self, x: jax.Array, mask: jax.Array | None, name: str) -> jax.Array:
    return normalize(x, mask, norm=self.norm, group_size=self.group_size, dtype=self.dtype, name=f'norm_{name}')
