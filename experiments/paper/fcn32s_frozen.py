"""FCN-32s in which only the score layer is trained (CVPR'15, table 2, FCN-32s-fixed).

  python -m fcn_jax.main --config=experiments/paper/fcn32s_frozen.py

The paper reports 45.4 % mean IoU on the 736 validation images. The backbone starts from VGG-16, which is downloaded.
"""

from fcn_jax.config import apply_recipe, default


def get_config(dataset='voc2011_sbd'):
  config = apply_recipe(default(dataset), 'pami16_heavy')
  config.model.stride = 32
  config.optim.lr = 1e-10
  if dataset != 'scenes':  # its network is too narrow for VGG-16's weights
    config.init.weights = 'vgg16'
  config.optim.freeze_backbone = True
  return config
