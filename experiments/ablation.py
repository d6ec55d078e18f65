"""What the paper argues about: stride, and how upsampling starts and whether it is trained; three seeds.

  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation

In tables, the seeds are what spreads and differences are taken over.
"""

from fcn_jax.config import default
from fcn_jax.grid import axis, product


def get_config(dataset='scenes'):
  config = default(dataset)
  if dataset == 'scenes':
    config.train.steps = 500  # 27 runs in three quarters of an hour on two cores
    config.eval.every = config.checkpoint.every = 250
  return config


def sweep():
  return product(
    axis('model.stride', [32, 16, 8]),
    axis('model.upsample', ['bilinear_fixed', 'bilinear_learned', 'learned_random']),
    axis('seed', [0, 1, 2]),
  )
