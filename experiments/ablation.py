"""What the paper argues about: stride, and how upsampling starts and whether it is trained; three seeds.

  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation

In tables, the seeds are what spreads and differences are taken over.
"""

from fcn_jax.config.recipes import for_ablation
from fcn_jax.sweep.space import axis, product


def get_config(dataset='scenes'):
  return for_ablation(dataset)


def sweep():
  return product(
    axis('model.stride', [32, 16, 8]),
    axis('model.upsample', ['bilinear_fixed', 'bilinear_learned', 'learned_random']),
    axis('seed', [0, 1, 2]),
  )
