"""The names of data sets and the settings that each adds to a config; free of TFDS and jax.

A data set is a module with a function `load(data) -> Data` (`dataset.py`), where `data` is the section `data` of a
config. The built-in ones are listed here; any other importable module is named by its dotted path.
"""

import importlib
import importlib.util
import types
from typing import Any

from fcn_jax.errors import UserError, nearest

DATASETS = {
  'scenes': 'fcn_jax.data.builders.scenes',
  'stanford_background': 'fcn_jax.data.builders.stanford_background',
  'voc2011': 'fcn_jax.data.builders.voc2011',
  'voc2012': 'fcn_jax.data.builders.voc2012',
  'sbd': 'fcn_jax.data.builders.sbd',
  'voc2011_sbd': 'fcn_jax.data.builders.voc2011_sbd',
}

# The settings of the section `data` that each data set adds or sets. A name with a dot belongs to another section.
SETTINGS: dict[str, dict[str, Any]] = {
  'scenes': {
    'train_size': (128, 160),
    'eval.canvases': 1,  # all images fit 128x160
  },
  'stanford_background': {
    'archive': '',  # path of iccv09Data.tar.gz; '' looks in TFDS's manual directory, then downloads
    'label': 'regions',  # eight semantic classes; or surfaces: three geometric ones
    'fold': 0,  # the fold of five to test on
    'val_fraction': 0.0,  # fraction of the other four folds held back to choose the best checkpoint
    'train_size': (240, 320),
  },
  'voc2011': {
    'archive': '',  # path of VOCtrainval_25-May-2011.tar; '' looks in TFDS's manual directory, then downloads
    'train_size': (512, 512),
  },
  'voc2012': {
    'archive': '',  # path of VOCtrainval_11-May-2012.tar; '' as above
    'train_size': (512, 512),
  },
  'sbd': {
    'sbd_archive': '',  # path of benchmark.tgz; '' as above
    'train_size': (512, 512),
  },
  # What the papers train and score on.
  'voc2011_sbd': {
    'archive': '',  # path of VOCtrainval_25-May-2011.tar; '' as above
    'sbd_archive': '',  # path of benchmark.tgz; '' as above
    'train_size': (512, 512),
  },
}


def settings(name: str) -> dict[str, Any]:
  """The settings that a data set adds or sets, by dotted name: {'data.fold': 0, 'eval.canvases': 1}.

  Those of a module outside the package are its `SETTINGS`, if it has any.

  Raises:
    UserError: there is no such data set or module.
  """
  own = SETTINGS[name] if name in DATASETS else getattr(module(name), 'SETTINGS', {})
  return {field if '.' in field else f'data.{field}': value for field, value in own.items()}


def module(name: str) -> types.ModuleType:
  """The module of a data set: a key of `DATASETS`, or the dotted path of an importable module.

  Raises:
    UserError: there is no such data set, the module does not import, or it has no `load`.
  """
  try:
    if name not in DATASETS and not importlib.util.find_spec(name):
      raise ModuleNotFoundError(f'No module named {name!r}', name=name)
    found = importlib.import_module(DATASETS.get(name, name))
  except (ModuleNotFoundError, ValueError) as error:
    if getattr(error, 'name', None) not in (None, name, *_parents(name)):
      raise UserError(f'the data set module {name} does not import: {error}') from error
    raise UserError(
      f'there is no data set {name!r}{nearest(name, DATASETS)}, or the dotted path of an importable module with '
      'load(data)'
    ) from error
  except Exception as error:  # whatever a module may raise when it is imported
    raise UserError(f'the data set module {name} does not import: {type(error).__name__}: {error}') from error
  if not callable(getattr(found, 'load', None)):
    raise UserError(f'the data set module {name} has no load(data); expected a function that returns fcn_jax.data.Data')
  return found


def _parents(name: str) -> list[str]:
  parts = name.split('.')
  return ['.'.join(parts[:count]) for count in range(1, len(parts))]
