"""Whole pictures or sampled patches (CVPR'15, section 4.3, 'Patch sampling', and figure 5); two seeds.

  python -m fcn_jax.sweep --config=experiments/paper/patch_sampling.py --workdir=runs/patch-sampling

A share p of the cells counts, drawn anew each step, in a batch of 1/p times as many pictures: as many patches a step,
less alike. As in the figure, compare the losses by step, and by pictures seen, of which p = 1/4 takes four times as
many. Batches are for `scenes`.
"""

from fcn_jax.config.recipes import for_ablation
from fcn_jax.sweep.space import axis, product, zipped


def get_config(dataset='scenes'):
  return for_ablation(dataset)


def sweep():
  patches = zipped(axis('loss.sampling', [1.0, 0.5, 0.25]), axis('train.batch_size', [8, 16, 32]))
  return product(patches, axis('seed', [0, 1]))
