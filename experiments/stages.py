"""In stages or at once: FCN-16s from a trained FCN-32s, and FCN-8s from that, against FCN-16s and FCN-8s alone.

  python -m fcn_jax.sweep --config=experiments/stages.py --workdir=runs/stages

A run that starts from another one waits for it. Each stage trains as long as a network alone, as the paper's do
(CVPR'15, section 4.3), so the last stage has seen three times as many pictures; tables give the minutes.
"""

from fcn_jax.config.recipes import for_ablation
from fcn_jax.sweep.space import axis, chain, name, product


def get_config(dataset='scenes'):
  return for_ablation(dataset)


def sweep():
  at_once = product(axis('model.stride', [32, 16, 8]), axis('seed', [0, 1, 2]))
  staged = []
  for seed in (0, 1, 2):
    start = name({'model.stride': 32, 'seed': seed})
    for stride in (16, 8):
      staged.append({'model.stride': stride, 'init.run': start, 'seed': seed})
      start = name(staged[-1])
  return chain(at_once, staged)
