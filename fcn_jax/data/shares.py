"""How the pixels of a split are shared among the classes."""

import numpy as np

from fcn_jax.data.dataset import Split


def class_counts(split: Split, head: str, classes: int, most: int) -> np.ndarray:
  """The pixels of each class of a head in each of at most `most` images, always the same ones: int64 [N, classes]."""
  chosen = range(len(split))
  if len(split) > most:
    chosen = np.sort(np.random.default_rng(0).choice(len(split), most, replace=False))
  labels = (split[int(index)]['labels'][head] for index in chosen)
  return np.array([np.bincount(label.ravel(), minlength=256)[:classes] for label in labels])


def class_shares(split: Split, head: str, classes: int, most: int = 500) -> np.ndarray:
  """The share of the labeled pixels that each class of a head has in at most `most` images, float [classes]."""
  counts = class_counts(split, head, classes, most).sum(0)
  return counts / max(1, counts.sum())
