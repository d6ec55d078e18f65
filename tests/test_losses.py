"""The loss against a slow double loop, its weights, and sums that add up."""

import functools

import jax
import numpy as np
import pytest

from fcn_jax import losses
from fcn_jax.data.dataset import IGNORE, Classes
from fcn_jax.errors import UserError
from fcn_jax.loss_names import terms
from fcn_jax.losses import class_weights, inverse_weights, pixel_weights, sample_cells, softmax_cross_entropy

CLASSES = 4


@pytest.fixture(scope='module')
def batch():
  """Logits and labels of three images: some pixels of the first are ignored, and all of the last."""
  rng = np.random.default_rng(0)
  logits = rng.normal(scale=3, size=(3, 5, 7, CLASSES)).astype(np.float32)
  label = rng.integers(0, CLASSES, (3, 5, 7), np.uint8)
  label[0][rng.random((5, 7)) < 0.4] = IGNORE
  label[2] = IGNORE
  return logits, label


@pytest.fixture(scope='module')
def loss_and_gradient():
  return jax.jit(jax.value_and_grad(sum_and_count, has_aux=True))


def sum_and_count(logits, label, of_class=None):
  weight = pixel_weights(label, of_class)
  return softmax_cross_entropy(logits, label, weight), weight.sum()


def slow_cross_entropy(logits, label, weights=(1,) * CLASSES):
  """Sum, count and gradient, pixel by pixel in double precision."""
  total, count, gradient = 0.0, 0, np.zeros(logits.shape)
  for place in np.ndindex(label.shape):
    if label[place] != IGNORE:
      scores = logits[place].astype(np.float64)
      probability = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
      weight = weights[label[place]]
      total -= weight * np.log(probability[label[place]])
      count += weight
      gradient[place] = weight * (probability - np.eye(CLASSES)[label[place]])
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


def test_scores_are_not_stored_again():
  """Neither their exponentials nor the scores of the labels: only the inputs and the gradient are that large."""
  logits, label = np.zeros((2, 64, 64, 21), np.float32), np.zeros((2, 64, 64), np.uint8)
  compiled = jax.jit(jax.value_and_grad(softmax_cross_entropy)).lower(logits, label, label * np.float32(1)).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < logits.nbytes / 4


def test_the_loss_of_a_batch_is_the_sum_over_its_images(batch, loss_and_gradient):
  """Not of their means: the images have different numbers of labeled pixels."""
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


def test_without_labeled_pixels_loss_and_gradient_are_zero(batch, loss_and_gradient):
  logits, label = batch
  for scores in (logits, np.full_like(logits, 1e30)):
    (total, count), gradient = loss_and_gradient(scores, np.full_like(label, IGNORE))
    assert total == count == 0
    assert np.array_equal(gradient, np.zeros_like(gradient))  # NaN would not be equal


def test_large_scores_neither_overflow_nor_round_to_nothing(batch, loss_and_gradient):
  logits, label = batch
  label = np.full_like(label, 1)
  logits = np.zeros_like(logits)
  logits[..., 2] = 1e4
  (total, _), gradient = loss_and_gradient(logits, label)
  assert total == pytest.approx(1e4 * label.size, rel=1e-5)
  assert np.isfinite(gradient).all()


WEIGHTS = np.array([0.25, 3, 0, 1.5], np.float32)


def test_weights_of_classes_equal_a_slow_double_loop(batch, loss_and_gradient):
  logits, label = batch
  (total, count), gradient = loss_and_gradient(logits, label, WEIGHTS)
  expected_total, expected_count, expected_gradient = slow_cross_entropy(logits, label, WEIGHTS)
  assert total.dtype == count.dtype == np.float32
  assert total == pytest.approx(expected_total, rel=1e-5)
  assert count == pytest.approx(expected_count, rel=1e-6)
  np.testing.assert_allclose(gradient, expected_gradient, atol=3e-6)
  assert not gradient[label == IGNORE].any()


def test_weights_of_one_change_nothing(batch, loss_and_gradient):
  logits, label = batch
  (total, count), gradient = loss_and_gradient(logits, label)
  (weighted, weight), weighted_gradient = loss_and_gradient(logits, label, np.ones(CLASSES, np.float32))
  assert (float(total), float(count)) == (float(weighted), float(weight))
  np.testing.assert_array_equal(gradient, weighted_gradient)


def probabilities(logits: np.ndarray) -> np.ndarray:
  scores = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
  return scores / scores.sum(-1, keepdims=True)


