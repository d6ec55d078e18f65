"""Recipes: named sets of settings for training, and the recipe that each data set uses by default.

A recipe is a plain dict of settings by dotted name. `config.recipe` records which recipes a config was made from.
"""

import ml_collections

from fcn_jax.errors import UserError, nearest

_FROM_SCRATCH = {
  'model.norm': 'group',
  'model.std': (64.0, 64.0, 64.0),
  'data.flip': 0.5,
  'optim.name': 'adamw',
  'optim.weight_decay': 1e-4,
  'optim.schedule': 'cosine',
  'optim.clip': 1.0,
}

# Short enough for a CPU.
_SHORT = {
  'optim.warmup': 40,
  'train.steps': 800,
  'train.batch_size': 8,
  'eval.every': 400,
  'eval.batch_size': 20,
  'checkpoint.every': 400,
}

# From scratch on a CPU within minutes: an eighth of the paper's width, with GroupNorm and AdamW, which a network
# without pretrained weights needs. In so few epochs, more augmentation or dropout costs accuracy.
_SCRATCH_SMALL = (
  _FROM_SCRATCH
  | {
    'model.width': 0.125,
    'model.fc_channels': 2048,
    'model.dropout': 0.0,
    'data.scale': (0.9, 1.1),
    'optim.lr': 3e-3,
  }
  | _SHORT
)

RECIPES = {
  # Long, Shelhamer and Darrell, CVPR 2015, section 4.3: SGD with momentum on the mean loss of 20 images. The backbone
  # needs pretrained weights.
  'cvpr15': {
    'model.norm': 'none',
    'model.dropout': 0.5,
    'loss.reduction': 'mean',
    'optim.name': 'sgd',
    'optim.lr': 1e-4,
  }
  | {'optim.momentum': 0.9, 'optim.weight_decay': 5e-4, 'optim.bias_lr': 2.0, 'optim.schedule': 'constant'}
  | {'train.steps': 100_000, 'train.batch_size': 20},
  # The solvers of the released networks (PAMI 2016, "heavy learning"): the summed loss of one image, drawn with
  # replacement, heavy momentum, a fixed learning rate, and the geometry of the Caffe networks. The learning rate
  # is for FCN-32s; FCN-16s and FCN-8s use 1e-12 and 1e-14.
  'pami16_heavy': {
    'model.geometry': 'caffe',
    'model.norm': 'none',
    'model.dropout': 0.5,
    'data.with_replacement': True,
    'loss.reduction': 'sum',
  }
  | {'optim.name': 'sgd', 'optim.lr': 1e-10, 'optim.momentum': 0.99, 'optim.weight_decay': 5e-4, 'optim.bias_lr': 2.0}
  | {'optim.schedule': 'constant', 'optim.warmup': 0, 'optim.clip': 0.0, 'train.steps': 100_000, 'train.batch_size': 1}
  | {'eval.every': 4000, 'checkpoint.every': 4000},
  'scratch_small': _SCRATCH_SMALL,
  # The same, short enough for 27 runs in half an hour on two cores.
  'scratch_short': _SCRATCH_SMALL | {'train.steps': 500, 'eval.every': 250, 'checkpoint.every': 250},
  # Fewer steps still, for many short runs: add it to a recipe for a CPU.
  'steps_300': {'optim.warmup': 20, 'train.steps': 300, 'eval.every': 150, 'checkpoint.every': 150},
  # Other networks at a width that needs about the FLOPs of the narrow VGG-16: add them to the recipe of `scenes`, as in
  # --config=experiments/fcn8s.py:scenes,recipe=scratch_small+small_resnet18.
  'small_resnet18': {'model.backbone': 'resnet18', 'model.norm': 'group', 'model.width': 0.375},
  'small_resnet50': {'model.backbone': 'resnet50', 'model.norm': 'group', 'model.width': 0.25},
  'small_alexnet': {
    'model.backbone': 'alexnet',
    'model.width': 0.375,
    'model.fc_channels': 1280,
    'model.group_size': 4,
  },
  # The scores of the narrow U-Net come from 6 channels, whose weights start at 0, and AdamW moves a weight by about the
  # learning rate in each step (`results/networks.md`).
  'small_unet': {'model.name': 'unet', 'model.width': 0.09375, 'model.group_size': 6, 'optim.lr': 3e-2},
  # From ImageNet weights (`init.weights`): a whole ResNet-18, short enough for a CPU.
  'finetune': {
    'model.backbone': 'resnet18',
    'model.norm': 'frozen_batch',
    'data.flip': 0.5,
    'data.scale': (0.7, 1.4),
    'optim.name': 'adamw',
    'optim.lr': 3e-4,
    'optim.weight_decay': 1e-4,
    'optim.schedule': 'cosine',
    'optim.clip': 1.0,
  }
  | _SHORT,
  # From scratch at full width, for a GPU.
  'scratch_full': _FROM_SCRATCH
  | {
    'model.dtype': 'bfloat16',
    'data.scale': (1.0, 1.67),
    'data.brightness': 0.2,
    'data.contrast': 0.2,
    'data.color': 0.2,
    'optim.lr': 5e-4,
    'optim.warmup': 200,
    'train.steps': 5000,
    'train.batch_size': 16,
    'eval.every': 1000,
    'eval.batch_size': 16,
    'checkpoint.every': 1000,
  },
}

# Recipes whose backbone does not train from random parameters without GroupNorm.
NEED_PRETRAINED = ('cvpr15', 'pami16_heavy', 'finetune')

# The recipe of a data set whose module does not name another one in `RECIPE`.
BY_DATASET = {'scenes': 'scratch_small', 'stanford_background': 'scratch_full', 'folder': 'scratch_small'}
OTHERWISE = 'cvpr15'


def apply_recipe(config: ml_collections.ConfigDict, name: str) -> ml_collections.ConfigDict:
  """Sets the settings of a recipe and adds its name to `config.recipe`, as in 'scratch_small+pami16_heavy'.

  Returns:
    `config` itself.

  Raises:
    UserError: there is no such recipe.
  """
  for part in name.split('+'):
    if part not in RECIPES:
      raise UserError(f'there is no recipe {part!r}{nearest(part, RECIPES)}')
    config.update_from_flattened_dict(RECIPES[part])
    config.recipe = f'{config.recipe}+{part}' if config.recipe else part
  return config
