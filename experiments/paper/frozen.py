"""The cost of a frozen backbone: FCN-8s from a trained FCN-32s, trained as a whole or only its scores; three seeds.

  python -m fcn_jax.sweep --config=experiments/paper/frozen.py --workdir=runs/frozen

The paper freezes a backbone that was trained on ImageNet (CVPR'15, table 2, FCN-32s-fixed; here `fcn32s_frozen.py`).
Without ImageNet weights, the backbone here comes from an FCN-32s on `scenes`, and the frozen network learns only the
scores of the skip connections, which start at zero. The experiment asks whether features that were trained for coarse
scores are good enough for fine scores; expect a smaller loss of accuracy than in the paper. Both networks see the same
images.
"""

from fcn_jax.config import default
from fcn_jax.sweep import name


def get_config(dataset='scenes'):
  return default(dataset, {'scenes': 'scratch_short'})


def sweep():
  points = []
  for seed in (0, 1, 2):
    whole = {'model.stride': 32, 'seed': seed}
    points.append(whole)
    for freeze in (False, True):
      points.append({'model.stride': 8, 'optim.freeze_backbone': freeze, 'init.run': name(whole), 'seed': seed})
  return points