@pytest.mark.parametrize('gamma', [0, 0.5, 2])
def test_focal_loss_equals_numpy(batch, gamma):
  logits, label = batch
  there = label != IGNORE
  p = np.take_along_axis(probabilities(logits), np.where(there, label, 0)[..., None].astype(int), -1)[..., 0][there]
  weight = pixel_weights(label, np.arange(1, CLASSES + 1, dtype=np.float32))
  expected = np.sum(np.asarray(weight)[there] * (1 - p) ** gamma * -np.log(p))
  loss = functools.partial(losses.focal, label=label, weight=weight, gamma=gamma)
  total, gradient = jax.value_and_grad(loss)(logits)
  assert total == pytest.approx(expected, rel=1e-5)
  assert np.isfinite(jax.grad(loss)(logits * 1e4)).all()  # certain pixels
  assert not gradient[~there].any()
  eps = 1e-2
  step = np.asarray(gradient) / np.linalg.norm(gradient)
  slope = (loss(logits + eps * step) - loss(logits - eps * step)) / (2 * eps)
  assert slope == pytest.approx(float(np.linalg.norm(gradient)), rel=2e-2)


def test_dice_loss_equals_numpy_image_by_image(batch):
  logits, label = batch
  label = label.copy()
  label[1][label[1] == 2] = 0  # a class that an image does not have counts nowhere in its loss
  expected = []
  for p, y in zip(probabilities(logits), label, strict=True):
    there = y != IGNORE
    present = np.unique(y[there])
    overlaps = [2 * p[y == c, c].sum() / (p[there, c].sum() + (y == c).sum()) for c in present]
    expected.append(1 - np.mean(overlaps) if len(present) else 0)
  weights = losses.weights('dice', label)
  assert weights['images'].tolist() == [1, 1, 0] and weights.keys() == {'images'}
  for weight in (weights['images'], np.array([0.25, 0.75, 0], np.float32)):
    assert losses.dice(logits, label, weight) == pytest.approx(np.dot(weight, expected), rel=1e-5)
  assert not jax.grad(losses.dice)(logits, label, weights['images'])[label == IGNORE].any()


def test_a_loss_is_a_sum_with_factors(batch):
  logits, label = batch
  name = 'cross_entropy+0.5*dice'
  assert terms(name) == {'cross_entropy': 1, 'dice': 0.5}
  weights = losses.weights(name, label)
  parts = softmax_cross_entropy(logits, label, weights['pixels']), losses.dice(logits, label, weights['images'])
  assert losses.make(name, 2.0)(logits, label, weights) == pytest.approx(float(parts[0] + 0.5 * parts[1]), rel=1e-6)


@pytest.mark.parametrize('name', ['', 'dise', 'dice+dice', '0*dice', '-1*dice', 'dice*2', 'focal+'])
def test_other_names_of_losses_are_refused(name):
  with pytest.raises(UserError, match=r'loss.name is .* expected one of cross_entropy, focal, dice'):
    terms(name)


def test_median_frequency_balancing_equals_a_calculation_by_hand():
  counts = np.array([[90, 10, 0, 0], [50, 0, 50, 0]])
  # Shares in the images that have a class: 140/200, 10/100, 50/100; the median is 0.5.
  np.testing.assert_allclose(losses.median_weights(counts), [0.5 / 0.7, 5, 1, 0], rtol=1e-6)


def test_weights_of_classes_can_be_numbers():
  heads = {'a': Classes(('x', 'y', 'z'), ((0, 0, 0),) * 3)}
  assert class_weights('1,2.5,0', [], heads)['a'].tolist() == [1, 2.5, 0]
  for wrong, message in (
    ('1,2', 'has 2 numbers, but the head a has 3 classes'),
    ('1,-2,3', 'of 0 or more'),
    ('x', 'x'),
  ):
    with pytest.raises(UserError, match=message):
      class_weights(wrong, [], heads)


