"""The loss and the augmentation, each with and without the other; three seeds."""

from fcn_jax.config import default
from fcn_jax.sweep import axis, product


def get_config(dataset='scenes'):
  return default(dataset, {'scenes': 'scratch_short'})


def sweep():
  return product(
    axis('loss.name', ['cross_entropy', 'my_loss.poly']),
    axis('data.augment', ['none', 'my_augmentation.cutout']),
    axis('seed', [0, 1, 2]),
  )
