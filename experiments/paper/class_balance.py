"""Whether rare classes should weigh more in the loss (CVPR'15, section 4.3, 'Class balancing'); three seeds.

  python -m fcn_jax.sweep --config=experiments/paper/class_balance.py --workdir=runs/class-balance

The paper finds this unnecessary. Compare mean accuracy and the IoU of each class as well as mean IoU: class weights
raise mean accuracy at the expense of the other metrics.
"""

from fcn_jax.config import default
from fcn_jax.sweep import axis, product


def get_config(dataset='scenes'):
  return default(dataset, {'scenes': 'scratch_short'})


def sweep():
  return product(axis('loss.balance', ['none', 'inverse']), axis('seed', [0, 1, 2]))
