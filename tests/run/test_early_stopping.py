"""`train.patience` ends a run that has stopped getting better."""

import itertools

import numpy as np
import pytest

from fcn_jax.errors import UserError
from fcn_jax.run import early_stopping


def slow_reference(scores, patience: int) -> bool:
  """Counts the evaluations one after the other."""
  best, without = -1.0, 0
  for score in scores:
    best, without = (score, 0) if score > best else (best, without + 1)
  return bool(patience) and without >= patience


@pytest.mark.parametrize('patience', [0, 1, 2, 5])
def test_a_run_ends_where_a_slow_reference_ends_it(patience):
  rng = np.random.default_rng(patience)
  for _ in range(200):
    scores = (rng.integers(0, 6, 30) / 5).tolist()  # with ties
    found = [early_stopping.is_over(scores[:count], patience) for count in range(31)]
    assert found == [slow_reference(scores[:count], patience) for count in range(31)]
    kept = [count for count in range(1, 31) if early_stopping.is_best(scores[:count])]
    assert kept == [c for c in range(1, 31) if scores[c - 1] > max(scores[: c - 1], default=-1)]


def test_whether_an_evaluation_may_be_the_last_is_clear_before_it():
  """The predictions of an evaluation that ends a run are always kept."""
  for scores in itertools.product([0.0, 0.5, 1.0], repeat=5):
    for patience in (1, 2, 3):
      if early_stopping.is_over(scores, patience) and not early_stopping.is_over(scores[:-1], patience):
        assert early_stopping.is_over([*scores[:-1], -1], patience)


def test_a_test_split_never_ends_a_run():
  early_stopping.check(3, ('train', 'validation'))
  early_stopping.check(3, ('train', 'validation', 'test'))
  early_stopping.check(0, ('train', 'test'))
  with pytest.raises(UserError, match=r'train.patience is 3, but the data set has the splits train, test; expected a'):
    early_stopping.check(3, ('train', 'test'))
