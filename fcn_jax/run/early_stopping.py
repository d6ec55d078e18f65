"""When a run with `train.patience` ends, and which of its evaluations is the best one."""

from collections.abc import Sequence

from fcn_jax.errors import UserError
from fcn_jax.run.directory import Rows

_FIELD = 'eval/mean_iou'


def mean_ious(rows: Rows) -> list[float]:
  """The mean IoU of each evaluation in `metrics.jsonl`."""
  return [row[_FIELD] for row in rows.with_field(_FIELD)]


def is_best(scores: Sequence[float]) -> bool:
  """Whether the last of the mean IoUs, one per evaluation, is better than all others."""
  return _since_best(scores) == 0


def is_over(scores: Sequence[float], patience: int) -> bool:
  """Whether the last `patience` evaluations were all no better than an earlier one; never if `patience` is 0.

  It depends on the mean IoUs alone, so a run that was killed ends at the same step, and so do all hosts.
  """
  return 0 < patience <= _since_best(scores)


def _since_best(scores: Sequence[float]) -> int:
  """The number of evaluations after the first one with the best score."""
  return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def explanation(rows: Rows, step: int, steps: int) -> str:
  """Why a run of `steps` steps ends at `step`."""
  best = max(rows.with_field(_FIELD), key=lambda row: row[_FIELD])  # the first one, if several are equal
  return (
    f'stopped early at step {step} of {steps} (train.patience): no evaluation after step {best["step"]} has a better '
    f'mean IoU than {100 * best[_FIELD]:.2f} %; the folder best has the checkpoint of step {best["step"]}'
  )


def check(patience: int, splits: Sequence[str]) -> None:
  """Raises `UserError` if there is no validation split to decide when the run ends."""
  if patience and 'validation' not in splits:
    raise UserError(
      f'train.patience is {patience}, but the data set has the splits {", ".join(splits)}; expected a validation '
      'split, because the test split never decides when a run ends: hold back some of the training images (with '
      'data.val_fraction, if the data set has it), or leave train.patience out'
    )
