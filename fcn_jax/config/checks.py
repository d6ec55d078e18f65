"""Checks of a config: types, choices, ranges and contradictions. One sentence per error, before anything starts."""

import difflib
import math
from typing import Any

import ml_collections

from fcn_jax import loss_names, outside
from fcn_jax.config import defaults, length, recipes
from fcn_jax.errors import UserError, nearest
from fcn_jax.models import names

CHOICES: dict[str, Any] = {
  'model.name': names.NETWORKS,
  'model.shrink': (1, 2, 4),
  'model.upsample': ('bilinear_fixed', 'bilinear_learned', 'learned_random', 'bilinear_last_fixed'),
  'model.norm': ('none', 'group', 'frozen_batch'),
  'model.geometry': ('aligned', 'caffe'),
  'model.dtype': ('float32', 'bfloat16'),
  'data.augment_on': ('auto', 'host', 'device'),
  'optim.name': ('sgd', 'adamw'),
  'optim.schedule': ('constant', 'polynomial', 'cosine'),
  'loss.reduction': ('mean', 'sum'),
  'init.preprocessing': ('from_file', *names.PREPROCESSING),
}

# Settings by their range: (smallest, largest), both allowed.
_BY_RANGE = {
  (0, 2**31 - 1): 'seed',
  (1 / 64, 4): 'model.width',
  (1, 65536): 'model.fc_channels',
  (1, 512): 'model.group_size',
  (1, 8): 'model.depth',
  (0, 0.99): 'model.dropout',
  (0, 1): 'data.flip data.flip_vertical data.rotate90 data.crop_rare data.brightness data.contrast data.color',
  (0, 180): 'data.rotate',
  (0, 5): 'data.blur',
  (0, 128): 'data.noise',
  (0, 0.9999): 'optim.momentum',
  (0, 10): 'loss.gamma',
  (0.01, 1): 'loss.sampling',
  (1, 16): 'eval.canvases',
  (0, 1_000_000): 'train.epochs',
  (0, math.inf): 'data.cache_gib data.jitter optim.lr optim.lr_backbone optim.weight_decay optim.bias_lr optim.power '
  'optim.clip optim.warmup train.steps train.patience eval.every eval.keep checkpoint.every',
  (1, math.inf): 'data.threads train.batch_size train.accumulation train.log_every eval.batch_size checkpoint.keep',
}
RANGES = {field: limits for limits, fields in _BY_RANGE.items() for field in fields.split()}

# Choices and ranges of the settings that one data set adds.
DATASET_CHOICES = {'stanford_background': {'data.label': ('regions', 'surfaces'), 'data.fold': (0, 1, 2, 3, 4)}}
DATASET_RANGES = {
  'stanford_background': {'data.val_fraction': (0, 0.9)},
  'folder': {
    'data.val_fraction': (0, 0.9),
    'data.train_fraction': (1e-6, 1),
    'data.resize': (0, math.inf),
    'data.classes': (0, 255),
  },
}

# Former names of settings, with their current names.
RENAMED = {
  'data.cache': 'data.cache_gib',
  'data.mean': 'model.mean',
  'data.replacement': 'data.with_replacement',
  'data.std': 'model.std',
  'init.without': 'init.allow_mismatch',
  'optim.freeze_trunk': 'optim.freeze_backbone',
}


# What other programs call settings, by the last part of the name, in lower case.
_SYNONYMS = {
  'learning_rate': 'optim.lr',
  'lr': 'optim.lr',
  'wd': 'optim.weight_decay',
  'batch': 'train.batch_size',
  'batch_size': 'train.batch_size',
  'early_stopping': 'train.patience',
  'max_steps': 'train.steps',
  'num_steps': 'train.steps',
  'max_iters': 'train.steps',
  'encoder': 'model.backbone',
  'arch': 'model.name',
  'image_size': 'data.train_size',
  'img_size': 'data.train_size',
  'imgsz': 'data.train_size',
  'crop_size': 'data.train_size',
  'num_classes': 'data.classes',
  'workers': 'data.threads',
  'num_workers': 'data.threads',
  'optimizer': 'optim.name',
  'pretrained': 'init.weights',
  'dataset': 'data.name',
  'path': 'data.folder',
  'data_path': 'data.folder',
  'root': 'data.dir',
  'data_root': 'data.dir',
  'resume_from': 'init.run',
}


