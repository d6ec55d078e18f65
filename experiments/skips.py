"""Which skip connections matter, at stride 8 and at stride 2; three seeds.

  python -m fcn_jax.sweep --config=experiments/skips.py --workdir=runs/skips

The network with skips `none` upsamples to the stride in bilinear steps alone. It is the control for the networks with
skip connections.
"""

from fcn_jax.config import default
from fcn_jax.sweep import axis, chain, product


def get_config(dataset='scenes'):
  return default(dataset, {'scenes': 'scratch_short'})


def sweep():
  at_8 = ['none', 'pool4', 'pool3', 'pool4+pool3']
  at_2 = [*at_8, 'pool4+pool3+pool2', 'all']
  networks = chain(
    product(axis('model.stride', [8]), axis('model.skips', at_8)),
    product(axis('model.stride', [2]), axis('model.skips', at_2)),
  )
  return product(networks, axis('seed', [0, 1, 2]))
