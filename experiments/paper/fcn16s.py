"""FCN-16s as its authors' solver trains it, from FCN-32s.

  python -m fcn_jax.main --config=experiments/paper/fcn16s.py --config.init.run=runs/fcn32s-voc2011_sbd

The released weights reach 65.0 % mean IoU on the 736 validation pictures.
"""

from fcn_jax.config.recipes import as_released


def get_config(dataset='voc2011_sbd'):
  return as_released(dataset, stride=16, lr=1e-12)