def validate(config: ml_collections.ConfigDict, settings: dict | None = None) -> None:
  """Checks a config.

  Args:
    config: of a run.
    settings: the settings that it must have, by dotted name, with values of the right types; by default those of its
      data set.

  Raises:
    UserError: a setting does not exist, is missing, has the wrong type, is out of range or contradicts another one.
  """
  flat = defaults.flatten(config)
  usual = settings is None  # a saved config may name modules that are not here
  if settings is None:
    settings = defaults.flatten(defaults.default(flat.get('data.name') or ''))
  _check_fields(flat, settings)
  name = flat['data.name']
  _check_values(flat, CHOICES | DATASET_CHOICES.get(name, {}), RANGES | DATASET_RANGES.get(name, {}))
  for recipe in config.recipe.split('+'):
    if recipe not in recipes.RECIPES:
      raise UserError(f'recipe is {config.recipe!r}{nearest(recipe, recipes.RECIPES)}')
  usual_config = defaults.usual(config) if usual else config
  if usual or '.' not in config.model.backbone:
    check_model(config.model, usual_config.model)
  length.check(config, usual_config.train.steps if usual else None)
  _check_data(config.data)
  if usual:
    _check_outside(config)
  _check_training(config)


def unknown_setting(field: str, settings) -> str:
  """The message about a setting that is not among `settings`: its new name if it was renamed, else the closest one."""
  if field in RENAMED:
    return f'the setting {field} is now called {RENAMED[field]}'
  meant = meant_setting(field, settings)
  return f'there is no setting {field}{f" (did you mean {meant}?)" if meant else ""}'


def meant_setting(field: str, settings) -> str:
  """The setting among `settings` that somebody probably means by `field`; '' if there is none."""
  section, _, leaf = field.rpartition('.')
  meant = _SYNONYMS.get(leaf.lower())
  if meant not in settings:  # of equal last parts, that of the closest whole name
    like = sorted(settings, key=lambda name: difflib.SequenceMatcher(None, field, name).ratio())
    by_leaf = {name.rpartition('.')[2]: name for name in like}
    meant = next((by_leaf[close] for close in difflib.get_close_matches(leaf.lower(), by_leaf, n=1, cutoff=0.75)), '')
    in_section = [name for name in settings if section and name.startswith(f'{section}.')]
    meant = meant or next(iter(difflib.get_close_matches(field, in_section, n=1, cutoff=0.75)), '')
  return meant


def _check_values(flat: dict, choices: dict, ranges: dict) -> None:
  for field, allowed in choices.items():
    if field in flat and flat[field] not in allowed:
      raise UserError(f'{field} is {flat[field]!r}{nearest(flat[field], allowed)}')
  for field, (low, high) in ranges.items():
    if field in flat and not low <= flat[field] <= high:
      expected = f'{low} or more' if high == math.inf else f'{low} to {high}'
      raise UserError(f'{field} is {flat[field]}; expected {expected}')


def _check_fields(flat: dict, settings: dict) -> None:
  for field, value in flat.items():
    if field not in settings:
      raise UserError(unknown_setting(field, settings))
    expected = settings[field]
    kinds = (int, float) if isinstance(expected, float) else type(expected)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
      example = '' if expected == () else f', like {expected!r}'
      raise UserError(f'{field} is {value!r}; expected {type(expected).__name__}{example}')
  if missing := settings.keys() - flat.keys():
    raise UserError(f'the config lacks {", ".join(sorted(missing))}; start from fcn_jax.config.default()')


def check_model(model: ml_collections.ConfigDict, usual: ml_collections.ConfigDict) -> None:
  """Checks the section `model` alone; see `validate`.

  Args:
    model: the section.
    usual: the values of the data set and the recipe.
  """
  flat = {f'model.{field}': value for field, value in model.items()}
  _check_values(flat, CHOICES, RANGES)
  network = f'fcn on {model.backbone}' if model.name == 'fcn' else model.name
  for field in names.unused_settings(model):
    if model[field] != usual[field]:
      raise UserError(f'model.{field} is {model[field]!r}, but {network} has no such setting; leave it out')
  if model.norm not in (norms := names.limits(model).norms):
    raise UserError(f'model.norm is {model.norm!r}; expected {" or ".join(norms)} for {network}')
  if model.name == 'fcn':
    _check_taps(model)
  _check_channels(model)
  if model.mean and model.std and len(model.mean) != len(model.std):
    raise UserError(
      f'model.mean has {len(model.mean)} numbers and model.std {len(model.std)}; expected the same number of each'
    )
  for field in ('mean', 'std'):
    if not all(math.isfinite(x) and (field == 'mean' or x > 0) for x in model[field]):
      above = '' if field == 'mean' else ' above 0'
      raise UserError(f'model.{field} is {model[field]}; expected finite numbers{above}')


