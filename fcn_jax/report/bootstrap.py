"""Confidence intervals of differences between networks, by a paired bootstrap over images and seeds.

Two networks are scored on the same images, so the difficulty of an image cancels in their difference: each resample
draws images once, for both networks. It also draws seeds, if both networks have several. With few seeds the intervals
are too narrow. In a cross-validation, this happens within each fold, and the differences of the folds are averaged.
"""

import dataclasses

import numpy as np

RESAMPLES = 10_000


def resampled_iou(confusions: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Mean IoU of every seed in every resample, [R, S], as fractions of 1.

  Args:
    confusions: integers [S, N, C, C]: one confusion matrix per seed and image.
    weights: how often each image was drawn in each resample, [R, N].
  """
  correct = np.einsum('sncc->snc', confusions)
  labeled, predicted = confusions.sum(3), confusions.sum(2)
  out = []
  for of_seed in zip(correct, labeled, predicted, strict=True):
    # In float64, sums of pixel counts are exact.
    c, t, p = (weights @ x.astype(np.float64) for x in of_seed)
    union = t + p - c
    # A class that appears in neither labels nor predictions is left out of the mean, as in `metrics.summarize`.
    out.append((c / np.maximum(union, 1)).sum(1) / np.maximum((union > 0).sum(1), 1))
  return np.stack(out, axis=1)


@dataclasses.dataclass(frozen=True)
class Resampled:
  """The mean IoU of a network that was trained with S seeds and scored on N images.

  Attributes:
    iou: mean IoU of each seed, [S].
    drawn: mean IoU of each seed in R resamples of the images, [R, S].
    images: N.
  """

  iou: np.ndarray
  drawn: np.ndarray
  images: int


def resample(confusions: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
  """Resamples the images; networks scored on the same number of images get the same draws.

  Args:
    confusions: integers [S, N, C, C]: one confusion matrix per seed and image.
    resamples: the number of resamples, R.
    seed: the seed of the draws.
  """
  images = confusions.shape[1]
  weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples)
  iou = resampled_iou(confusions, np.ones((1, images)))[0]
  return Resampled(iou, resampled_iou(confusions, weights.astype(np.float64)), images)


@dataclasses.dataclass(frozen=True)
class Difference:
  """The mean IoU of one network minus that of another, scored on the same images.

  Attributes:
    value: the difference of the means over seeds.
    drawn: the same in R resamples, [R].
  """

  value: float
  drawn: np.ndarray


def difference(a: Resampled, b: Resampled, *, paired_seeds: bool, over_seeds: bool, seed: int = 0) -> Difference:
  """The mean IoU of network `a` minus that of network `b`.

  Args:
    a: the first network.
    b: the second network, scored on the same images and resampled with the same seed; it may have other seeds.
    paired_seeds: whether the i-th runs of both networks have the same seed; then seeds are drawn once for both.
    over_seeds: whether seeds are drawn, too; otherwise each resample has the mean over all seeds.
    seed: the seed of the draws of seeds.

  Raises:
    ValueError: the numbers of images differ.
  """
  if a.images != b.images:
    raise ValueError(f'{a.images} images against {b.images}; a paired bootstrap requires the same images')
  means = [a.drawn, b.drawn]
  if over_seeds:
    rng = np.random.default_rng([seed, 1])  # a stream other than the one that draws images
    drawn_a = rng.integers(len(a.iou), size=a.drawn.shape)
    drawn_b = drawn_a if paired_seeds else rng.integers(len(b.iou), size=b.drawn.shape)
    means = [np.take_along_axis(x.drawn, drawn, axis=1) for x, drawn in ((a, drawn_a), (b, drawn_b))]
  return Difference(float(a.iou.mean() - b.iou.mean()), means[0].mean(1) - means[1].mean(1))


def mean(folds: list[Difference]) -> tuple[float, np.ndarray]:
  """The mean of the differences within folds, and the same in every resample.

  The resamples of different folds must come from different seeds.
  """
  return float(np.mean([fold.value for fold in folds])), np.mean([fold.drawn for fold in folds], axis=0)


def class_intervals(folds: list[np.ndarray], resamples: int = 1000) -> np.ndarray:
  """The 2.5th and 97.5th percentile of the IoU of every class over resampled images, [2, C], as fractions of 1.

  The IoU is the mean over seeds; resamples draw images, not seeds. The pixels of all folds are counted together. A
  class that appears in neither labels nor predictions has an IoU of 0.

  Args:
    folds: integers [S, N, C, C] per fold: one confusion matrix per seed and image.
    resamples: the number of resamples.
  """
  seeds = max(map(len, folds))
  correct = union = 0
  for number, confusions in enumerate(folds):
    images = confusions.shape[1]
    weights = np.random.default_rng(number).multinomial(images, np.full(images, 1 / images), resamples)
    counts = np.einsum('sncc->snc', confusions)
    both = confusions.sum(3) + confusions.sum(2) - counts
    drawn = (weights.astype(np.float64) @ x.astype(np.float64) for x in (counts, both))
    # As in `tables.pooled`, the i-th runs of the folds are counted together.
    c, u = (x[np.arange(seeds) % len(confusions)] for x in drawn)
    correct, union = correct + c, union + u
  return np.percentile((correct / np.maximum(union, 1)).mean(0), (2.5, 97.5), axis=0)
