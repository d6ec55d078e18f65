"""All splits of a data set as one."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class Joined:
  """The images of several splits, one split after the other; see `dataset.Split`."""

  def __init__(self, splits: Mapping[str, object]) -> None:
    """Args: splits: by name. If two have an image of the same id, the ids start with the names of the splits."""
    self._splits = list(splits.values())
    self._ends = np.cumsum([len(split) for split in self._splits])
    ids = {name: list(split.ids()) for name, split in splits.items()}
    self._ids = [x for several in ids.values() for x in several]
    if len(set(self._ids)) < len(self):
      self._ids = [f'{name}__{x}' for name, several in ids.items() for x in several]
    if any(hasattr(split, 'full_labels') for split in self._splits):
      self.full_labels = lambda index: self._of(index, _full_labels)
      self.full_sizes = lambda: np.concatenate([getattr(x, 'full_sizes', x.sizes)() for x in self._splits])

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: int) -> Any:
    return self._of(index, lambda split, place: split[place] | {'id': self._ids[index]})

  def _of(self, index: int, function):
    number = int(np.searchsorted(self._ends, index, side='right'))
    return function(self._splits[number], int(index) - int(self._ends[number - 1] if number else 0))

  def ids(self) -> list[str]:
    return list(self._ids)

  def sizes(self) -> np.ndarray:
    return np.concatenate([split.sizes() for split in self._splits])


def _full_labels(split, index: int) -> dict[str, np.ndarray]:
  return split.full_labels(index) if hasattr(split, 'full_labels') else split[index]['labels']
