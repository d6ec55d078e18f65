"""FCN-AlexNet as its authors' solver trains it: FCN-32s on CaffeNet.

  python -m fcn_jax.main --config=experiments/paper/fcn_alexnet.py --config.init.weights=caffenet.caffemodel

The released weights reach 48.0 % mean IoU on the 736 validation images. The authors start from CaffeNet, whose fully
connected layers become convolutions.
"""

from fcn_jax.config import apply_recipe, default


def get_config(dataset='voc2011_sbd'):
  config = apply_recipe(default(dataset), 'pami16_heavy')
  config.model.backbone = 'alexnet'
  config.model.stride = 32
  config.loss.reduction = 'mean'
  config.optim.lr = 1e-4
  config.optim.momentum = 0.9
  config.optim.bias_lr = 1.0  # the authors double that of the score layer alone
  config.train.batch_size = 20  # images accumulated for an update
  return config
