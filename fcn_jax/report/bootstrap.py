"""Intervals of differences between networks, by a paired bootstrap over pictures and seeds.

Two networks are scored on the same pictures, so what a picture does to both cancels in their difference: each resample
draws pictures once, for both. It also draws seeds, of which a few say little: an interval over three seeds is too
narrow rather than too wide.
"""

import dataclasses

import numpy as np

RESAMPLES = 10_000


def resampled_iou(confusions: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Mean IoU of every seed in every resample, [R, S].

  Args:
    confusions: integers [S, N, C, C]: of each seed, one matrix a picture.
    weights: how often each picture was drawn in each resample, [R, N].
  """
  correct = np.einsum('sncc->snc', confusions)
  labelled, predicted = confusions.sum(3), confusions.sum(2)
  out = []
  for own in zip(correct, labelled, predicted, strict=True):
    # In float64: the sums of pixels are exact.
    c, t, p = (weights @ x.astype(np.float64) for x in own)
    union = t + p - c
    # A class that is in neither is left out of the mean, as `metrics.summarize` has it.
    out.append((c / np.maximum(union, 1)).sum(1) / np.maximum((union > 0).sum(1), 1))
  return np.stack(out, axis=1)


@dataclasses.dataclass(frozen=True)
class Resampled:
  """The mean IoU of a network that was trained with S seeds and scored on N pictures.

  Attributes:
    iou: of each seed, [S].
    drawn: the same in R resamples of the pictures, [R, S].
    pictures: N.
  """

  iou: np.ndarray
  drawn: np.ndarray
  pictures: int


def resample(confusions: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
  """Draws pictures, the same ones for every network with as many.

  Args:
    confusions: integers [S, N, C, C]: of each seed, one matrix a picture.
    resamples: how many.
    seed: of the draws.
  """
  pictures = confusions.shape[1]
  weights = np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), resamples)
  once = resampled_iou(confusions, np.ones((1, pictures)))[0]
  return Resampled(once, resampled_iou(confusions, weights.astype(np.float64)), pictures)


def difference(a: Resampled, b: Resampled, *, paired_seeds: bool, seed: int = 0) -> dict:
  """The mean IoU of one network minus that of another.

  Args:
    a, b: scored on the same pictures and resampled alike; the numbers of seeds may differ.
    paired_seeds: the i-th of both have the same seed, so that seeds are drawn for both at once.
    seed: of the draws of seeds.

  Returns:
    difference, of the means over seeds; low and high, the 95 % interval (2.5th and 97.5th percentile).

  Raises:
    ValueError: where the numbers of pictures differ.
  """
  if a.pictures != b.pictures:
    raise ValueError(f'{a.pictures} pictures against {b.pictures}; a paired bootstrap wants the same ones')
  rng = np.random.default_rng([seed, 1])  # not the stream that drew the pictures
  drawn_a = rng.integers(len(a.iou), size=a.drawn.shape)
  drawn_b = drawn_a if paired_seeds else rng.integers(len(b.iou), size=b.drawn.shape)
  means = [np.take_along_axis(x.drawn, drawn, axis=1).mean(1) for x, drawn in ((a, drawn_a), (b, drawn_b))]
  low, high = np.percentile(means[0] - means[1], (2.5, 97.5))
  return {'difference': float(a.iou.mean() - b.iou.mean()), 'low': float(low), 'high': float(high)}
