"""Mirroring, jitter of 32 pixels, both and none (CVPR'15, section 4.3, 'Augmentation'); three seeds.

  python -m fcn_jax.sweep --config=experiments/paper/augmentation.py --workdir=runs/augmentation

The paper reports no noticeable gain. There is no other augmentation here. The coarsest stride is 32 pixels. A shift by
32 pixels hides a quarter of the height of an image of `scenes`, and a tenth of a VOC photograph.
"""

from fcn_jax.config import default
from fcn_jax.sweep import axis, product


def get_config(dataset='scenes'):
  config = default(dataset, {'scenes': 'scratch_short'})
  config.data.update(scale=(1.0, 1.0), brightness=0.0, contrast=0.0, color=0.0)
  return config


def sweep():
  return product(axis('data.flip', [0.0, 0.5]), axis('data.jitter', [0, 32]), axis('seed', [0, 1, 2]))
