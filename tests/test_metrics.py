"""The confusion matrix and the papers' metrics against slow double loops."""

import functools

import jax
import numpy as np
import pytest

from fcn_jax import counting, metrics
from fcn_jax.data.dataset import IGNORE

CLASSES = 5
NAMES = ('sky', 'tree', 'road', 'grass', 'water')


@pytest.fixture(scope='module')
def confusion():
  return jax.jit(functools.partial(counting.confusion, classes=CLASSES))


@pytest.fixture(scope='module')
def batch():
  """Predictions and labels of three images: class 4 is in neither, class 3 only predicted, one image ignored."""
  rng = np.random.default_rng(0)
  label = rng.integers(0, 3, (3, 9, 11), np.uint8)
  prediction = np.where(rng.random(label.shape) < 0.5, label, rng.integers(0, 4, label.shape)).astype(np.uint8)
  label[rng.random(label.shape) < 0.2] = IGNORE
  label[2] = IGNORE
  return prediction, label


def slow_confusion(prediction, label):
  matrix = np.zeros((CLASSES, CLASSES), np.int64)
  for i, j in zip(label.ravel(), prediction.ravel(), strict=True):
    if i != IGNORE:
      matrix[i, j] += 1
  return matrix


def slow_metrics(n):
  """The means as CVPR'15 defines them, those of precision and F1, and the scores of all classes."""
  total = sum(n[i][j] for i in range(CLASSES) for j in range(CLASSES))
  t = [sum(n[i][j] for j in range(CLASSES)) for i in range(CLASSES)]
  predicted = [sum(n[j][i] for j in range(CLASSES)) for i in range(CLASSES)]
  iu = [n[i][i] / (t[i] + predicted[i] - n[i][i]) if t[i] + predicted[i] else None for i in range(CLASSES)]
  accuracies = [n[i][i] / t[i] for i in range(CLASSES) if t[i]]
  present = [x for x in iu if x is not None]
  precision = [n[i][i] / predicted[i] if predicted[i] else None for i in range(CLASSES)]
  recall = [n[i][i] / t[i] if t[i] else None for i in range(CLASSES)]
  f1 = [2 * n[i][i] / (t[i] + predicted[i]) if t[i] + predicted[i] else None for i in range(CLASSES)]
  of_class = {'iou': iu, 'precision': precision, 'recall': recall, 'f1': f1, 'share': [x / total for x in t]}
  means = {f'mean_{kind}': np.mean([x for x in of_class[kind] if x is not None]) for kind in ('precision', 'f1')}
  return {
    'pixel_accuracy': sum(n[i][i] for i in range(CLASSES)) / total,
    'mean_accuracy': sum(accuracies) / len(accuracies),
    'mean_iou': sum(present) / len(present),
    'fw_iou': sum(t[i] * iu[i] for i in range(CLASSES) if t[i]) / total,
    **means,
    **{kind: dict(zip(NAMES, values, strict=True)) for kind, values in of_class.items()},
  }


def test_confusion_counts_each_image_exactly(batch, confusion):
  prediction, label = batch
  matrices = confusion(prediction, label)
  assert matrices.dtype == np.int32
  assert matrices.shape == (3, CLASSES, CLASSES)
  for matrix, *image in zip(matrices, prediction, label, strict=True):
    assert np.array_equal(matrix, slow_confusion(*image))
  assert np.sum(matrices) == np.count_nonzero(label != IGNORE)


def test_confusion_counts_beyond_what_float32_can(confusion):
  side = 4100  # 16.8 million pixels; float32 counts to 16,777,216
  matrix = confusion(np.zeros((1, side, side), np.uint8), np.full((1, side, side), 2, np.uint8))
  expected = np.zeros((1, CLASSES, CLASSES))
  expected[0, 2, 0] = side**2
  assert np.array_equal(matrix, expected)


def test_a_label_out_of_range_is_not_counted_as_another_class(confusion):
  """An evaluation then counts too few pixels, which is an error (`test_evaluation.py`)."""
  matrix = confusion(np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2), CLASSES, np.uint8))
  assert not matrix.any()


def test_summary_equals_a_slow_double_loop(batch):
  matrix = sum(slow_confusion(*image) for image in zip(*batch, strict=True))
  assert not matrix[3].any()  # class 3: predicted, but in no label
  assert matrix[:, 3].any()
  summary = metrics.summarize(matrix, NAMES)
  expected = slow_metrics(matrix.tolist())
  for kind in (*metrics.OF_CLASS, 'share'):
    assert summary.pop(kind) == pytest.approx(expected.pop(kind)), kind
  assert summary == pytest.approx(expected)


def test_absent_classes_are_left_out_of_the_means():
  matrix = np.zeros((CLASSES, CLASSES), int)
  matrix[:2, :3] = [[30, 10, 10], [20, 40, 0]]  # road is predicted, but in no label
  matrix[3, 0] = 30  # grass is labeled, but never predicted
  summary = metrics.summarize(matrix, NAMES)
  assert summary['iou'] == pytest.approx({'sky': 30 / 100, 'tree': 40 / 70, 'road': 0, 'grass': 0, 'water': None})
  assert summary['precision'] == pytest.approx(
    {'sky': 30 / 80, 'tree': 40 / 50, 'road': 0, 'grass': None, 'water': None}
  )
  assert summary['recall'] == pytest.approx({'sky': 30 / 50, 'tree': 40 / 60, 'road': None, 'grass': 0, 'water': None})
  assert summary['f1'] == pytest.approx({'sky': 60 / 130, 'tree': 80 / 110, 'road': 0, 'grass': 0, 'water': None})
  assert summary['mean_iou'] == pytest.approx((30 / 100 + 40 / 70) / 4)
  assert summary['mean_accuracy'] == pytest.approx((30 / 50 + 40 / 60) / 3)
  assert summary['mean_precision'] == pytest.approx((30 / 80 + 40 / 50) / 3)
  assert summary['mean_f1'] == pytest.approx((60 / 130 + 80 / 110) / 4)


def test_a_perfect_prediction_scores_one():
  summary = metrics.summarize(np.diag([5, 1, 0, 1000, 3]), NAMES)
  for kind in metrics.OF_CLASS:
    assert summary.pop(kind) == {'sky': 1, 'tree': 1, 'road': None, 'grass': 1, 'water': 1}
  assert {summary[name] for name in metrics.METRICS} == {1}


def test_large_totals_do_not_overflow():
  """A split may have more pixels than int32 can count: the training split of Cityscapes has 6 billion."""
  matrix = np.full((CLASSES, CLASSES), 2**31 - 1, np.int32)
  summary = metrics.summarize(matrix, NAMES)
  assert summary['pixel_accuracy'] == pytest.approx(1 / CLASSES)
  assert summary['mean_iou'] == pytest.approx(1 / (2 * CLASSES - 1))


def test_a_matrix_without_labeled_pixels_is_an_error():
  with pytest.raises(ValueError, match='confusion matrix is empty; expected at least one labeled pixel'):
    metrics.summarize(np.zeros((CLASSES, CLASSES), int), NAMES)
