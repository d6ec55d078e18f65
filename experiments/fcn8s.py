"""FCN-8s: two skip connections, pool4 and pool3.

  python -m fcn_jax.main --config=experiments/fcn8s.py

On `scenes`, expect about 91.0 % pixel accuracy and 80.8 % mean IoU (`results/scenes.md`).
"""

from fcn_jax.config import default


def get_config(dataset='scenes'):
  config = default(dataset)
  config.model.stride = 8
  return config
