"""FCN-16s: one skip connection, pool4.

  python -m fcn_jax.main --config=experiments/fcn16s.py

On `scenes`, expect about 87.3 % pixel accuracy and 74.0 % mean IoU (`results/scenes.md`).
"""

from fcn_jax.config import default


def get_config(dataset='scenes'):
  config = default(dataset)
  config.model.stride = 16
  return config
