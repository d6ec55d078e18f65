"""Whether rare classes should weigh more in the loss (CVPR'15, section 4.3, 'Class balancing'); three seeds.

  python -m fcn_jax.sweep --config=experiments/paper/class_balance.py --workdir=runs/class-balance

The paper finds it unnecessary. Look at mean accuracy and the IoU of each class beside mean IoU: weights buy the first.
"""

from fcn_jax.config.recipes import for_ablation
from fcn_jax.sweep.space import axis, product


def get_config(dataset='scenes'):
  return for_ablation(dataset)


def sweep():
  return product(axis('loss.balance', ['none', 'inverse']), axis('seed', [0, 1, 2]))
