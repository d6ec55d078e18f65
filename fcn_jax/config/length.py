"""How long a run trains: `train.steps`, or `train.epochs`, from which its first start computes the steps."""

import fractions
import logging
import math

import ml_collections

from fcn_jax.errors import UserError

logger = logging.getLogger(__name__)


def steps(train: ml_collections.ConfigDict, images: int) -> int:
  """The number of steps of `train.epochs` passes over `images` training images, rounded up."""
  epochs = fractions.Fraction(repr(train.epochs))  # exact: as a float, 0.1 x 30 images would be more than 3
  return math.ceil(epochs * images / train.batch_size)


def resolve(config: ml_collections.ConfigDict, count: int) -> ml_collections.ConfigDict:
  """The config of a run of `count` steps; a warmup that is not shorter becomes a tenth of the steps."""
  resolved = config.copy_and_resolve_references()
  resolved.train.steps = count
  resolved.optim.warmup = shortened_warmup(resolved.optim.warmup, count)
  return resolved.lock()


def is_due(step: int, every: int, count: int) -> bool:
  """Whether something is due at `step` that happens at every `every`-th step and at the last of `count` steps."""
  return step == count or (every > 0 and step % every == 0)


def shortened_warmup(warmup: int, count: int) -> int:
  """`optim.warmup` for a run of `count` steps: a tenth of them if it is not shorter than the run."""
  return count // 10 if warmup >= count else warmup


def check(config: ml_collections.ConfigDict, usual: int | None = None) -> None:
  """Checks the section `train` and the warmup against each other.

  Args:
    config: of a run.
    usual: `train.steps` of the recipe, which `train.epochs` overrides; None if the steps are resolved already.

  Raises:
    UserError: both `train.steps` and `train.epochs` are set, or a number is too small or too large.
  """
  train, warmup = config.train, config.optim.warmup
  if train.patience and not config.eval.every:
    raise UserError(
      f'train.patience is {train.patience}, but eval.every is 0, so there is one evaluation; set eval.every to the '
      'number of steps between evaluations'
    )
  if train.epochs and usual is not None:
    if train.steps not in (0, usual):
      raise UserError(
        f'train.steps is {train.steps} and train.epochs is {train.epochs:g}, but one of them sets the other; drop '
        'train.epochs, or drop train.steps (--config.train.steps=0 drops that of an experiment file)'
      )
  elif train.steps < 1:
    raise UserError(f'train.steps is {train.steps}; expected 1 or more')
  elif warmup >= train.steps:
    raise UserError(f'optim.warmup is {warmup}, but train.steps is {train.steps}; set optim.warmup below {train.steps}')
