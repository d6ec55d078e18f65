"""FCN-32s, FCN-16s, FCN-8s and finer: scores, skip connections, fusion and upsampling (CVPR'15, section 4.2)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax.models import layers
from fcn_jax.models.grid import Grid, Layout
from fcn_jax.models.upsample import METHODS, Upsample, crop

# Factors on the pools of the authors' FCN-8s at-once, which is trained in one stage.
AT_ONCE = {'pool4': 0.01, 'pool3': 0.0001}


class FCN(nn.Module):
  """Maps images of any size to a score for every class at every pixel.

  Scores rise from the coarsest tap of the backbone in steps to `stride`. On the way, the scores of each skip connection
  are added at its own stride. One last upsampling goes to pixels. Score layers start at zero, so a skip connection
  changes nothing at first.

  Each input stream, such as RGB or HHA, has a backbone; the scores of several streams are averaged. Several heads, such
  as semantic and geometric classes, share the backbones; each head has its own score layers and upsampling.

  Attributes:
    heads: number of classes of each head.
    backbones: the backbone of each stream, such as `VGG16(name='trunk')`; parameters are stored under these names. All
      must have the same taps on the same grids.
    mean, std: of each stream, one number per channel, for the normalization of images in 0..255.
    stride: of the finest score map, in cells. For VGG-16, 32 is FCN-32s, 16 is FCN-16s, 8 is FCN-8s; 4 and 2 are finer.
    skips: the taps that are added as skip connections; none is finer than `stride`.
    upsample: a key of `METHODS`.
    shrink: the image is first averaged over cells of shrink x shrink pixels. At 2, the backbone sees half the
      resolution for a quarter of the cost; scores are still of every pixel.
    tap_factors: constants that taps are multiplied by before their score layers, such as `AT_ONCE`.
    freeze_backbone: no gradient flows into the backbones; `optim.make` also excludes them from weight decay.
    dtype: of the score layers; the scores themselves are float32.
    platform: the hardware that the program is compiled for: 'cpu', 'gpu', 'tpu', or None.
  """

  heads: Mapping[str, int]
  backbones: Mapping[str, Any]
  mean: Mapping[str, tuple[float, ...]]
  std: Mapping[str, tuple[float, ...]]
  stride: int = 8
  skips: tuple[str, ...] = ('pool4', 'pool3')
  upsample: str = 'bilinear_fixed'
  shrink: int = 1
  tap_factors: Mapping[str, float] = dataclasses.field(default_factory=dict)
  freeze_backbone: bool = False
  dtype: jnp.dtype = jnp.float32
  platform: str | None = None

  preserve_adopted_names: ClassVar[bool] = True

  @property
  def taps(self) -> dict[str, int]:
    """The taps that scores rise through, with their strides in cells, coarse to fine."""
    taps = next(iter(self.backbones.values())).taps
    return {name: stride for name, stride in taps.items() if stride >= self.stride}

  def example_inputs(self) -> dict[str, np.ndarray]:
    """The smallest inputs, for `init`."""
    return {stream: np.zeros((1, 1, 1, len(mean)), np.uint8) for stream, mean in self.mean.items()}

  @nn.compact
  def __call__(
    self, inputs: Mapping[str, jax.Array], size: jax.Array | None = None, *, train: bool = False
  ) -> dict[str, jax.Array]:
    """Scores before the softmax.

    Args:
      inputs: of each stream, [B, H, W, C], in 0..255, of any type.
      size: int [B, 2], the height and width of each image, which sits at the top left of its canvas; None if every
        image fills it. Scores within `size` are the same as for the image alone; ignore the others.
      train: use dropout; requires the random key 'dropout'.

    Returns:
      By head, float32 [B, H, W, classes].
    """
    canvas = np.array(next(iter(inputs.values())).shape[1:3])
    layouts = {stream: self._layout(backbone, canvas, size) for stream, backbone in self.backbones.items()}
    maps = {stream: self._features(stream, inputs[stream], layout, train) for stream, layout in layouts.items()}
    layout = self._common(layouts)
    return {head: self._scores(head, maps, layout) for head in self.heads}

  def coarse_scores(self, params: dict, inputs: Mapping[str, jax.Array], size: jax.Array, stride: int) -> dict:
    """By head, the scores on the grid of a tap's stride, `self.stride` or coarser: float32 [B, h, w, classes]."""
    _, kept = self.apply({'params': params}, inputs, size, mutable='intermediates')
    return {head: kept['intermediates'][self._named(f'scores_{stride}', head=head)][0] for head in self.heads}

  def _layout(self, backbone, canvas: np.ndarray, size: jax.Array | None) -> Layout:
    def grids(image_size):
      pixels = Grid(image_size)
      return {'pixels': pixels} | backbone.grids(pixels.layer(self.shrink, stride=self.shrink, ceil=True))

    return Layout(grids(canvas), None if size is None else grids(size))

  def _common(self, layouts: dict[str, Layout]) -> Layout:
    """The layout that all streams share at the taps."""
    first, *others = layouts.values()
    for name in self.taps:
      for other in others:
        a, b = first.canvas[name], other.canvas.get(name)
        if b is None or (a.start, a.stride) != (b.start, b.stride) or not np.array_equal(a.size, b.size):
          raise ValueError(f'the backbones of the streams differ at the tap {name}: {a} and {b}; expected equal grids')
    return first

  def _features(self, stream: str, x: jax.Array, layout: Layout, train: bool) -> dict[str, jax.Array]:
    """The feature maps of a stream, by name of the tap."""
    x = (x.astype(jnp.float32) - jnp.array(self.mean[stream])) / jnp.array(self.std[stream])
    x = _mean_of_cells(layers.mask_out(layout.mask('pixels'), x), layout.mask('pixels'), self.shrink)
    maps = self.backbones[stream](x, layout.mask, train)
    return jax.lax.stop_gradient(maps) if self.freeze_backbone else maps

  def _scores(self, head: str, maps: dict[str, dict[str, jax.Array]], layout: Layout) -> jax.Array:
    """Scores of a head at every pixel: the coarsest, fused with each skip connection, then upsampled."""
    (now, stride), *finer = self.taps.items()
    between, last = METHODS[self.upsample]
    x = self._score(now, head, maps, layout)
    self.sow('intermediates', self._named(f'scores_{stride}', head=head), x)
    for tap, stride in finer:
      x, now, layout = self._fuse(x, now, tap, head, maps, layout, between)
      self.sow('intermediates', self._named(f'scores_{stride}', head=head), x)
    return self._to_pixels(x, head, layout.canvas[now], layout.canvas['pixels'], last)

  def _score(self, tap: str, head: str, maps: dict[str, dict[str, jax.Array]], layout: Layout) -> jax.Array:
    """The scores of a tap, float32 [B, h, w, classes]: the mean over the streams."""
    prefix = 'score_fr' if tap == next(iter(self.taps)) else f'score_{tap}'
    scores = []
    for stream in self.backbones:
      name = self._named(prefix, stream=stream, head=head)
      x = maps[stream][tap] * self.tap_factors[tap] if tap in self.tap_factors else maps[stream][tap]
      conv = nn.Conv(self.heads[head], (1, 1), kernel_init=nn.initializers.zeros, dtype=self.dtype, name=name)
      scores.append(layers.mask_out(layout.mask(tap), conv(x).astype(jnp.float32)))
    return scores[0] if len(scores) == 1 else sum(scores[1:], scores[0]) / len(scores)

  def _fuse(self, x, now: str, tap: str, head: str, maps, layout: Layout, method: str) -> tuple[jax.Array, str, Layout]:
    """Scores [B, h, w, K] of `now`, upsampled onto the grid of a finer tap, whose scores are added if it is a skip.

    The result covers the part that both maps share: the tap's whole map in the aligned geometry, the whole upsampled
    map in Caffe's. Returns the scores, and their name in a layout that includes their grid.
    """
    coarse, fine = layout.canvas[now], layout.canvas[tap]
    factor, kernel = coarse.stride // fine.stride, coarse.kernel_to(fine)
    ahead = coarse.upsampled(kernel, factor).offset(fine)
    fused = f'fused {tap}'

    def with_fused(grids):
      return grids and grids | {fused: grids[tap] if ahead >= 0 else grids[now].upsampled(kernel, factor)}

    layout = Layout(with_fused(layout.canvas), with_fused(layout.images))
    size = layout.canvas[fused].size
    name = self._named(f'upsample_to_{self.taps[tap]}', head=head)
    x = Upsample(factor, method, kernel, name=name)(x, max(ahead, 0), size)
    if tap in self.skips:
      x = x + crop(self._score(tap, head, maps, layout), max(-ahead, 0), size)
    return layers.mask_out(layout.mask(fused), x), fused, layout

  def _to_pixels(self, x: jax.Array, head: str, grid: Grid, pixels: Grid, method: str) -> jax.Array:
    kernel = grid.kernel_to(pixels)
    risen = grid.upsampled(kernel, grid.stride)
    offset = risen.offset(pixels)
    if offset < 0 or np.any(risen.size - offset < pixels.size):
      raise ValueError(f'the finest scores, upsampled to {risen}, do not cover the image {pixels}')
    name = self._named('upsample_to_1', head=head)
    return Upsample(grid.stride, method, kernel, name=name)(x, offset, pixels.size)

  def _named(self, name: str, *, stream: str = '', head: str = '') -> str:
    """The name of a layer, with its stream and its head if there are several."""
    name += f'_{stream}' if stream and len(self.backbones) > 1 else ''
    return name + (f'_{head}' if head and len(self.heads) > 1 else '')


def _mean_of_cells(x: jax.Array, mask: jax.Array | None, cell: int) -> jax.Array:
  """Means over cells x cell squares, [B, ceil(H/cell), ceil(W/cell), C]; pixels outside the image do not count."""
  if cell == 1:
    return x
  inside = jnp.ones((1, *x.shape[1:3], 1)) if mask is None else mask.astype(x.dtype)
  return _sum_of_cells(x, cell) / jnp.maximum(_sum_of_cells(inside, cell), 1)


def _sum_of_cells(x: jax.Array, cell: int) -> jax.Array:
  batch, height, width, channels = x.shape
  x = jnp.pad(x, ((0, 0), (0, -height % cell), (0, -width % cell), (0, 0)))
  return x.reshape(batch, x.shape[1] // cell, cell, x.shape[2] // cell, cell, channels).sum((2, 4))
