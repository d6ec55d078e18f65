"""The evaluation step: a forward pass, and confusion matrices by distance from label boundaries, on the device."""

import jax
import jax.numpy as jnp

from fcn_jax.data import bands
from fcn_jax.data.dataset import IGNORE
from fcn_jax.models.upsample import enlarge
from fcn_jax.run import devices

_ROWS = 16  # of a strip of enlarged scores; the heights of canvases are multiples of it


def confusion(prediction: jax.Array, label: jax.Array, classes: int) -> jax.Array:
  """The confusion matrix of each image, on the device.

  Args:
    prediction: integers [B, H, W], 0 to classes-1.
    label: integers [B, H, W], 0 to classes-1, or 255 for pixels to ignore.
    classes: C.

  Returns:
    int32 [B, C, C].
  """
  return _pairs(label, prediction, classes, classes)


def _pairs(row: jax.Array, column: jax.Array, rows: int, columns: int) -> jax.Array:
  """How often each pair occurs in each image, int32 [B, rows, columns], if both numbers [B, H, W] are in range."""
  row = row.astype(jnp.int32)
  # Other pairs go to a cell behind the last one, and are dropped.
  cell = jnp.where(row < rows, row * columns + column, rows * columns).reshape(len(row), -1)
  counts = jax.vmap(lambda c: jnp.zeros(rows * columns, jnp.int32).at[c].add(1, mode='drop'))(cell)
  return counts.reshape(-1, rows, columns)


def _pairs_by_product(row: jax.Array, column: jax.Array, rows: int, columns: int) -> jax.Array:
  """The same as `_pairs` for up to 2^24 pixels per image, as a product of one-hot matrices.

  TPUs add one number after the other to a table, but never store these matrices; CPUs and GPUs do.
  """
  row, column = (
    (x.reshape(len(x), 1, -1) == jnp.arange(count)[:, None]).astype(jnp.bfloat16)
    for x, count in ((row, rows), (column, columns))
  )
  return jnp.einsum('brp,bcp->brc', row, column, preferred_element_type=jnp.float32).astype(jnp.int32)


def make_eval_step(model):
  """Makes `eval_step(params, batch)`, which runs on all n devices.

  `batch['labels']` has the maps of `bands.WithBands`, [B, H, W]. The step returns for each head the confusion matrices
  by band, int32 [n, B/n, len(bands.WIDTHS) + 1, C, C], and the predictions, uint8 [n, B/n, H, W].

  If the batch has `label_size`, images were resized when they were read. Their scores are then enlarged bilinearly to
  the size of the labels (`enlarge`), and pixels are predicted and counted there.
  """
  pairs = _pairs_by_product if model.platform == 'tpu' else _pairs

  def count(logits, label, band):
    """Counts int32 [B, (len(bands.WIDTHS) + 1) * C, C] and predictions uint8 [B, H, W]; all arguments are [B, H, W]."""
    classes = logits.shape[-1]
    prediction = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
    rows = (len(bands.WIDTHS) + 1) * classes
    row = jnp.where(label == IGNORE, rows, band.astype(jnp.int32) * classes + label)
    return pairs(row, prediction, rows, classes), prediction

  def eval_step(params, batch):
    counted = {}
    for head, logits in model.apply({'params': params}, batch['inputs'], batch['size']).items():
      maps = batch['labels'][head], batch['labels'][bands.key(head)]
      if 'label_size' in batch:
        counts, prediction = _in_strips(count, logits, *maps, batch['size'], batch['label_size'])
      else:
        counts, prediction = count(logits, *maps)
      classes = logits.shape[-1]
      counted[head] = counts.reshape(len(counts), -1, classes, classes), prediction
    return counted

  return devices.pmap(eval_step, replicated_output=False)


def _in_strips(count, logits, label, band, size, label_size):
  """The result of `count` for enlarged logits, of which only a strip of rows is in memory at a time."""
  batch, height, width = label.shape

  def of_strip(first):
    rows = first + jnp.arange(_ROWS)
    scores = jax.vmap(lambda *image: enlarge(*image, rows, width))(logits, size, label_size)
    return count(scores, *(jax.lax.dynamic_slice_in_dim(x, first, _ROWS, axis=1) for x in (label, band)))

  def add(total, first):
    counts, prediction = of_strip(first)
    return total + counts, prediction

  zero = jnp.zeros_like(jax.eval_shape(of_strip, 0)[0])
  total, strips = jax.lax.scan(add, zero, jnp.arange(0, height, _ROWS))
  return total, jnp.moveaxis(strips, 0, 1).reshape(batch, height, width)
