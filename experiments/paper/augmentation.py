"""Mirroring and jitter of 32 pixels, both and none (CVPR'15, section 4.3, 'Augmentation'); three seeds.

  python -m fcn_jax.sweep --config=experiments/paper/augmentation.py --workdir=runs/augmentation

The paper sees no noticeable gain. Nothing else is augmented here. 32 is the coarsest stride: on `scenes` it moves a
quarter of the height out of view at most, on a photograph of VOC a tenth.
"""

from fcn_jax.config.recipes import for_ablation
from fcn_jax.sweep.space import axis, product


def get_config(dataset='scenes'):
  config = for_ablation(dataset)
  config.data.update(scale=(1.0, 1.0), brightness=0.0, contrast=0.0, color=0.0)
  return config


def sweep():
  return product(axis('data.flip', [0.0, 0.5]), axis('data.jitter', [0, 32]), axis('seed', [0, 1, 2]))
