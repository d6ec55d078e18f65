"""Images and labels, and their augmentation, for the tests of it."""

import numpy as np

from fcn_jax import config as config_lib
from fcn_jax.data.augment import augment
from fcn_jax.data.dataset import IGNORE


def settings(**fields):
  """The section `data`, which changes nothing on a canvas of 64x80 except as given by `fields`."""
  data = config_lib.default('scenes').data
  data.update(train_size=(64, 80), scale=(1.0, 1.0), flip=0.0, brightness=0.0, contrast=0.0, color=0.0)
  data.update(fields)
  return data


def noise(height, width, seed=0):
  """An image without structure, and a label."""
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
  return image, rng.choice(np.array([0, 3, 7, IGNORE], np.uint8), (height, width))


def ramp(height, width, axis):
  """An image and a label whose values are all the row (axis 0) or the column (axis 1)."""
  label = np.indices((height, width))[axis].astype(np.uint8)
  return np.repeat(label[..., None], 3, axis=2), label


def augmented(pair, seed, **fields):
  """An augmented image and label: a dict of image, label and size."""
  example = {'inputs': {'rgb': pair[0]}, 'labels': {'semantic': pair[1]}, 'id': 'a'}
  result = augment(example, np.random.default_rng(seed), settings(**fields))
  assert result.keys() == {'inputs', 'labels', 'size'}
  return {'image': result['inputs']['rgb'], 'label': result['labels']['semantic'], 'size': result['size']}


def inside(example):
  """Image and label without the padding."""
  height, width = example['size']
  return example['image'][:height, :width], example['label'][:height, :width]
