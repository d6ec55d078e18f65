"""FCN-32s, 16s and 8s, each from the previous one, with the learning rates of the authors' solvers.

  python -m fcn_jax.sweep --config=experiments/paper/stages.py --workdir=runs/paper-stages

The released weights reach 63.6, 65.0 and 65.5 % mean IoU on the 736 validation images. The backbone of the first starts
from VGG-16, which is downloaded.
"""

from fcn_jax.config import apply_recipe, default
from fcn_jax.sweep import name


def get_config(dataset='voc2011_sbd'):
  config = apply_recipe(default(dataset), 'pami16_heavy')
  config.model.stride = 32
  config.optim.lr = 1e-10
  if dataset != 'scenes':  # its network is too narrow for VGG-16's weights
    config.init.weights = 'vgg16'
  return config


def sweep():
  points = []
  for stride, lr in ((32, 1e-10), (16, 1e-12), (8, 1e-14)):
    points.append({'model.stride': stride, 'optim.lr': lr} | ({'init.run': name(points[-1])} if points else {}))
  return points
