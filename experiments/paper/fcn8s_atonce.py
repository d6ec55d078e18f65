"""FCN-8s trained in one stage, with pool4 and pool3 scaled by constants, as its authors' solver trains it.

  python -m fcn_jax.main --config=experiments/paper/fcn8s_atonce.py

The released weights reach 65.4 % mean IoU on the 736 validation images. The backbone starts from VGG-16, which is
downloaded.
"""

from fcn_jax.config import apply_recipe, default


def get_config(dataset='voc2011_sbd'):
  config = apply_recipe(default(dataset), 'pami16_heavy')
  config.model.stride = 8
  config.optim.lr = 1e-10
  if dataset != 'scenes':  # its network is too narrow for VGG-16's weights
    config.init.weights = 'vgg16'
  config.model.at_once = True
  config.train.steps = 300_000
  return config
