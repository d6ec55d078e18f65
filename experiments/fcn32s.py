"""FCN-32s: no skip.

  python -m fcn_jax.main --config=experiments/fcn32s.py

On `scenes` expect 72.0 % pixel accuracy and 50.2 % mean IoU (`results/scenes.md`).
"""

from fcn_jax.config import default


def get_config(dataset='scenes'):
  config = default(dataset)
  config.model.stride = 32
  return config
