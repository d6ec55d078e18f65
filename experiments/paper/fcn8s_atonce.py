"""FCN-8s in one go, with pool4 and pool3 scaled by constants, as its authors' solver trains it.

  python -m fcn_jax.main --config=experiments/paper/fcn8s_atonce.py

The released weights reach 65.4 % mean IoU on the 736 validation pictures. The trunk starts from VGG-16, which
is fetched.
"""

from fcn_jax.config.recipes import as_released


def get_config(dataset='voc2011_sbd'):
  config = as_released(dataset, stride=8, lr=1e-10, steps=300_000, weights='vgg16')
  config.model.at_once = True
  return config
