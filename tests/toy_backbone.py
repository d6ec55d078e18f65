"""A backbone unlike VGG-16: its stem has stride 4 and an overlapping pooling, and its features align without cells."""

from typing import ClassVar

import flax.linen as nn
import jax

from fcn_jax.models.grid import Grid
from fcn_jax.models.layers import mask_out, relu


class Toy(nn.Module):
  """A 7x7 convolution of stride 2, a 3x3 pooling of stride 2, then 3x3 convolutions of stride 2 (`stage1` to `stage3`).

  Attributes:
    padding: of the pooling: 1 as in ResNet, or 0 with sizes rounded up as in Caffe's AlexNet.
    channels: of every layer.
  """

  padding: int = 1
  channels: int = 8

  taps: ClassVar[dict[str, int]] = {'stage3': 32, 'stage2': 16, 'stage1': 8, 'stem': 4}

  def grids(self, image: Grid) -> dict[str, Grid]:
    """The grid of every layer."""
    found = {'conv': image.layer(7, stride=2, padding=3)}
    grid = found['stem'] = found['conv'].layer(3, stride=2, padding=self.padding, ceil=not self.padding)
    for number in (1, 2, 3):
      grid = found[f'stage{number}'] = grid.layer(3, stride=2, padding=1)
    return found

  @nn.compact
  def __call__(self, x: jax.Array, mask_of, train: bool) -> dict[str, jax.Array]:
    """Normalized images [B, H, W, C] to the taps."""
    conv = nn.Conv(self.channels, (7, 7), 2, padding=3, name='conv')(x)
    pads = [(self.padding, self.padding or (n - 3) % 2) for n in conv.shape[1:3]]
    pooled = nn.max_pool(relu(conv, mask_of('conv')), (3, 3), (2, 2), pads)
    maps = {'stem': mask_out(mask_of('stem'), pooled)}  # a window that starts outside the image may reach into it
    for number, before in ((1, 'stem'), (2, 'stage1'), (3, 'stage2')):
      conv = nn.Conv(self.channels, (3, 3), 2, padding=1, name=f'stage{number}')(maps[before])
      maps[f'stage{number}'] = relu(conv, mask_of(f'stage{number}'))
    return maps


def toy(padding: int = 1) -> Toy:
  """The backbone under the name that parameters are stored with."""
  return Toy(padding, name='trunk')
