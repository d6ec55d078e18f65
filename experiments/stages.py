"""Training in stages (FCN-16s from FCN-32s, FCN-8s from that FCN-16s) against training in one stage; three seeds.

  python -m fcn_jax.sweep --config=experiments/stages.py --workdir=runs/stages

A run that starts from another one waits for it. Each stage trains as long as a network trained in one stage, as in the
paper (CVPR'15, section 4.3). So after the last stage, the network has seen three times as many images. Tables give the
minutes of each stage.
"""

from fcn_jax.config import default
from fcn_jax.sweep import axis, chain, name, product


def get_config(dataset='scenes'):
  return default(dataset, {'scenes': 'scratch_short'})


def sweep():
  at_once = product(axis('model.stride', [32, 16, 8]), axis('seed', [0, 1, 2]))
  staged = []
  for seed in (0, 1, 2):
    start = name({'model.stride': 32, 'seed': seed})
    for stride in (16, 8):
      staged.append({'model.stride': stride, 'init.run': start, 'seed': seed})
      start = name(staged[-1])
  return chain(at_once, staged)
