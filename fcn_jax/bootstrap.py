"""Intervals of differences between networks, by a paired bootstrap over pictures and seeds.

Two networks are scored on the same pictures, so what a picture does to both cancels in their difference: each resample
draws pictures once, for both. It also draws seeds, of which a few say little: an interval over three seeds is too
narrow rather than too wide.
"""

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


def difference(a: np.ndarray, b: np.ndarray, *, paired_seeds: bool, resamples: int = RESAMPLES, seed: int = 0) -> dict:
  """The mean IoU of one network minus that of another, each trained with several seeds.

  Args:
    a, b: per-picture confusion matrices [S, N, C, C] of the same N pictures; the numbers of seeds may differ.
    paired_seeds: a[i] and b[i] have the same seed, so that seeds are drawn for both at once.
    resamples: how many.
    seed: of the draws.

  Returns:
    difference, of the means over seeds; low and high, the 95 % interval (2.5th and 97.5th percentile).

  Raises:
    ValueError: where the numbers of pictures differ.
  """
  if a.shape[1] != b.shape[1]:
    raise ValueError(f'{a.shape[1]} pictures against {b.shape[1]}; a paired bootstrap wants the same ones')
  rng, pictures = np.random.default_rng(seed), a.shape[1]
  weights = rng.multinomial(pictures, np.full(pictures, 1 / pictures), resamples).astype(np.float64)
  drawn_a = rng.integers(len(a), size=(resamples, len(a)))
  drawn_b = drawn_a if paired_seeds else rng.integers(len(b), size=(resamples, len(b)))
  means = [
    np.take_along_axis(resampled_iou(x, weights), drawn, axis=1).mean(1) for x, drawn in ((a, drawn_a), (b, drawn_b))
  ]
  once = np.ones((1, pictures))
  low, high = np.percentile(means[0] - means[1], (2.5, 97.5))
  return {
    'difference': float(resampled_iou(a, once).mean() - resampled_iou(b, once).mean()),
    'low': float(low),
    'high': float(high),
  }
