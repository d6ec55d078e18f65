"""FCN-8s on a share of the training images of a folder: what would more images bring?

  python -m fcn_jax.sweep --config=experiments/train_fraction.py --config.data.folder=FOLDER --workdir=runs/more
  python -m fcn_jax.report runs/more

A smaller share is part of a larger one, and all runs are scored on the same images (docs/own_data.md).
"""

from fcn_jax.config import default
from fcn_jax.sweep import axis, product


def get_config(dataset='folder'):
  config = default(dataset)
  config.model.stride = 8
  return config


def sweep():
  return product(axis('data.train_fraction', [0.25, 0.5, 1.0]), axis('seed', [0, 1, 2]))
