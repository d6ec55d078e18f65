"""The papers' four metrics, from one confusion matrix of integers over a whole split. Needs only numpy.

n[i, j] counts the pixels of class i that are predicted as class j (CVPR'15, section 5).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

# What an evaluation reports, by the names in all files.
METRICS = ('pixel_accuracy', 'mean_accuracy', 'mean_iou', 'fw_iou')


def summarize(matrix: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
  """The metrics of a confusion matrix, as fractions of 1.

  A class that appears in neither the labels nor the predictions is left out of the means; its IoU is None.

  Args:
    matrix: integers [C, C].
    names: of the classes.

  Returns:
    pixel_accuracy, mean_accuracy, mean_iou, fw_iou (frequency-weighted), and iou, a dict by class name.

  Raises:
    ValueError: there is no labeled pixel.
  """
  matrix = np.asarray(matrix, np.int64)
  correct, labeled, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
  if not labeled.sum():
    raise ValueError('the confusion matrix is empty; expected at least one labeled pixel')
  union = labeled + predicted - correct
  iou = correct / np.maximum(union, 1)
  accuracy = correct[labeled > 0] / labeled[labeled > 0]
  values = (
    correct.sum() / labeled.sum(),
    accuracy.mean(),
    iou[union > 0].mean(),
    (labeled * iou).sum() / labeled.sum(),
  )
  return dict(zip(METRICS, map(float, values), strict=True)) | {
    'iou': {n: float(i) if u else None for n, i, u in zip(names, iou, union, strict=True)},
  }
