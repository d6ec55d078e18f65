"""The names of data sets, and the settings that each adds to a config. Imports neither TFDS nor jax.

A data set is a module with a function `load(data) -> Data` (`dataset.py`), where `data` is the section `data` of a
config. The built-in ones are listed here by name; any other importable module is named by its dotted path.
"""

import types
from typing import Any

from fcn_jax import outside
from fcn_jax.errors import UserError, nearest

# The settings of the section `data` that each built-in data set adds or sets. A name with a dot belongs to another
# section. An `archive` is the path of a local copy of the file in the comment; '' looks in TFDS's manual directory and
# then downloads the file.
SETTINGS: dict[str, dict[str, Any]] = {
  'scenes': {'train_size': (128, 160), 'eval.canvases': 1},  # all images fit into 128x160
  'stanford_background': {
    'archive': '',  # iccv09Data.tar.gz
    'label': 'regions',  # eight semantic classes; or surfaces: three geometric ones
    'fold': 0,  # the fold of five to test on
    'val_fraction': 0.0,  # fraction of the other four folds held back to choose the best checkpoint
    'train_size': (240, 320),
  },
  'voc2011': {'archive': '', 'train_size': (512, 512)},  # VOCtrainval_25-May-2011.tar
  'voc2012': {'archive': '', 'train_size': (512, 512)},  # VOCtrainval_11-May-2012.tar
  'sbd': {'sbd_archive': '', 'train_size': (512, 512)},  # benchmark.tgz
  'voc2011_sbd': {'archive': '', 'sbd_archive': '', 'train_size': (512, 512)},  # both: the split of the papers
  # Any folder of images and masks (docs/own_data.md).
  'folder': {
    'folder': '',  # the folder; required
    'classes': 0,  # number of classes, if the folder does not list them; 0 is measured at start
    'range': (),  # low and high of each channel of images that are not of 8 bits; () is measured at start
    'resize': 0,  # longest side of images in pixels, to which larger ones are resized; 0 is no limit
    'val_fraction': 0.2,  # fraction of the images that is held back, if the folder has no splits
    'split_seed': 0,  # of the choice of these images, which `seed` does not change
    'train_fraction': 1.0,  # fraction of the training images that is used; a smaller one is part of a larger one
    'train_size': (240, 320),
  },
}

# The settings that the functions `resolve(data)` of built-in data sets measure when a run first starts, and that are
# written to its config.
MEASURED = {'folder': ('data.classes', 'data.range', 'model.mean', 'model.std')}

DATASETS = {name: f'fcn_jax.data.builders.{name}' for name in SETTINGS} | {'folder': 'fcn_jax.data.folder'}


def settings(name: str) -> dict[str, Any]:
  """The settings that a data set adds or sets, by dotted name: {'data.fold': 0, 'eval.canvases': 1}.

  A module outside the package lists them in `SETTINGS`, if it has any.

  Raises:
    UserError: there is no such data set or module.
  """
  own = SETTINGS[name] if name in DATASETS else getattr(module(name), 'SETTINGS', {})
  return {field if '.' in field else f'data.{field}': value for field, value in own.items()}


def measured(data: Any) -> dict[str, Any]:
  """The settings that the data set of the section `data` of a config measures on its data; {} if it measures none."""
  return module(data.name).resolve(data) if data.name in MEASURED else {}


def module(name: str) -> types.ModuleType:
  """The module of a data set: a key of `DATASETS`, or the dotted path of an importable module.

  Raises:
    UserError: there is no such data set, the module does not import, or it has no `load`.
  """
  missing = f'there is no data set {name!r}{nearest(name, DATASETS)}, or the dotted path of an importable module with '
  missing += 'load(data)'
  if '/' in name:
    missing += '; for a folder of images and masks, give :folder and --config.data.folder=DIR'
  found = outside.module(DATASETS.get(name, name), missing)
  if not callable(getattr(found, 'load', None)):
    raise UserError(f'the data set module {name} has no load(data); expected a function that returns fcn_jax.data.Data')
  return found
