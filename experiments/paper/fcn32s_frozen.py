"""FCN-32s of which only the score layer is trained (CVPR'15, table 2, FCN-32s-fixed).

  python -m fcn_jax.main --config=experiments/paper/fcn32s_frozen.py

The paper reports 45.4 % mean IoU on the 736 validation pictures. The trunk starts from VGG-16, which
is fetched.
"""

from fcn_jax.config.recipes import as_released


def get_config(dataset='voc2011_sbd'):
  config = as_released(dataset, stride=32, lr=1e-10, weights='vgg16')
  config.optim.freeze_trunk = True
  return config
