"""The settings of a run: defaults, checks and recipes."""

from fcn_jax.config.defaults import (  # noqa: F401
  CHOICES,
  DATASETS,
  RANGES,
  closest,
  default,
  flatten,
  nearest,
  validate,
)
