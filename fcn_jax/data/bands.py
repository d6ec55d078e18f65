"""Scores in bands around label boundaries, where skip connections make the difference (PAMI 2016, section 6)."""

import numpy as np
from scipy import ndimage

from fcn_jax.data.dataset import IGNORE

WIDTHS = (1, 2, 4, 8, 16)  # pixels on each side of a boundary


def distance(label: np.ndarray) -> np.ndarray:
  """Distance in pixels to the nearest label boundary, int [H, W].

  A boundary is between two horizontal or vertical neighbors that are labeled with different classes. These two pixels
  have distance 1, their neighbors 2, and so on. Distances count steps along rows, columns and diagonals. In an image
  without boundaries, all distances are larger than any width.

  Args:
    label: uint8 [H, W], 255 for pixels to ignore.
  """
  edge = np.zeros(label.shape, bool)
  for axis in (0, 1):
    first = np.moveaxis(label, axis, 0)
    differs = (first[1:] != first[:-1]) & (first[1:] != IGNORE) & (first[:-1] != IGNORE)
    view = np.moveaxis(edge, axis, 0)
    view[1:] |= differs
    view[:-1] |= differs
  if not edge.any():
    return np.full(label.shape, np.iinfo(np.int32).max)
  return ndimage.distance_transform_cdt(~edge, metric='chessboard') + 1


def confusions(label: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
  """Confusion matrices over the labeled pixels within each of `WIDTHS` of a boundary.

  Args:
    label: uint8 [H, W], 255 for pixels to ignore.
    prediction: uint8 [H, W].
    classes: the number of classes, C.

  Returns:
    int64 [len(WIDTHS), C, C].
  """
  away = distance(label)
  inside = (label != IGNORE) & (away <= WIDTHS[-1])
  band = np.searchsorted(WIDTHS, away[inside])  # index of the narrowest band with this pixel
  cells = (band * classes + label[inside]) * classes + prediction[inside]
  counts = np.bincount(cells, minlength=len(WIDTHS) * classes**2)
  return np.cumsum(counts.reshape(len(WIDTHS), classes, classes), axis=0)
