"""FCN-32s, FCN-16s, FCN-8s and their continuation: scores, skips, fusion (CVPR'15, section 4.2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax.models import grid
from fcn_jax.models.upsample import METHODS, Upsample, crop
from fcn_jax.models.vgg import BLOCKS, VGG, keep, scaled

# Factors of the pools in FCN-8s at-once, which is trained in one go (the authors' network).
AT_ONCE = {'pool4': 0.01, 'pool3': 0.0001}


class FCN(nn.Module):
  """Pictures of any size to a score for every class at every pixel.

  Scores rise from fc7, at stride 32, by steps of 2 to `stride`; on the way the scores of each skip are added at its own
  stride; one last upsampling goes to pixels. Score layers start at zero, so a skip changes nothing at first.

  Attributes:
    classes: how many.
    trunk: see `VGG`.
    stride: of the finest score map: 32 is FCN-32s, 16 FCN-16s, 8 FCN-8s; 4 and 2 go on in the same way.
    skips: which of pool4 (stride 16), pool3 (8), pool2 (4), pool1 (2) are added; none finer than `stride`.
    upsample: a key of `METHODS`.
    shrink: the picture is averaged over cells of so many pixels squared first, and all strides are in cells: at 2 the
      trunk sees half the resolution, for a quarter of the cost, and scores are still of every pixel.
    at_once: multiplies the pools by `AT_ONCE` before their score layers.
    freeze_trunk: no gradient goes into it; `optim.make` sees to it that it does not decay either.
    mean, std: of the pictures' channels R, G, B, in 0..255, for the normalisation.
  """

  classes: int
  trunk: VGG
  stride: int = 8
  skips: tuple[str, ...] = ('pool4', 'pool3')
  upsample: str = 'bilinear_fixed'
  shrink: int = 1
  at_once: bool = False
  freeze_trunk: bool = False
  mean: tuple[float, ...] = (122.67892, 116.66877, 104.00699)
  std: tuple[float, ...] = (1.0, 1.0, 1.0)

  @nn.compact
  def __call__(self, images: jax.Array, size: jax.Array | None = None, *, train: bool = False) -> jax.Array:
    """Scores before the softmax.

    Args:
      images: [B, H, W, 3], RGB in 0..255, any type.
      size: int [B, 2], the height and width of each picture, which stands in the top left of its canvas; None where
        every picture fills it. Scores within `size` are those that the picture alone would get; others are to
        be ignored.
      train: use dropout; wants the random key 'dropout'.

    Returns:
      float32 [B, H, W, classes].
    """
    canvas = grid.maps(np.array(images.shape[1:3]), self.trunk.paddings, self.shrink)
    own = None if size is None else grid.maps(size, self.trunk.paddings, self.shrink)

    def mask(name):
      return None if own is None else grid.valid_mask(own[name].size, *canvas[name].size)

    x = (images.astype(jnp.float32) - jnp.array(self.mean)) / jnp.array(self.std)
    x = _mean_of_cells(keep(mask('pixels'), x), mask('pixels'), self.shrink)
    maps = self.trunk(x, mask, train)
    if self.freeze_trunk:
      maps = jax.lax.stop_gradient(maps)
    x = self._score(maps['fc7'], mask('fc7'), 'score_fr')
    self.sow('intermediates', 'scores_32', x)
    now, (between, last) = 'fc7', METHODS[self.upsample]
    for skip, stride in grid.SKIP_STRIDES.items():
      if stride < self.stride:
        break
      fused = f'stride {stride}'
      # Both maps on the part that they share: in the aligned geometry the skip's, in Caffe's the coarser one's.
      risen = canvas[now].upsampled(2)
      ahead = risen.offset(canvas[skip])
      for known in (canvas, own):
        if known is not None:
          known[fused] = known[skip] if ahead >= 0 else known[now].upsampled(2)
      x = Upsample(2, between, name=f'upsample_to_{stride}')(x, max(ahead, 0), canvas[fused].size)
      if skip in self.skips:
        scores = self._score(self._scaled(maps[skip], skip), mask(skip), f'score_{skip}')
        x = x + crop(scores, max(-ahead, 0), canvas[fused].size)
      x = keep(mask(fused), x)
      self.sow('intermediates', f'scores_{stride}', x)
      now = fused
    factor = canvas[now].stride
    offset = canvas[now].upsampled(factor).offset(canvas['pixels'])
    return Upsample(factor, last, name='upsample_to_1')(x, offset, canvas['pixels'].size)

  def coarse_scores(self, params: dict, images: jax.Array, size: jax.Array, stride: int) -> jax.Array:
    """The scores on the grid of a stride, 32 to `self.stride`: float32 [B, h, w, classes]."""
    _, kept = self.apply({'params': params}, images, size, mutable='intermediates')
    return kept['intermediates'][f'scores_{stride}'][0]

  def _scaled(self, x: jax.Array, skip: str) -> jax.Array:
    return x * AT_ONCE[skip] if self.at_once else x

  def _score(self, x: jax.Array, mask: jax.Array | None, name: str) -> jax.Array:
    conv = nn.Conv(self.classes, (1, 1), kernel_init=nn.initializers.zeros, dtype=self.trunk.dtype, name=name)
    return keep(mask, conv(x).astype(jnp.float32))


def _mean_of_cells(x: jax.Array, mask: jax.Array | None, cell: int) -> jax.Array:
  """Means over cells x cell squares, [B, ceil(H/cell), ceil(W/cell), 3]; pixels outside of the picture do not count."""
  if cell == 1:
    return x
  inside = jnp.ones((1, *x.shape[1:3], 1)) if mask is None else mask.astype(x.dtype)
  return _sum_of_cells(x, cell) / jnp.maximum(_sum_of_cells(inside, cell), 1)


def _sum_of_cells(x: jax.Array, cell: int) -> jax.Array:
  batch, height, width, channels = x.shape
  x = jnp.pad(x, ((0, 0), (0, -height % cell), (0, -width % cell), (0, 0)))
  return x.reshape(batch, x.shape[1] // cell, cell, x.shape[2] // cell, cell, channels).sum((2, 4))


def from_config(config, classes: int) -> FCN:
  """The network of a whole run config (`fcn_jax/config.py`) for a number of classes."""
  model = config.model
  trunk = VGG(
    width=model.width,
    fc_channels=model.fc_channels,
    norm=model.norm,
    group_size=model.group_size,
    dropout=model.dropout,
    dtype=jnp.dtype(model.dtype),
    remat=model.remat,
    paddings=grid.PADDINGS[model.geometry],
  )
  return FCN(
    classes=classes,
    trunk=trunk,
    stride=model.stride,
    skips=skips_of(model.stride, model.skips),
    upsample=model.upsample,
    shrink=model.shrink,
    at_once=model.at_once,
    freeze_trunk=config.optim.freeze_trunk,
    mean=tuple(config.data.mean),
    std=tuple(config.data.std),
  )


def skips_of(stride: int, skips: str) -> tuple[str, ...]:
  """The pools that `model.skips` names: 'all' down to the stride, 'none', or names joined by '+'."""
  if skips == 'all':
    return tuple(name for name, s in grid.SKIP_STRIDES.items() if s >= stride)
  return () if skips == 'none' else tuple(skips.split('+'))


def flops(model: FCN, height: int, width: int) -> int:
  """Floating point operations of a forward pass of one picture: 2 for each multiply-add of the convolutions."""
  maps = grid.maps(np.array([height, width]), model.trunk.paddings, model.shrink)
  places = {name: int(np.prod(known.size)) for name, known in maps.items()}
  channels, total, pool_channels = 3, 0, {}
  for index, (block_channels, convolutions) in enumerate(BLOCKS):
    out = scaled(block_channels, model.trunk.width)
    total += places[f'conv{index + 1}'] * 9 * out * (channels + (convolutions - 1) * out)
    pool_channels[f'pool{index + 1}'] = channels = out
  fc = scaled(model.trunk.fc_channels, model.trunk.width)
  total += places['fc7'] * (49 * channels * fc + fc * fc + fc * model.classes)
  total += sum(places[skip] * pool_channels[skip] * model.classes for skip in model.skips)
  steps = [places[skip] for skip, s in grid.SKIP_STRIDES.items() if s >= model.stride]
  total += (sum(steps) + height * width) * 4 * model.classes  # four features reach each pixel
  return 2 * total
