"""FCN-32s, 16s and 8s, each from the one before, with the rates of the authors' solvers.

  python -m fcn_jax.sweep --config=experiments/paper/stages.py --workdir=runs/paper-stages

The released weights reach 63.6, 65.0 and 65.5 % mean IoU on the 736 validation pictures. The first
starts from VGG-16, which is fetched.
"""

from fcn_jax.config.recipes import as_released
from fcn_jax.sweep.space import name


def get_config(dataset='voc2011_sbd'):
  return as_released(dataset, stride=32, lr=1e-10, weights='vgg16')


def sweep():
  points = []
  for stride, lr in ((32, 1e-10), (16, 1e-12), (8, 1e-14)):
    points.append({'model.stride': stride, 'optim.lr': lr} | ({'init.run': name(points[-1])} if points else {}))
  return points
