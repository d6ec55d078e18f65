"""Augmentation within the training step: `draws.py` draws it, and `windows.py` prepares what the host sends.

The results are those of the host up to one level of 255 in colors, which are computed in float32; pixels whose colors
do not change, and labels, are equal. Resampling multiplies pixels of 8 bits with weights of 22 bits, in three parts of
8 bits. Both are exact in bfloat16, and their sums in float32, so that the fastest units of accelerators give integers.
"""

import jax
import jax.numpy as jnp

from fcn_jax.data import filters
from fcn_jax.data.dataset import IGNORE
from fcn_jax.data.filters import BLUR_BITS
from fcn_jax.data.windows import BITS

_PART = 8  # bits
_SHIFTS = (2 * _PART, _PART, 0)


def augmented(batch: dict) -> dict:
  """A batch as the host would have augmented it.

  Args:
    batch: of `pipeline.train_batches`. `inputs` and `labels` hold windows on canvases, uint8 [B, h, w, C] by stream and
      uint8 [B, h, w] by head; `draws` is from `Windows.for_device`.

  Returns:
    inputs, uint8 [B, H, W, C]; labels, uint8 [B, H, W]; size, int32 [B, 2].
  """
  draws = batch['draws']
  height, width = next(iter(batch['labels'].values())).shape[1:]
  rows, columns = _matrices(draws['rows'], height), _matrices(draws['columns'], width)
  inputs = {name: _bilinear(x, rows, columns) for name, x in batch['inputs'].items()}
  if 'colors' in draws:
    inputs['rgb'] = _recolored(inputs['rgb'], draws['colors'], draws['size'])
  for number, name in enumerate(sorted(inputs)):
    if 'blur' in draws:
      inputs[name] = _blurred(inputs[name], draws['blur'], draws['size'])
    if 'noise' in draws:
      inputs[name] = _noisy(inputs[name], draws, number)
  nearest = _nearest(draws['rows'], height), _nearest(draws['columns'], width)
  inside = (draws['rows'][:, :, None, 1] >= 0) & (draws['columns'][:, None, :, 1] >= 0)
  labels = {
    name: jnp.where(inside, _picked(label, *nearest), IGNORE).astype(jnp.uint8)
    for name, label in batch['labels'].items()
  }
  return {'inputs': inputs, 'labels': labels, 'size': draws['size']}


def _matrices(taps: jax.Array, inputs: int) -> jax.Array:
  """The weights of `inputs` pixels in each pixel of a result, in parts: bfloat16 [B, part, O, `inputs`]."""
  place, weights = jnp.arange(inputs), 0
  for tap in range(taps.shape[-1] - 2):
    weights += jnp.where(taps[..., :1] + tap == place, taps[..., 2 + tap, None], 0)
  return jnp.stack([(weights >> shift) & (2**_PART - 1) for shift in _SHIFTS], 1).astype(jnp.bfloat16)


def _nearest(taps: jax.Array, inputs: int) -> jax.Array:
  """1 for the nearest of `inputs` pixels, [B, O, `inputs`]: on a TPU, products are faster than indexing."""
  return (taps[..., 1:2] == jnp.arange(inputs)).astype(jnp.bfloat16)


def _bilinear(x: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
  """Windows [B, h, w, C], resampled horizontally, then vertically, and rounded after each like in pillow."""
  for equation, matrices in (('bpoj,bhjc->bphoc', columns), ('bpoi,biwc->bpowc', rows)):
    parts = _multiplied(equation, matrices, x)
    x = (sum(parts[:, i] << shift for i, shift in enumerate(_SHIFTS)) + (1 << BITS - 1)) >> BITS
  return x.astype(jnp.uint8)


def _multiplied(equation: str, matrices: jax.Array, x: jax.Array) -> jax.Array:
  product = jnp.einsum(
    equation, matrices, x.astype(jnp.bfloat16), precision='highest', preferred_element_type=jnp.float32
  )
  return product.astype(jnp.int32)


def _picked(label: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
  """The nearest pixels of labels [B, h, w]: int32 [B, H, W]."""
  return _multiplied('boi,biw->bow', rows, _multiplied('boj,bhj->bho', columns, label))


def _recolored(x: jax.Array, colors: jax.Array, size: jax.Array) -> jax.Array:
  """`augment.recolored` for a batch of images [B, H, W, 3], whose padding stays 0."""
  red, green, blue = jnp.moveaxis(x.astype(jnp.int32), -1, 0)
  gray = (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16  # as pillow rounds it
  mean = jnp.sum(gray, (1, 2)).astype(jnp.float32) / jnp.prod(size, 1)
  matrix, offset = colors[:, :9].reshape(-1, 1, 1, 3, 3), colors[:, 9] * mean
  # Not a product of matrices, which accelerators would not compute in float32.
  changed = jnp.sum(matrix * x[..., None, :].astype(jnp.float32), -1) + offset[:, None, None, None]
  return _padded(jnp.floor(jnp.clip(changed + 0.5, 0, 255)), size)


def _padded(x: jax.Array, size: jax.Array) -> jax.Array:
  """Images [B, H, W, C] as uint8, 0 beyond their `size`."""
  rows, columns = (jnp.arange(length) < n[:, None] for length, n in zip(x.shape[1:3], size.T, strict=True))
  return jnp.where(rows[:, :, None, None] & columns[:, None, :, None], x, 0).astype(jnp.uint8)


def _blurred(x: jax.Array, weights: jax.Array, size: jax.Array) -> jax.Array:
  """`filters.blurred` for a batch of images [B, H, W, C], whose padding stays 0."""
  for equation, axis in (('boj,bhjc->bhoc', 2), ('boi,biwc->bowc', 1)):
    place, last = jnp.arange(x.shape[axis]), size[:, axis - 1, None] - 1
    matrix, most = 0, weights.shape[1] - 1
    for k in range(-most, most + 1):
      read = jnp.clip(place + k, 0, last)  # [B, O]
      matrix += jnp.where(read[..., None] == place, weights[:, abs(k), None, None], 0)
    # Sums up to 256, and so exact in bfloat16.
    x = _multiplied(equation, matrix.astype(jnp.bfloat16), x) + (1 << BLUR_BITS - 1) >> BLUR_BITS
  return _padded(x, size)


def _noisy(x: jax.Array, draws: dict, number: int) -> jax.Array:
  """`filters.noisy` for a batch of images [B, H, W, C] of stream `number`, whose padding stays 0."""
  seed, scale = (draws[name][:, None, None, None] for name in ('seed', 'noise'))
  places = jnp.ogrid[tuple(map(slice, x.shape[1:]))]
  noise = filters.noise(seed + filters.stream_seed(number), scale, *(p.astype(jnp.uint32) for p in places))
  return _padded(jnp.clip(x + noise, 0, 255), draws['size'])
