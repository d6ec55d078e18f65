"""How wide the trunk must be, at each stride; three seeds.

  python -m fcn_jax.sweep --config=experiments/width.py --workdir=runs/width

A wider trunk costs its square in time.
"""

from fcn_jax.config.recipes import for_ablation
from fcn_jax.sweep.space import axis, product


def get_config(dataset='scenes'):
  return for_ablation(dataset)


def sweep():
  return product(
    axis('model.width', [0.125, 0.25, 0.5]),
    axis('model.stride', [32, 16, 8]),
    axis('seed', [0, 1, 2]),
  )
