"""The settings of a run: defaults, checks and recipes."""

from fcn_jax.config.defaults import (
  CHOICES,
  DATASETS,
  RANGES,
  closest,
  default,
  flatten,
  nearest,
  validate,
)

__all__ = ['CHOICES', 'DATASETS', 'RANGES', 'closest', 'default', 'flatten', 'nearest', 'validate']
