"""Where the class changes: scores in bands around label boundaries, which is what skips are for (PAMI'16, sec. 6)."""

import numpy as np
from scipy import ndimage

from fcn_jax.data.dataset import IGNORE

WIDTHS = (1, 2, 4, 8, 16)  # pixels on each side of a boundary


def distance(label: np.ndarray) -> np.ndarray:
  """Pixels to the nearest label boundary, int [H, W]: 1 for a pixel beside another class, 2 for its neighbours, ...

  A boundary lies between two pixels, beside or above each other, of different classes, both labelled. Distances count
  steps along rows, columns and diagonals; where a picture has no boundary they are larger than any width.
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
  """Confusion matrices int64 [len(WIDTHS), C, C] over the labelled pixels within each width of a boundary."""
  away = distance(label)
  inside = (label != IGNORE) & (away <= WIDTHS[-1])
  band = np.searchsorted(WIDTHS, away[inside])  # the narrowest that it is in
  cells = (band * classes + label[inside]) * classes + prediction[inside]
  counts = np.bincount(cells, minlength=len(WIDTHS) * classes**2)
  return np.cumsum(counts.reshape(len(WIDTHS), classes, classes), axis=0)
