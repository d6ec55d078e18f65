"""Whole images or sampled patches (CVPR'15, section 4.3, 'Patch sampling', and figure 5); two seeds.

  python -m fcn_jax.sweep --config=experiments/paper/patch_sampling.py --workdir=runs/patch-sampling

At each step, a random fraction p of the cells counts, in a batch with 1/p times as many images. So each step has as
many patches as with whole images, but they are less similar. As in the figure, compare the losses by step and by
images seen: with p = 1/4, a run sees four times as many images. The batch sizes are for `scenes`.
"""

from fcn_jax.config import default
from fcn_jax.sweep import axis, product, zipped


def get_config(dataset='scenes'):
  return default(dataset, {'scenes': 'scratch_short'})


def sweep():
  patches = zipped(axis('loss.sampling', [1.0, 0.5, 0.25]), axis('train.batch_size', [8, 16, 32]))
  return product(patches, axis('seed', [0, 1]))
