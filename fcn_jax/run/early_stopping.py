"""When a run with `train.patience` ends, and which of its evaluations is the best one.

Both depend on the rows in `metrics.jsonl` alone, so a run that was killed ends at the same step, and so do all hosts.
"""

from collections.abc import Collection

from fcn_jax.errors import UserError
from fcn_jax.run.directory import Rows

_FIELD = 'eval/mean_iou'


def is_best(rows: Rows, score: float) -> bool:
  """Whether an evaluation with the mean IoU `score` would be better than all before it."""
  return _since_best(rows, score) == 0


def is_over(rows: Rows, patience: int, *score: float) -> bool:
  """Whether the last `patience` evaluations were all no better than an earlier one; never if `patience` is 0.

  Args:
    rows: of `metrics.jsonl`.
    patience: the number of evaluations.
    *score: the mean IoU of one more evaluation, which is not in the rows yet.
  """
  return 0 < patience <= _since_best(rows, *score)


def _since_best(rows: Rows, *score: float) -> int:
  """The number of evaluations after the first one with the best score."""
  scores = [*(row[_FIELD] for row in rows.with_field(_FIELD)), *score]
  return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def explanation(rows: Rows, step: int, steps: int) -> str:
  """Why a run of `steps` steps ends at `step`."""
  best = max(rows.with_field(_FIELD), key=lambda row: row[_FIELD])  # the first one, if several are equal
  return (
    f'stopped early at step {step} of {steps} (train.patience): no evaluation after step {best["step"]} has a better '
    f'mean IoU than {100 * best[_FIELD]:.2f} %; the folder best has the checkpoint of step {best["step"]}'
  )


def check(patience: int, splits: Collection[str]) -> None:
  """Raises `UserError` if there is no validation split to decide when the run ends."""
  if patience and 'validation' not in splits:
    raise UserError(
      f'train.patience is {patience}, but the data set has the splits {", ".join(splits)}; expected a validation '
      'split, because the test split never decides when a run ends: hold back some of the training images (with '
      'data.val_fraction, if the data set has it), or leave train.patience out'
    )
