"""FCN-32s: no skip.

  python -m fcn_jax.main --config=experiments/fcn32s.py

MEASURED
"""

from fcn_jax.config import default


def get_config(dataset='scenes'):
  config = default(dataset)
  config.model.stride = 32
  return config