def _check_taps(model: ml_collections.ConfigDict) -> None:
  taps, skips = names.backbone(model.backbone).taps, names.skip_strides(model.backbone)
  if model.stride not in taps.values():
    raise UserError(f'model.stride is {model.stride!r}{nearest(model.stride, taps.values())}')
  if model.skips not in ('all', 'none'):
    for skip in model.skips.split('+'):
      if skip not in skips:
        raise UserError(f'model.skips has {skip!r}{nearest(skip, ("all", "none", *skips))}')
      if skips[skip] < model.stride:
        raise UserError(
          f'model.skips has {skip}, whose stride {skips[skip]} is finer than model.stride {model.stride}; set '
          f'model.stride={skips[skip]} or leave out {skip}'
        )
  if model.at_once and model.stride < 8:
    raise UserError(f'model.stride is {model.stride}; expected 8 or more: model.at_once is for pool4 and pool3 only')


def _check_channels(model: ml_collections.ConfigDict) -> None:
  limits = names.limits(model)
  unit, groups = limits.channels, limits.groups
  channels = {f'{unit} channels of the narrowest layer': unit * model.width}
  if 'fc_channels' not in names.unused_settings(model):
    channels[f'model.fc_channels {model.fc_channels}'] = model.fc_channels * model.width
  for name, count in channels.items():
    if count % groups:
      expected = f'a multiple of {groups}' if groups > 1 else 'a whole number'
      raise UserError(
        f'model.width {model.width} turns the {name} into {count:g}; expected {expected}: use '
        f'multiples of {groups}/{unit}'
      )
    if model.norm == 'group' and count % model.group_size:
      raise UserError(
        f'model.group_size {model.group_size} does not divide {count:g}, which model.width {model.width} makes of the '
        f'{name}; choose a divisor of {count:g}'
      )


def _check_data(data: ml_collections.ConfigDict) -> None:
  for field in ('train_size', 'scale'):
    if len(data[field]) != 2:
      raise UserError(f'data.{field} is {data[field]}; expected 2 numbers')
    if not all(math.isfinite(x) and x > 0 for x in data[field]):
      raise UserError(f'data.{field} is {data[field]}; expected finite numbers above 0')
  if not all(isinstance(x, int) for x in data.train_size):
    raise UserError(f'data.train_size is {data.train_size}; expected whole numbers of pixels')
  if data.scale[0] > data.scale[1]:
    raise UserError(f'data.scale is {data.scale}; expected the smaller number first')


def _check_outside(config: ml_collections.ConfigDict) -> None:
  """Raises a UserError if a function that a dotted path names does not exist."""
  if config.data.augment != 'none':
    outside.member('data.augment', config.data.augment)
  for term in loss_names.terms(config.loss.name):
    if term not in loss_names.NAMES:
      outside.member('loss.name', term)


def _check_training(config: ml_collections.ConfigDict) -> None:
  terms = loss_names.terms(config.loss.name)
  if config.loss.balance not in loss_names.BALANCES:
    loss_names.numbers(config.loss.balance)
  if config.loss.balance != 'none' and list(terms) == ['dice']:
    raise UserError(
      f'loss.balance is {config.loss.balance!r}, but loss.name is dice, in which all classes of an image weigh the '
      'same; leave loss.balance out, or add cross_entropy to loss.name'
    )
  if config.train.batch_size % config.train.accumulation:
    raise UserError(
      f'train.accumulation {config.train.accumulation} does not divide train.batch_size {config.train.batch_size} into '
      'equal parts'
    )
  known = '.' not in config.model.backbone  # of another backbone, files may have any norm
  if config.init.weights and known and config.model.norm != (norm := names.pretrained_norm(config.model)):
    raise UserError(
      f'init.weights is set, but model.norm is {config.model.norm!r}; weights files of this network have '
      f'{"biases and no norm" if norm == "none" else "batch norm"}: set model.norm={norm}'
    )
  if config.init.run and not config.init.weights and config.init.preprocessing != 'from_file':
    raise UserError(
      f'init.preprocessing is {config.init.preprocessing!r}, but the network starts from init.run and keeps the mean '
      'and std of that run; leave init.preprocessing out, or set model.mean and model.std'
    )
  if config.init.optimizer and not config.init.run:
    raise UserError('init.optimizer is set, but init.run is not; set init.run to the run that has the optimizer state')
  if config.optim.lr_backbone and (config.optim.freeze_backbone or not config.optim.lr):
    other = 'optim.freeze_backbone is set' if config.optim.freeze_backbone else 'optim.lr is 0'
    raise UserError(f'optim.lr_backbone is {config.optim.lr_backbone:g}, but {other}; set one of them')
