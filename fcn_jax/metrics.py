"""The papers' four metrics, from one confusion matrix of integers over a whole split.

n[i, j] counts the pixels of class i that are predicted as class j (CVPR'15, section 5).
"""

import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax.data import IGNORE
from fcn_jax.run.directory import METRICS


def confusion(prediction: jax.Array, label: jax.Array, classes: int) -> jax.Array:
  """The confusion matrix of each picture, on the device.

  Args:
    prediction: integers [B, H, W], 0 to classes-1.
    label: integers [B, H, W], 0 to classes-1, or 255 for pixels to ignore.
    classes: C.

  Returns:
    int32 [B, C, C].
  """
  batch = label.shape[0]
  cell = label.astype(jnp.int32) * classes + prediction
  # Ignored pixels fall behind the last cell, and are dropped.
  cell = jnp.where(label == IGNORE, classes**2, cell).reshape(batch, -1)
  counts = jax.vmap(lambda c: jnp.zeros(classes**2, jnp.int32).at[c].add(1, mode='drop'))(cell)
  return counts.reshape(batch, classes, classes)


def summarize(matrix: np.ndarray, names: tuple[str, ...]) -> dict:
  """The metrics of a confusion matrix [C, C], as fractions of 1.

  A class that stands neither in the labels nor in the predictions is left out of the means; its IoU is None.

  Returns:
    pixel_accuracy, mean_accuracy, mean_iou, fw_iou, and iou, a dict by class name.

  Raises:
    ValueError: where there is no labelled pixel.
  """
  matrix = np.asarray(matrix, np.int64)
  correct, labelled, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
  if not labelled.sum():
    raise ValueError('no labelled pixel to score')
  union = labelled + predicted - correct
  iou = correct / np.maximum(union, 1)
  accuracy = correct[labelled > 0] / labelled[labelled > 0]
  values = (
    correct.sum() / labelled.sum(),
    accuracy.mean(),
    iou[union > 0].mean(),
    (labelled * iou).sum() / labelled.sum(),
  )
  return dict(zip(METRICS, map(float, values), strict=True)) | {
    'iou': {n: float(i) if u else None for n, i, u in zip(names, iou, union, strict=True)},
  }
