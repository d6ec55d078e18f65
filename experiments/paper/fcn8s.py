"""FCN-8s as its authors' solver trains it, from FCN-16s.

  python -m fcn_jax.main --config=experiments/paper/fcn8s.py --config.init.run=runs/fcn16s-voc2011_sbd

The released weights reach 65.5 % mean IoU on the 736 validation images.
"""

from fcn_jax.config import apply_recipe, default


def get_config(dataset='voc2011_sbd'):
  config = apply_recipe(default(dataset), 'pami16_heavy')
  config.model.stride = 8
  config.optim.lr = 1e-14
  return config
