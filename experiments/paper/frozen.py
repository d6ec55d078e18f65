"""What keeping the trunk as it is costs: FCN-8s from a trained FCN-32s, all of it trained or only scores; three seeds.

  python -m fcn_jax.sweep --config=experiments/paper/frozen.py --workdir=runs/frozen

The paper freezes a trunk that ImageNet has trained (CVPR'15, table 2, FCN-32s-fixed; here `fcn32s_frozen.py`), not a
random one. Without such weights, `scenes` has one task only: the trunk comes from an FCN-32s, and what the frozen
network learns on it is the skips' scores, which start at zero. So this asks whether features for a coarse answer
serve a fine one as they are, and its loss is less than the paper's. Both see the same pictures.
"""

from fcn_jax.config.recipes import for_ablation
from fcn_jax.sweep.space import name


def get_config(dataset='scenes'):
  return for_ablation(dataset)


def sweep():
  points = []
  for seed in (0, 1, 2):
    whole = {'model.stride': 32, 'seed': seed}
    points.append(whole)
    for freeze in (False, True):
      points.append({'model.stride': 8, 'optim.freeze_trunk': freeze, 'init.run': name(whole), 'seed': seed})
  return points
