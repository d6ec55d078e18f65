"""FCN-32s: no skip connection.

  python -m fcn_jax.main --config=experiments/fcn32s.py

On `scenes`, expect about 73.3 % pixel accuracy and 52.3 % mean IoU (`results/scenes.md`).
"""

from fcn_jax.config import default


def get_config(dataset='scenes'):
  config = default(dataset)
  config.model.stride = 32
  return config
