"""The paired bootstrap: against a direct computation, its coverage, and its speed."""

import time

import numpy as np
import pytest

from fcn_jax import metrics
from fcn_jax.report import bootstrap


def confusions(rng, seeds, images, classes, skill):
  """Confusion matrices of images in which a fraction `skill` of each class's pixels is correct."""
  pixels = rng.integers(0, 400, (images, classes))
  right = rng.binomial(pixels, skill, (seeds, images, classes))
  here, beside = np.eye(classes, dtype=np.int64), np.roll(np.eye(classes, dtype=np.int64), 1, axis=1)
  return right[..., None] * here + (pixels - right)[..., None] * beside


def difference(a, b, *, paired_seeds, over_seeds=True, seed=0, **options):
  found = bootstrap.difference(
    *(bootstrap.resample(x, seed=seed, **options) for x in (a, b)),
    paired_seeds=paired_seeds,
    over_seeds=over_seeds,
    seed=seed,
  )
  value, drawn = bootstrap.mean([found])
  low, high = np.percentile(drawn, (2.5, 97.5))
  return {'difference': value, 'low': low, 'high': high}


def test_resampled_iou_equals_that_of_the_metrics():
  rng = np.random.default_rng(0)
  matrices = confusions(rng, 2, 5, 4, 0.7)
  matrices[:, :, 3] = matrices[:, :, :, 3] = 0  # a class that is absent
  matrices[:, :4, 2] = matrices[:, :4, :, 2] = 0  # a class that only one image has
  weights = rng.multinomial(5, np.full(5, 0.2), 50)
  assert (weights[:, 4] == 0).any()
  scores = bootstrap.resampled_iou(matrices, weights)
  for r, s in np.ndindex(scores.shape):
    total = sum(w * matrix for w, matrix in zip(weights[r], matrices[s], strict=True))
    assert scores[r, s] == pytest.approx(metrics.summarize(total, tuple('abcd'))['mean_iou'], rel=1e-12)


def test_the_interval_includes_the_difference_and_shrinks_with_more_images():
  rng = np.random.default_rng(1)
  widths = []
  for images in (20, 320):
    a, b = confusions(rng, 3, images, 3, 0.8), confusions(rng, 3, images, 3, 0.7)
    found = difference(a, b, paired_seeds=True, resamples=2000)
    assert 0 < found['low'] < found['difference'] < found['high']
    widths.append(found['high'] - found['low'])
  assert widths[1] < widths[0] / 2


def test_nineteen_of_twenty_intervals_include_the_true_difference():
  """Two networks of one seed each that do not differ, scored on random images."""
  rng, hits = np.random.default_rng(2), 0
  for number in range(200):
    a, b = confusions(rng, 1, 40, 3, 0.75), confusions(rng, 1, 40, 3, 0.75)
    found = difference(a, b, paired_seeds=True, resamples=300, seed=number)
    hits += found['low'] <= 0 <= found['high']
  assert 180 <= hits <= 199


def test_the_difficulty_of_images_cancels():
  rng = np.random.default_rng(3)
  a = confusions(rng, 1, 30, 3, 0.7)
  assert difference(a, a, paired_seeds=True) == {'difference': 0, 'low': 0, 'high': 0}
  b = np.concatenate([confusions(rng, 1, 15, 3, 0.95), confusions(rng, 1, 15, 3, 0.3)], axis=1)
  better = b.copy()
  better[..., 0, 0] += 20  # in easy and hard images alike
  found = difference(better, b, paired_seeds=True)
  alone = np.percentile(bootstrap.resampled_iou(b, rng.multinomial(30, np.full(30, 1 / 30), 2000)), (2.5, 97.5))
  assert found['low'] > 0 and found['high'] - found['low'] < (alone[1] - alone[0]) / 4


def test_a_spread_over_seeds_widens_the_interval():
  rng = np.random.default_rng(4)
  alike = confusions(rng, 3, 200, 3, 0.7)
  spread = np.concatenate([confusions(rng, 1, 200, 3, skill) for skill in (0.6, 0.7, 0.8)])
  b = confusions(rng, 3, 200, 3, 0.5)
  narrow, wide = (difference(x, b, paired_seeds=False, resamples=2000) for x in (alike, spread))
  assert wide['high'] - wide['low'] > 3 * (narrow['high'] - narrow['low'])


def test_intervals_of_classes_include_their_iou_and_shrink_with_more_images():
  rng, widths = np.random.default_rng(6), []
  for images in (20, 320):
    matrices = confusions(rng, 2, images, 3, 0.8)
    low, high = bootstrap.class_intervals([matrices])
    iou = np.mean([list(metrics.summarize(m.sum(0), tuple('abc'))['iou'].values()) for m in matrices], axis=0)
    assert (low < iou).all() and (iou < high).all()
    widths.append((high - low).mean())
  assert widths[1] < widths[0] / 2


def test_different_numbers_of_images_are_an_error():
  rng = np.random.default_rng(5)
  with pytest.raises(ValueError, match='20 images against 19'):
    difference(confusions(rng, 1, 20, 2, 0.5), confusions(rng, 1, 19, 2, 0.5), paired_seeds=True)


def test_ten_thousand_resamples_take_under_five_seconds():
  rng = np.random.default_rng(6)
  a, b = confusions(rng, 3, 143, 8, 0.7), confusions(rng, 3, 143, 8, 0.6)
  begun = time.process_time()  # the load of the machine does not count
  difference(a, b, paired_seeds=True)
  assert time.process_time() - begun < 5
