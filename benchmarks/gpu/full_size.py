"""A sweep for one GPU: FCN-32s, 16s and 8s at full width on the five folds of Stanford Background, from scratch.

  python -m fcn_jax.sweep --config=benchmarks/gpu/full_size.py --slots=3 --config.data.archive=iccv09Data.tar.gz
  python -m fcn_jax.sweep --config=benchmarks/gpu/full_size.py --slots=3 --only=stride=8

Three runs fit on one card at the same time. The argument `small` makes the networks tiny, to try this on a CPU.
"""

from benchmarks.gpu.rows import SMALL
from fcn_jax.config import default
from fcn_jax.sweep import axis, product


def get_config(size='full'):
  config = default('stanford_background')
  config.train.steps = 4000
  config.eval.every = 1000
  config.checkpoint.every = 4000
  if size == 'small':
    config.model.update(SMALL)
    config.data.train_size = (64, 64)
    config.optim.warmup = 1
    config.train.update(steps=6, batch_size=8, log_every=2)
    config.eval.update(every=2, batch_size=8, canvases=1)
    config.checkpoint.every = 6
  return config


def sweep():
  return product(axis('model.stride', [8, 16, 32]), axis('data.fold', [0, 1, 2, 3, 4]))
