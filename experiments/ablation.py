"""Stride, and how upsampling is initialized and whether it is trained; three seeds.

  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation

Tables give means over the seeds, with their spread.
"""

from fcn_jax.config import default
from fcn_jax.sweep import axis, product


def get_config(dataset='scenes'):
  return default(dataset, {'scenes': 'scratch_short'})


def sweep():
  return product(
    axis('model.stride', [32, 16, 8]),
    axis('model.upsample', ['bilinear_fixed', 'bilinear_learned', 'learned_random']),
    axis('seed', [0, 1, 2]),
  )
