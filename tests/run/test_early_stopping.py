"""`train.patience` ends a run that has stopped getting better."""

import numpy as np
import pytest

from fcn_jax.errors import UserError
from fcn_jax.run import early_stopping
from fcn_jax.run.directory import RunDirectory


def slow_reference(scores, patience: int) -> bool:
  """Counts the evaluations one after the other."""
  best, without = -1.0, 0
  for score in scores:
    best, without = (score, 0) if score > best else (best, without + 1)
  return bool(patience) and without >= patience


@pytest.fixture
def rows(tmp_path):
  """A function that makes the rows of evaluations with these scores, among other rows."""

  def make(scores):
    made = RunDirectory(tmp_path).rows('metrics.jsonl')
    for step, score in enumerate(scores, 1):
      made.add(step, {'train/loss': 9.0})
      made.add(step, {'eval/mean_iou': score})
    return made

  return make


@pytest.mark.parametrize('patience', [0, 1, 2, 5])
def test_a_run_ends_where_a_slow_reference_ends_it(rows, patience):
  rng = np.random.default_rng(patience)
  for _ in range(10):
    scores = (rng.integers(0, 6, 30) / 5).tolist()  # with ties
    expected = [slow_reference(scores[:count], patience) for count in range(31)]
    assert [early_stopping.is_over(rows(scores[:count]), patience) for count in range(31)] == expected
    with_next = [early_stopping.is_over(rows(scores[:i]), patience, x) for i, x in enumerate(scores)]
    assert with_next == expected[1:]
    # The predictions of an evaluation that ends a run are kept, so it is clear before it that it may be the last.
    may_end = [early_stopping.is_over(rows(scores[:i]), patience, -1) for i in range(30)]
    assert all(may for may, ends in zip(may_end, with_next, strict=True) if ends)
    best = [early_stopping.is_best(rows(scores[:i]), x) for i, x in enumerate(scores)]
    assert best == [x > max(scores[:i], default=-1) for i, x in enumerate(scores)]


def test_a_test_split_never_ends_a_run():
  early_stopping.check(3, ('train', 'validation'))
  early_stopping.check(3, ('train', 'validation', 'test'))
  early_stopping.check(0, ('train', 'test'))
  with pytest.raises(UserError, match=r'train.patience is 3, but the data set has the splits train, test; expected a'):
    early_stopping.check(3, ('train', 'test'))
