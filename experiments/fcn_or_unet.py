"""FCN-32s, FCN-16s and FCN-8s against U-Nets with the same FLOPs and with the same number of parameters; three seeds.

  python -m fcn_jax.sweep --config=experiments/fcn_or_unet.py --workdir=runs/fcn_or_unet

On `scenes`, each FCN needs 0.24 GFLOP per image and has 1.10 million parameters. The U-Net of width 0.094 needs 0.27
GFLOP; that of width 0.188 has 1.09 million parameters. Both have the learning rate of the narrow one, 0.03; the
FCNs have 0.003.
"""

from fcn_jax.config import RECIPES, default
from fcn_jax.sweep import axis, chain, product


def get_config(dataset='scenes'):
  return default(dataset, {'scenes': 'scratch_short'})


def sweep():
  fcns = axis('model.stride', [32, 16, 8])
  same_flops = dict(RECIPES['small_unet'])
  same_parameters = same_flops | {'model.width': 0.1875}
  return product(chain(fcns, [same_flops, same_parameters]), axis('seed', [0, 1, 2]))
