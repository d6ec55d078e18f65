"""ResNet-18 and ResNet-50 (He, Zhang, Ren and Sun, CVPR 2016) without their classifier.

The strides of a block are on its 3x3 convolution, as in torchvision's networks ("v1.5"). Layers have torchvision's
names, such as layer1.0.conv1, so that its weights find their places by name.
"""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from fcn_jax.models import names
from fcn_jax.models.convolutions import StridedConv, convolution_for
from fcn_jax.models.grid import Grid
from fcn_jax.models.layers import mask_out, max_pool_3x3, normalize, relu

CHANNELS = (64, 128, 256, 512)  # of the 3x3 convolutions in the blocks of each stage
EXPANSION = 4  # of the channels at the end of a bottleneck


class ResNet(nn.Module):
  """Maps normalized images [B, H, W, C] to the feature maps that scores are read from.

  Subclasses set the number of blocks of each stage, and whether blocks are bottlenecks (1x1, 3x3, 1x1).

  Attributes:
    width: scales all channels; 1 is the published width.
    norm: 'group': GroupNorm; or 'frozen_batch': BatchNorm with the stored statistics of pretrained weights.
    group_size: channels per group.
    dropout: fraction of the features of stage4 that training drops, element by element.
    dtype: of the computation; parameters are float32.
    remat: recompute the activations of each block in the backward pass instead of keeping them.
    platform: the hardware that the program is compiled for: 'cpu', 'gpu' or 'tpu'.
  """

  width: float = 1.0
  norm: str = 'group'
  group_size: int = 8
  dropout: float = 0.0
  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  platform: str | None = None

  blocks: ClassVar[tuple[int, ...]]
  bottleneck: ClassVar[bool]

  def grids(self, image: Grid) -> dict[str, Grid]:
    """The grids of conv1, of the pooled stem, and of stage1 to stage4; blocks keep the grid of their stage."""
    found = {'conv1': image.layer(7, stride=2, padding=3)}
    found['stem'] = grid = found['conv1'].layer(3, stride=2, padding=1)
    for number in range(1, len(CHANNELS) + 1):
      found[f'stage{number}'] = grid = grid.layer(3, stride=1 if number == 1 else 2, padding=1)
    return found

  @nn.compact
  def __call__(self, x: jax.Array, mask_of: Callable, train: bool) -> dict[str, jax.Array]:
    """Returns conv1 (stride 2) and stage1 to stage4 (strides 4 to 32); the arguments are those of `VGG16`."""
    mask = mask_of('conv1')
    conv1 = StridedConv(round(CHANNELS[0] * self.width), 7, 2, 3, use_bias=False, dtype=self.dtype, name='conv1')
    x = relu(self._norm(conv1(x), mask, 'bn1'), mask)
    maps = {'conv1': x}
    x = mask_out(mask_of('stem'), max_pool_3x3(x, padding=1))  # a window outside the image may reach into it
    before = mask_of('stem')
    block = nn.remat(type(self)._block, static_argnums=(4, 5, 6)) if self.remat else type(self)._block
    for stage, count in enumerate(self.blocks, start=1):
      mask = mask_of(f'stage{stage}')
      for number in range(count):
        stride = 2 if stage > 1 and number == 0 else 1
        x = block(self, x, before, mask, stage, number, stride)
        before = mask
      maps[f'stage{stage}'] = x
    maps['stage4'] = nn.Dropout(self.dropout, deterministic=not train)(x)
    return maps

  def _block(self, x, before, mask, stage: int, number: int, stride: int) -> jax.Array:
    """A residual block: x [B, H, W, C], with the masks of its input and its output."""
    name, channels = f'layer{stage}.{number}', CHANNELS[stage - 1]
    layers = [('1', channels, 3, stride), ('2', channels, 3, 1)]
    if self.bottleneck:
      layers = [('1', channels, 1, 1), ('2', channels, 3, stride), ('3', channels * EXPANSION, 1, 1)]
    y = x
    for index, (layer, out, kernel, step) in enumerate(layers):
      within = before if index == 0 and step == 1 else mask
      y = self._norm(self._conv(y, out, kernel, f'{name}.conv{layer}', stride=step), within, f'{name}.bn{layer}')
      if index < len(layers) - 1:
        y = relu(y, within)
    if x.shape != y.shape:
      x = x[:, ::stride, ::stride]  # faster than a 1x1 convolution with a stride
      x = self._norm(self._conv(x, out, 1, f'{name}.downsample.0', stride=1), mask, f'{name}.downsample.1')
    return relu(x + y, mask)

  def _conv(self, x: jax.Array, channels: int, kernel: int, name: str, *, stride: int) -> jax.Array:
    return nn.Conv(
      round(channels * self.width),
      (kernel, kernel),
      stride,
      padding=kernel // 2,
      use_bias=False,
      dtype=self.dtype,
      kernel_init=nn.initializers.he_normal(),
      conv_general_dilated=convolution_for(self.platform),
      name=name,
    )(x)

  def _norm(self, x: jax.Array, mask: jax.Array | None, name: str) -> jax.Array:
    return normalize(x, mask, norm=self.norm, group_size=self.group_size, dtype=self.dtype, name=name)


class ResNet18(ResNet):
  """ResNet-18."""

  taps: ClassVar[dict[str, int]] = names.BACKBONES['resnet18'].taps
  blocks: ClassVar[tuple[int, ...]] = (2, 2, 2, 2)
  bottleneck: ClassVar[bool] = False


class ResNet50(ResNet):
  """ResNet-50."""

  taps: ClassVar[dict[str, int]] = names.BACKBONES['resnet50'].taps
  blocks: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)
  bottleneck: ClassVar[bool] = True
