"""Augmentation by a function of the user (`data.augment`), before that of `augment.py`."""

import copy
from collections.abc import Callable

import numpy as np

from fcn_jax import outside
from fcn_jax.data.dataset import IGNORE, Example, problems
from fcn_jax.errors import UserError


def function(path: str) -> Callable[[Example, np.random.Generator], Example]:
  """A function that changes a training example; it gets a copy, and its result is checked.

  Args:
    path: the dotted path of a function `(example, rng) -> example` of the user; 'none' changes nothing.

  Raises:
    UserError: there is no such function; or, when an example is changed, its result is no example of the same size.
  """
  if path == 'none':
    return lambda example, rng: example
  change = outside.member('data.augment', path)

  def changed(example: Example, rng: np.random.Generator) -> Example:
    result = change(copy.deepcopy(example), rng)
    channels = {name: x.shape[-1] for name, x in example['inputs'].items()}
    size = next(iter(example['inputs'].values())).shape[:2]
    if found := problems(result, channels, dict.fromkeys(example['labels'], range(IGNORE)), size):
      raise UserError(f'what {path} makes of the training image {example["id"]}: {found[0]}')
    return result

  return changed
