"""The loss against a slow double loop, and as a sum that adds up."""

import jax
import numpy as np
import pytest

from fcn_jax.datasets import IGNORE
from fcn_jax.losses import softmax_cross_entropy

CLASSES = 4


@pytest.fixture(scope='module')
def batch():
  """Logits and labels of three pictures: some pixels of the first ignored, all of the last."""
  rng = np.random.default_rng(0)
  logits = rng.normal(scale=3, size=(3, 5, 7, CLASSES)).astype(np.float32)
  label = rng.integers(0, CLASSES, (3, 5, 7), np.uint8)
  label[0][rng.random((5, 7)) < 0.4] = IGNORE
  label[2] = IGNORE
  return logits, label


@pytest.fixture(scope='module')
def loss_and_gradient():
  return jax.jit(jax.value_and_grad(softmax_cross_entropy, has_aux=True))


def slow_cross_entropy(logits, label):
  """Sum, count and gradient, pixel by pixel in double precision."""
  total, count, gradient = 0.0, 0, np.zeros(logits.shape)
  for place in np.ndindex(label.shape):
    if label[place] != IGNORE:
      scores = logits[place].astype(np.float64)
      probability = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
      total -= np.log(probability[label[place]])
      count += 1
      gradient[place] = probability - np.eye(CLASSES)[label[place]]
  return total, count, gradient


@pytest.mark.parametrize('label_type', [np.uint8, np.int32])
def test_equals_a_slow_double_loop(batch, loss_and_gradient, label_type):
  logits, label = batch
  (total, count), gradient = loss_and_gradient(logits, label.astype(label_type))
  expected_total, expected_count, expected_gradient = slow_cross_entropy(logits, label)
  assert total.dtype == count.dtype == np.float32
  assert total == pytest.approx(expected_total, rel=1e-5)
  assert count == expected_count
  np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)
  assert not gradient[label == IGNORE].any()


def test_the_batch_is_the_sum_of_its_pictures(batch, loss_and_gradient):
  """Not of their means: the pictures hold different numbers of labelled pixels."""
  logits, label = batch
  (total, count), _ = loss_and_gradient(logits, label)
  alone = []
  for number in range(3):
    others = np.arange(3)[:, None, None] != number
    alone.append(loss_and_gradient(logits, np.where(others, IGNORE, label).astype(np.uint8))[0])
  counts = [float(c) for _, c in alone]
  assert len(set(counts)) == 3
  assert count == sum(counts)
  assert total == pytest.approx(sum(float(t) for t, _ in alone), rel=1e-5)


def test_nothing_labelled_is_zero_with_zero_gradients(batch, loss_and_gradient):
  logits, label = batch
  for scores in (logits, np.full_like(logits, 1e30)):
    (total, count), gradient = loss_and_gradient(scores, np.full_like(label, IGNORE))
    assert total == count == 0
    assert np.array_equal(gradient, np.zeros_like(gradient))  # which NaN is not


def test_large_scores_neither_overflow_nor_round_to_nothing(batch, loss_and_gradient):
  logits, label = batch
  label = np.full_like(label, 1)
  logits = np.zeros_like(logits)
  logits[..., 2] = 1e4
  (total, _), gradient = loss_and_gradient(logits, label)
  assert total == pytest.approx(1e4 * label.size, rel=1e-5)
  assert np.isfinite(gradient).all()
