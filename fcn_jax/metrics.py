"""The papers' four metrics, from one confusion matrix of integers over a whole split.

n[i, j] counts the pixels of class i that are predicted as class j (CVPR'15, section 5).
"""

import numpy as np


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


# What an evaluation reports, by their names in all files.
METRICS = ('pixel_accuracy', 'mean_accuracy', 'mean_iou', 'fw_iou')
