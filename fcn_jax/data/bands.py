"""Bands around label boundaries, where skip connections make the difference (PAMI 2016, section 6)."""

import threading

import numpy as np

from fcn_jax.data.dataset import IGNORE, Example, Split

WIDTHS = (1, 2, 4, 8, 16)  # pixels on each side of a boundary
_ROOM = 2**28  # bytes of memory for the bands of a split; those that do not fit are computed again


def key(head: str) -> str:
  """The name of the bands of a head among the labels. It cannot be that of a head."""
  return f'{head}.band'


class WithBands:
  """A split whose examples also have, among their labels, the band of each pixel: see `key` and `narrowest`.

  Where images were resized when they were read, labels are `Split.full_labels`. Bands depend on the labels only, and
  are computed once per image.

  Attributes:
    of: the split itself.
  """

  def __init__(self, split: Split):
    self.of = split
    self._bands: dict[int, dict[str, np.ndarray]] = {}
    self._room, self._lock = _ROOM, threading.Lock()

  def __len__(self) -> int:
    return len(self.of)

  def __getitem__(self, index: int) -> Example:
    example, has_full_labels = self.of[index], hasattr(self.of, 'full_labels')
    labels = self.of.full_labels(index) if has_full_labels else example['labels']
    found = self._bands.get(index)
    if found is None:
      found = {key(head): narrowest(label) for head, label in labels.items()}
      size = sum(band.nbytes for band in found.values())
      with self._lock:
        if index not in self._bands and size <= self._room:
          self._bands[index], self._room = found, self._room - size
    return example | {'labels': labels | found}

  def sizes(self) -> np.ndarray:
    return self.of.sizes()

  def label_sizes(self) -> np.ndarray | None:
    """Heights and widths of the labels, int [N, 2]; None if they are those of the inputs."""
    return self.of.full_sizes() if hasattr(self.of, 'full_sizes') else None

  def ids(self):
    return self.of.ids()


def narrowest(label: np.ndarray) -> np.ndarray:
  """The index in `WIDTHS` of the narrowest band that each pixel is in, or len(WIDTHS) if it is in none: uint8 [H, W].

  A boundary is between two horizontal or vertical neighbors that are labeled with different classes. These two pixels
  have distance 1, their neighbors 2, and so on, and a band has the pixels up to a distance. Distances count steps along
  rows, columns and diagonals.

  Args:
    label: uint8 [H, W], 255 for pixels to ignore.
  """
  (height, width), margin, labeled = label.shape, WIDTHS[-1] - 1, label != IGNORE
  near = np.zeros((height + 2 * margin, width + 2 * margin), bool)
  inside = near[margin : margin + height, margin : margin + width]
  for axis in (0, 1):
    (one, other), (one_labeled, other_labeled) = _pairs(label, axis), _pairs(labeled, axis)
    differ = (one != other) & one_labeled & other_labeled
    for side in _pairs(inside, axis):
      side |= differ
  band, distance = np.full(label.shape, len(WIDTHS), np.uint8), 1
  for largest in WIDTHS:
    near, margin, distance = _spread(near, largest - distance), margin - (largest - distance), largest
    band -= near[margin : margin + height, margin : margin + width]
  return band


def _pairs(x: np.ndarray, axis: int, by: int = 1) -> tuple[np.ndarray, np.ndarray]:
  """Views of all pairs of elements that are `by` apart along an axis."""
  return (x[:-by], x[by:]) if axis == 0 else (x[:, :-by], x[:, by:])


def _spread(near: np.ndarray, radius: int) -> np.ndarray:
  """Whether any of the (2 * radius + 1)^2 pixels around each pixel is set, without a margin of `radius` pixels."""
  for axis in (0, 1):
    length = 1  # of the runs of pixels that an element stands for; it doubles with each operation
    while length < 2 * radius + 1:
      by = min(length, 2 * radius + 1 - length)
      near, length = np.logical_or(*_pairs(near, axis, by)), length + by
  return near
