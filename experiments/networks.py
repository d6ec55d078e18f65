"""FCN-8s over each backbone, and U-Net, with about the same FLOPs; three seeds.

python -m fcn_jax.sweep --config=experiments/networks.py --workdir=runs/networks
python -m fcn_jax.report runs/networks --rows=model.name,model.backbone
"""

from fcn_jax.config import RECIPES, default
from fcn_jax.sweep import axis, product


def get_config(dataset='scenes'):
  return default(dataset, {'scenes': 'scratch_short'})


def sweep():
  small = [RECIPES[f'small_{name}'] for name in ('resnet18', 'resnet50', 'alexnet', 'unet')]
  return product([{'model.backbone': 'vgg16'}, *small], axis('seed', [0, 1, 2]))