def test_class_weights_are_measured_on_the_same_2000_masks_each_time():
  """Spread over the split: the masks may be sorted."""
  split = [{'labels': {'a': np.full((1, 1), index // 2500, np.uint8)}} for index in range(5000)]
  heads = {'a': Classes(('x', 'y'), ((0, 0, 0),) * 2)}
  found = [class_weights('inverse', split, heads)['a'] for _ in range(2)]
  assert np.array_equal(*found) and found[0] == pytest.approx([1, 1], abs=0.1)


def test_inverse_weights_are_one_on_average_and_zero_for_an_absent_class():
  shares = np.array([0.7, 0.25, 0, 0.05])
  weights = inverse_weights(shares)
  assert weights.dtype == np.float32
  assert (weights * shares).sum() == pytest.approx(1)
  np.testing.assert_allclose((weights * shares)[[0, 1, 3]], 1 / 3, rtol=1e-6)  # each class counts alike
  assert weights[2] == 0
  np.testing.assert_allclose(inverse_weights(np.full(CLASSES, 0.25)), 1)


def test_class_weights_are_those_of_all_training_pixels_of_each_head():
  """Not of the first 500 images, which are enough for a line on the screen."""
  sky, tree = np.array([[0, 0, 0, IGNORE]], np.uint8), np.array([[1, 1, 1, 1]], np.uint8)
  split = [{'labels': {'a': sky, 'b': tree}}] * 600 + [{'labels': {'a': tree, 'b': tree}}] * 50
  heads = {'a': Classes(('x', 'y', 'z'), ((0, 0, 0),) * 3), 'b': Classes(('x', 'y'), ((0, 0, 0),) * 2)}
  weights = class_weights('inverse', split, heads)
  np.testing.assert_allclose(weights['a'], [2000 / 1800 / 2, 2000 / 200 / 2, 0], rtol=1e-6)
  np.testing.assert_allclose(weights['b'], [0, 1])
  assert class_weights('none', split, heads) == {'a': None, 'b': None}


@pytest.fixture(scope='module')
def labels():
  """Four images whose size is not a multiple of a cell, all of one class except for some ignored pixels."""
  label = np.ones((4, 40, 70), np.uint8)
  label[:, 3:9, 5:7] = IGNORE
  return label


def kept_cells(label, sampled) -> np.ndarray:
  """Which cells of 32 pixels still count, bool [B, 2, 3]; a cell must count, or not, as a whole."""
  stayed = np.zeros((len(label), 2, 3), bool)
  for place in np.ndindex(stayed.shape):
    number, row, column = place
    cell = np.s_[number, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
    stayed[place] = np.array_equal(sampled[cell], label[cell])
    assert stayed[place] or (sampled[cell] == IGNORE).all()
  return stayed


def test_cells_count_or_not_as_a_whole_with_the_given_probability(labels):
  sample = jax.jit(jax.vmap(lambda key: sample_cells(key, labels, 0.3, 32)))
  sampled = np.asarray(sample(jax.random.split(jax.random.key(0), 400)))
  assert sampled.dtype == np.uint8 and sampled.shape == (400, *labels.shape)
  stayed = np.array([kept_cells(labels, one) for one in sampled])
  # Each cell of each image is drawn independently: 400 draws of 0.3 have a standard deviation of 0.023.
  assert np.abs(stayed.mean(0) - 0.3).max() < 0.1
  assert abs(stayed.mean() - 0.3) < 0.02
  pairs = np.corrcoef(stayed.reshape(400, -1).T)
  assert np.abs(pairs - np.eye(len(pairs))).max() < 0.25


def test_the_sampled_loss_is_on_average_its_share_of_the_whole(labels, loss_and_gradient):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(*labels.shape, CLASSES)).astype(np.float32)
  (total, count), _ = loss_and_gradient(logits, labels)
  sampled = jax.jit(
    jax.vmap(lambda key: sum_and_count(logits, sample_cells(key, labels, 0.5, 32)))
  )(jax.random.split(jax.random.key(1), 400))  # fmt: skip
  for whole, draws in zip((total, count), sampled, strict=True):
    assert np.mean(draws) == pytest.approx(float(whole) / 2, rel=0.05)


def test_a_cell_that_is_dropped_has_no_gradient(labels, loss_and_gradient):
  logits = np.random.default_rng(0).normal(size=(*labels.shape, CLASSES)).astype(np.float32)
  sampled = np.asarray(sample_cells(jax.random.key(2), labels, 0.5, 32))
  stayed = kept_cells(labels, sampled)
  assert stayed.any() and not stayed.all()
  _, gradient = loss_and_gradient(logits, sampled)
  _, whole = loss_and_gradient(logits, labels)
  gone = np.repeat(np.repeat(~stayed, 32, 1), 32, 2)[:, :40, :70]
  assert np.array_equal(gradient[gone], np.zeros_like(gradient[gone]))
  np.testing.assert_array_equal(gradient[~gone], whole[~gone])
