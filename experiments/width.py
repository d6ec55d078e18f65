"""How wide the backbone must be, at each stride; three seeds.

  python -m fcn_jax.sweep --config=experiments/width.py --workdir=runs/width

Time grows with the square of the width.
"""

from fcn_jax.config import default
from fcn_jax.sweep import axis, product


def get_config(dataset='scenes'):
  return default(dataset, {'scenes': 'scratch_short'})


def sweep():
  return product(
    axis('model.width', [0.125, 0.25, 0.5]),
    axis('model.stride', [32, 16, 8]),
    axis('seed', [0, 1, 2]),
  )
