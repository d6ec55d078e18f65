"""The settings of a run: their defaults, the named recipes, and the checks.

An experiment file starts from `default`; `validate` is called before anything starts.
"""

from fcn_jax.config.checks import CHOICES, check_model, meant_setting, unknown_setting, validate
from fcn_jax.config.defaults import add_settings, base, default, flatten, usual
from fcn_jax.config.recipes import RECIPES, apply_recipe

__all__ = [
  'CHOICES',
  'RECIPES',
  'add_settings',
  'apply_recipe',
  'base',
  'check_model',
  'default',
  'flatten',
  'meant_setting',
  'unknown_setting',
  'usual',
  'validate',
]
