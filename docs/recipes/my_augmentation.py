"""An augmentation: cutout (DeVries and Taylor, 2017), which hides a rectangle."""

import numpy as np

from fcn_jax.data.dataset import Example


def cutout(example: Example, rng: np.random.Generator) -> Example:
  """The hidden pixels are black and have no label."""
  height, width = next(iter(example['labels'].values())).shape
  top, left = rng.integers(height), rng.integers(width)
  hidden = np.s_[top : top + height // 4, left : left + width // 4]
  for image in example['inputs'].values():  # uint8 [H, W, C]
    image[hidden] = 0
  for label in example['labels'].values():  # uint8 [H, W]
    label[hidden] = 255
  return example
