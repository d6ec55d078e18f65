"""Settings that follow from the data, with reasons."""

import dataclasses
import math
from typing import Any

import numpy as np

from fcn_jax.data import resizing
from fcn_jax.data.inspection.checks import LARGE
from fcn_jax.data.inspection.inspection import Inspection

_RESIZED = 1024  # pixels of the longest side of photographs, which networks were designed for
_STEP = 16  # pixels that sides of a crop are multiples of
_LARGEST_CROP = 512
_FITTING = 0.9  # share of the images that fit into the crop, if it is not the largest one
_RARE = 0.02  # share of the pixels below which a class counts for little in the mean loss
_EPOCHS = 40  # about as many as in results/stanford_background.md
_MOST_STEPS = 20_000  # that are suggested


@dataclasses.dataclass(frozen=True)
class Suggestion:
  """A setting by dotted name, its value, and the reason."""

  setting: str
  value: Any
  reason: str

  @property
  def flag(self) -> str:
    """As on a command line."""
    value = ','.join(map(str, self.value)) if isinstance(self.value, tuple) else self.value
    return f'--config.{self.setting}={value}'


def suggest(found: Inspection, config: Any) -> list[Suggestion]:
  """Settings that differ from those of the config."""
  sizes = np.array([r.size for r in found.records if r.size and r.split == 'train'])
  if not len(sizes):
    return []
  result, resize = [], config.data.get('resize', 0)
  longest = sizes.max(1)
  if 'resize' in config.data and not resize and longest.max() > LARGE:
    resize = _RESIZED
    reason = f'the longest side is up to {longest.max()} pixels, and evaluation needs memory for whole images'
    result.append(Suggestion('data.resize', resize, reason))
  result += _crop(resizing.sizes(sizes, resize)) + _balance(found, config.loss) + _steps(len(sizes), config)
  return [x for x in result if _current(config, x.setting) != x.value]


def _crop(sizes: np.ndarray) -> list[Suggestion]:
  fitting = np.ceil(np.quantile(sizes, _FITTING, axis=0) / _STEP).astype(int) * _STEP
  crop = tuple(int(x) for x in np.minimum(fitting, _LARGEST_CROP))
  share = 100 * np.mean((sizes <= crop).all(1))
  return [Suggestion('data.train_size', crop, f'{share:.0f} % of the training images fit; others are cropped to it')]


def _balance(found: Inspection, loss: Any) -> list[Suggestion]:
  if found.counts is None or found.classes is None or loss.balance != 'none' or loss.name == 'dice':
    return []
  total = found.counts[[r.split == 'train' for r in found.records]].sum(0)
  shares = total / max(1, total.sum())
  used = np.flatnonzero(shares)
  if not len(used) or (rarest := used[np.argmin(shares[used])]) is None or shares[rarest] >= _RARE:
    return []
  reason = f'{found.classes.names[rarest]} has {100 * shares[rarest]:.2g} % of the labeled training pixels'
  return [Suggestion('loss.balance', 'inverse', f'{reason}, and hardly counts in the mean loss')]


def _steps(count: int, config: Any) -> list[Suggestion]:
  batch_size = config.train.batch_size
  steps = min(math.ceil(_EPOCHS * count / batch_size / 100) * 100, _MOST_STEPS)
  epochs = steps * batch_size / count
  if steps <= config.train.steps:
    return []
  return [Suggestion('train.steps', steps, f'{epochs:.0f} epochs of {count} images in batches of {batch_size}')]


def _current(config: Any, setting: str) -> Any:
  section, _, field = setting.partition('.')
  return config[section][field]
