"""The papers' four metrics, precision and F1, from one confusion matrix of integers. Needs only numpy.

n[i, j] counts the pixels of class i that are predicted as class j (CVPR'15, section 5).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

PAPERS = ('pixel_accuracy', 'mean_accuracy', 'mean_iou', 'fw_iou')  # also in the files of earlier versions
# What an evaluation reports, by the names in all files. The mean of the recalls is the mean accuracy.
METRICS = (*PAPERS, 'mean_precision', 'mean_f1')
OF_CLASS = ('iou', 'precision', 'recall', 'f1')


def summarize(matrix: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
  """The metrics of a confusion matrix, as fractions of 1.

  Of a class with n_ii correct pixels, n_i labeled pixels and p_i predicted pixels:
    iou: n_ii / (n_i + p_i - n_ii).
    precision: n_ii / p_i, the share of the predicted pixels that are correct.
    recall: n_ii / n_i, the share of the labeled pixels that are correct; also called class accuracy.
    f1: 2 n_ii / (n_i + p_i), the harmonic mean of precision and recall; also called Dice coefficient.

  A value whose denominator is 0 is None and left out of the mean: the IoU and the F1 of a class that appears in neither
  the labels nor the predictions, the recall of one without labels, the precision of one that is never predicted.

  Args:
    matrix: integers [C, C].
    names: of the classes.

  Returns:
    pixel_accuracy; mean_accuracy, which is the mean recall; mean_iou; fw_iou (frequency-weighted); mean_precision;
    mean_f1; and iou, precision, recall, f1 and share (of the labeled pixels), each a dict by class name.

  Raises:
    ValueError: there is no labeled pixel.
  """
  matrix = np.asarray(matrix, np.int64)
  correct, labeled, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
  if not labeled.sum():
    raise ValueError('the confusion matrix is empty; expected at least one labeled pixel')
  fractions = {
    'iou': (correct, labeled + predicted - correct),
    'precision': (correct, predicted),
    'recall': (correct, labeled),
    'f1': (2 * correct, labeled + predicted),
  }
  of_class = {
    kind: {name: float(a / b) if b else None for name, a, b in zip(names, *parts, strict=True)}
    for kind, parts in fractions.items()
  }
  mean = {kind: np.mean([x for x in values.values() if x is not None]) for kind, values in of_class.items()}
  iou = np.array([x or 0 for x in of_class['iou'].values()])
  values = (
    correct.sum() / labeled.sum(),
    mean['recall'],
    mean['iou'],
    (labeled * iou).sum() / labeled.sum(),
    mean['precision'],
    mean['f1'],
  )
  shares = {'share': dict(zip(names, (labeled / labeled.sum()).tolist(), strict=True))}
  return dict(zip(METRICS, map(float, values), strict=True)) | of_class | shares
