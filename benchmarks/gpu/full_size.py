"""A sweep for one GPU: FCN-32s, 16s and 8s at full width on Stanford Background, from scratch.

  python -m fcn_jax.sweep --config=benchmarks/gpu/full_size.py --slots=3 --config.data.archive=iccv09Data.tar.gz

All three runs fit on one card at the same time; each may use 30 % of its memory.
"""

from fcn_jax.config import default
from fcn_jax.sweep import axis


def get_config(dataset='stanford_background'):
  config = default(dataset)
  config.data.threads = 6
  config.train.steps = 4000
  config.eval.every = 1000
  config.checkpoint.every = 4000
  return config


def sweep():
  return axis('model.stride', [8, 16, 32])
