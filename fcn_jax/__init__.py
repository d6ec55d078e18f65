"""Fully Convolutional Networks (Long, Shelhamer and Darrell, CVPR 2015 and PAMI 2016) in JAX and Flax.

  run = fcn_jax.load_run('runs/fcn16s-scenes')
  labels = run.predict(image)
  model, params = fcn_jax.build_model('fcn8s', classes=21)

To read the code, start with `train.py` (the loop) and `session.py`. Then read `models/fcn.py` (the network), which uses
`models/vgg.py`, `models/grid.py` and `models/upsample.py`; then `data/pipeline.py` (the batches), `losses.py`,
`metrics.py`, `counting.py` and `evaluation.py`. `config/defaults.py` lists every setting. Importing the package starts
nothing; jax is imported when a name below is used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from fcn_jax.api import Predictor, build_model, load_run

__all__ = ['Predictor', 'build_model', 'load_run']


def __getattr__(name: str):
  if name in __all__:
    return getattr(importlib.import_module('fcn_jax.api'), name)
  try:  # a submodule, such as fcn_jax.losses
    return importlib.import_module(f'fcn_jax.{name}')
  except ModuleNotFoundError as error:
    if error.name != f'fcn_jax.{name}':
      raise
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}') from None


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
