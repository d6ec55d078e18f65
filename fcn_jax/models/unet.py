"""U-Net (Ronneberger, Fischer and Brox, MICCAI 2015), with padded convolutions, for images of any size."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax.models import convolutions, layers
from fcn_jax.models.grid import Grid, Layout
from fcn_jax.models.upsample import crop

BASE = 64  # channels of the first level at width 1


class UNet(nn.Module):
  """Maps images of any size to a score for every class at every pixel.

  Each level has two 3x3 convolutions. On the way down, 2x2 max-pooling of stride 2 halves the resolution, with sizes
  rounded up, and the channels double. On the way up, a 2x2 transposed convolution of stride 2 doubles the resolution
  and halves the channels, and the features of the same level on the way down are concatenated. The published network
  has no padding, so its output is smaller than the image; here the convolutions are padded with zeros.

  Several input streams are concatenated. Several heads share all layers but the last one.

  Attributes:
    heads: number of classes of each head.
    mean, std: of each stream, one number per channel, for the normalization of images in 0..255.
    depth: number of poolings; the published network has 4.
    width: scales all channels; 1 is the published width, 64 channels at the first level.
    norm: 'none' (published) or 'group': GroupNorm after each 3x3 convolution, which then has no bias.
    group_size: channels per group.
    dropout: fraction of the lowest level's features that training drops, element by element.
    dtype: of the computation; parameters and scores are float32.
    remat: recompute the activations of each level in the backward pass instead of keeping them.
    platform: the hardware that the program is compiled for: 'cpu', 'gpu', 'tpu', or None.
  """

  heads: Mapping[str, int]
  mean: Mapping[str, tuple[float, ...]]
  std: Mapping[str, tuple[float, ...]]
  depth: int = 4
  width: float = 1.0
  norm: str = 'none'
  group_size: int = 8
  dropout: float = 0.5
  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  platform: str | None = None

  stride: ClassVar[int] = 1
  shrink: ClassVar[int] = 1

  @property
  def taps(self) -> dict[str, int]:
    """The lowest level, with its stride."""
    return {f'down{self.depth}': 2**self.depth}

  def example_inputs(self) -> dict[str, np.ndarray]:
    """The smallest inputs, for `init`."""
    return {stream: np.zeros((1, 1, 1, len(mean)), np.uint8) for stream, mean in self.mean.items()}

  def grids(self, image: Grid) -> dict[str, Grid]:
    """The grid of each level: down0, the pixels, to the lowest."""
    found = {'down0': image}
    for level in range(1, self.depth + 1):
      found[f'down{level}'] = found[f'down{level - 1}'].layer(2, stride=2, ceil=True)
    return found

  @nn.compact
  def __call__(
    self, inputs: Mapping[str, jax.Array], size: jax.Array | None = None, *, train: bool = False
  ) -> dict[str, jax.Array]:
    """Scores before the softmax; arguments and result are those of `FCN`."""
    canvas = np.array(next(iter(inputs.values())).shape[1:3])
    layout = Layout(self.grids(Grid(canvas)), None if size is None else self.grids(Grid(size)))
    streams = [
      (inputs[name].astype(jnp.float32) - jnp.array(mean)) / jnp.array(self.std[name])
      for name, mean in self.mean.items()
    ]
    x = layers.mask_out(layout.mask('down0'), jnp.concatenate(streams, axis=-1))
    level = nn.remat(UNet._level, static_argnums=(3, 4)) if self.remat else UNet._level
    skips = []
    for number in range(self.depth + 1):
      x = level(self, layers.max_pool(x) if number else x, layout.mask(f'down{number}'), f'down{number}', number)
      skips.append(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    for number in reversed(range(self.depth)):
      mask = layout.mask(f'down{number}')
      x = layers.mask_out(mask, crop(self._up(x, number), 0, layout.canvas[f'down{number}'].size))
      x = level(self, jnp.concatenate([skips[number], x], axis=-1), mask, f'up{number}', number)
    return {head: self._scores(x, head) for head in self.heads}

  def coarse_scores(self, params: dict, inputs: Mapping[str, jax.Array], size: jax.Array, stride: int) -> dict:
    """The scores of every pixel: a U-Net has none on a coarser grid."""
    del stride
    scores: Any = self.apply({'params': params}, inputs, size)
    return scores

  def _channels(self, level: int) -> int:
    return round(BASE * self.width * 2**level)

  def _level(self, x: jax.Array, mask: jax.Array | None, name: str, level: int) -> jax.Array:
    """Two 3x3 convolutions."""
    for number in (1, 2):
      x = nn.Conv(
        self._channels(level),
        (3, 3),
        padding=1,
        use_bias=self.norm == 'none',
        dtype=self.dtype,
        kernel_init=nn.initializers.he_normal(),
        conv_general_dilated=convolutions.convolution_for(self.platform),
        name=f'{name}_conv{number}',
      )(x)
      x = layers.normalize(
        x, mask, norm=self.norm, group_size=self.group_size, dtype=self.dtype, name=f'{name}_norm{number}'
      )
      x = layers.relu(x, mask)
    return x

  def _up(self, x: jax.Array, level: int) -> jax.Array:
    """The 2x2 transposed convolution of stride 2 to a level: [B, h, w, C] to [B, 2h, 2w, C / 2]."""
    return convolutions.DoublingConv(self._channels(level), dtype=self.dtype, name=f'up{level}')(x)

  def _scores(self, x: jax.Array, head: str) -> jax.Array:
    name = 'score' if len(self.heads) == 1 else f'score_{head}'
    conv = nn.Conv(self.heads[head], (1, 1), kernel_init=nn.initializers.zeros, dtype=self.dtype, name=name)
    return conv(x).astype(jnp.float32)
