"""FCN-32s as its authors' solver trains it.

  python -m fcn_jax.main --config=experiments/paper/fcn32s.py

The released weights reach 63.6 % mean IoU on the 736 validation pictures. The trunk starts from VGG-16, which
is fetched.
"""

from fcn_jax.config.recipes import as_released


def get_config(dataset='voc2011_sbd'):
  return as_released(dataset, stride=32, lr=1e-10, weights='vgg16')
