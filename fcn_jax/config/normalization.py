"""Where `model.mean` and `model.std` come from: the first of these that has them.

1. The user: the command line or an experiment file sets them.
2. What the run starts from: the run `init.run`; else the constants that `init.preprocessing` names; else the weights
   file.
3. The training images, on which the module of a data set may measure them (`data/names.py`).
4. The recipe or the data set.
5. The default, which is that of the FCN authors.
"""

import logging
from collections.abc import Mapping

import ml_collections

from fcn_jax.config import checks, defaults
from fcn_jax.data import names as data_names
from fcn_jax.errors import UserError
from fcn_jax.models import names

logger = logging.getLogger(__name__)

FIELDS = ('mean', 'std')


def resolve(
  config: ml_collections.ConfigDict, start=None, name: str = '', measured: Mapping | None = None
) -> ml_collections.ConfigDict:
  """The config with the numbers of `model.mean` and `model.std`.

  Args:
    config: of a run.
    start: what the initial parameters were trained with: anything with `mean` and `std`, which may be empty; None if
      they are random. If it has `assumed`, the name of a library, its numbers are a guess, which is logged.
    name: of the run or file that `start` is from, for messages.
    measured: settings that were measured on the data, by dotted name.

  Raises:
    UserError: `start` is for images with another number of channels than the recipe or the data set.
  """
  if start is None and config.init.preprocessing in names.PREPROCESSING and not config.init.run:
    start, name = names.PREPROCESSING[config.init.preprocessing], config.init.preprocessing
  guess, measured = '', dict(measured or {})
  with config.copy_and_resolve_references().unlocked() as resolved:
    for field in FIELDS:
      found, of_data = tuple(getattr(start, field, ())), tuple(measured.pop(f'model.{field}', ()))
      if found and not _is_set(config, field):
        _check_channels(field, found, of_data or config.model[field], name)
        resolved.model[field] = found
        guess = getattr(start, 'assumed', '')
      elif of_data and not _is_set(config, field):
        resolved.model[field] = of_data
      resolved.model[field] = resolved.model[field] or getattr(names.DEFAULT_PREPROCESSING, field)
    for field, value in measured.items():
      section, _, leaf = field.partition('.')
      resolved[section][leaf] = resolved[section][leaf] or value
  if guess:
    logger.info(
      f'{name} does not say which mean and std it was trained with: those of {guess} are used, unless you set '
      'init.preprocessing, or model.mean and model.std'
    )
  checks.check_model(resolved.model, resolved.model)
  return resolved.lock()


def sources(config: ml_collections.ConfigDict) -> dict[str, str]:
  """What `resolve` takes `mean` and `std` from, by field, for people; `config` is not resolved yet."""
  start = config.init.run or config.init.weights
  if config.init.preprocessing in names.PREPROCESSING and not config.init.run:
    start = f'init.preprocessing={config.init.preprocessing}'
  found = {}
  for field in FIELDS:
    otherwise = 'the recipe or the data set' if config.model[field] else 'the default'
    otherwise = 'measured on training images' if config.data.name in data_names.MEASURED else otherwise
    found[field] = f'model.{field}' if _is_set(config, field) else start or otherwise
  return found


def _is_set(config: ml_collections.ConfigDict, field: str) -> bool:
  """Whether the user has set the field: it is empty unless the user, the recipe or the data set gives a value."""
  value = config.model[field]
  return bool(value) and tuple(value) != tuple(defaults.usual(config).model[field])


def _check_channels(field: str, found: tuple, usual: tuple, name: str) -> None:
  if usual and len(found) != len(usual):
    raise UserError(
      f'{name} was trained on images of {len(found)} channels, but model.{field} has {len(usual)} numbers; start from '
      f'weights for {len(usual)} channels'
    )
