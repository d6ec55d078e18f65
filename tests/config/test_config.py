"""Every setting has a default, a comment and a check, and a wrong one is a one-sentence error."""

import ast
import inspect
import io
import math
import subprocess
import sys
import tokenize

import ml_collections
import pytest
import tiny

from fcn_jax import config as config_lib
from fcn_jax.config import checks, defaults
from fcn_jax.data import names
from fcn_jax.errors import UserError

# The settings that the contradictions below depend on; defaults may change.
BASE = {
  'model.stride': 8,
  'model.width': 0.125,
  'model.fc_channels': 2048,
  'model.norm': 'group',
  'model.group_size': 8,
  'optim.warmup': 40,
  'train.steps': 600,
  'train.batch_size': 8,
}

FIELDS = {name: config_lib.flatten(config_lib.default(name)) for name in names.DATASETS}
COMMON = set.intersection(*map(set, FIELDS.values()))


def changed(**fields):
  """The base with other fields, on the first data set that has them all; __ stands for the dot."""
  fields = {name.replace('__', '.'): value for name, value in fields.items()}
  config = config_lib.default(next(name for name, known in FIELDS.items() if fields.keys() <= known.keys()))
  config.update_from_flattened_dict(BASE | fields)
  return config


def error_of(config) -> str:
  """The message of the error that `validate` must raise."""
  with pytest.raises(UserError) as caught:
    config_lib.validate(config)
  message = str(caught.value)
  assert '\n' not in message
  return message


@pytest.mark.parametrize('dataset', names.DATASETS)
def test_the_defaults_of_every_data_set_are_valid(dataset):
  config = config_lib.default(dataset)
  config_lib.validate(config)
  assert config.data.name == dataset


def test_the_base_has_the_settings_that_all_data_sets_share():
  assert config_lib.flatten(config_lib.base()).keys() == COMMON


def test_an_unknown_data_set_suggests_the_closest():
  with pytest.raises(UserError, match=r"'scenen' \(did you mean scenes\?\); expected one of scenes, .*dotted path"):
    config_lib.default('scenen')


def commented_lines(source) -> set:
  tokens = tokenize.generate_tokens(io.StringIO(source).readline)
  return {token.start[0] for token in tokens if token.type == tokenize.COMMENT and len(token.string) > 4}


def test_every_setting_of_all_data_sets_has_a_comment():
  source = inspect.getsource(defaults)
  fields, lines = set(), commented_lines(source)
  makers = [f for f in ast.parse(source).body if isinstance(f, ast.FunctionDef) and f.name in ('base', *SECTIONS)]
  for node in (node for maker in makers for node in maker.body):
    if (
      isinstance(node, ast.Assign)
      and isinstance(node.targets[0], ast.Attribute)
      and not isinstance(node.value, ast.Call)
    ):
      name = ast.unparse(node.targets[0]).removeprefix('config.')
      fields.add(name)
      assert lines & {*range(node.lineno, node.end_lineno + 1)}, f'{name} has no comment'
  assert fields == COMMON


SECTIONS = ('_model', '_data', '_optim')  # the functions that make the longer sections


def test_every_setting_of_one_data_set_has_a_comment():
  source = inspect.getsource(names)
  lines, special = commented_lines(source), set.union(*map(set, FIELDS.values())) - COMMON
  (table,) = [x for x in ast.parse(source).body if isinstance(x, ast.AnnAssign) and x.target.id == 'SETTINGS']
  keys = [key for settings in table.value.values for key in settings.keys]
  assert special <= {f'data.{key.value}' for key in keys if key.lineno in lines}


@pytest.mark.parametrize('field', checks.CHOICES)
def test_a_wrong_choice_is_an_error_with_all_choices_and_the_closest(field):
  choices = tuple(checks.CHOICES[field])
  wrong = 77 if isinstance(choices[0], int) else f'{choices[-1]}x'
  message = error_of(changed(**{field.replace('.', '__'): wrong}))
  assert message.startswith(f'{field} is {wrong!r}')
  assert all(str(choice) in message for choice in choices)
  if isinstance(wrong, str):
    assert f'did you mean {choices[-1]}?' in message


@pytest.mark.parametrize('stride', [32, 16, 8, 4, 2])
@pytest.mark.parametrize('field', ['model.upsample', 'model.dtype', 'optim.name', 'optim.schedule'])
def test_every_choice_is_valid_at_every_stride(stride, field):
  for choice in checks.CHOICES[field]:
    config_lib.validate(changed(model__stride=stride, **{field.replace('.', '__'): choice}))


@pytest.mark.parametrize('field', checks.RANGES)
def test_a_number_outside_its_range_is_an_error(field):
  low, high = checks.RANGES[field]
  kind = type(next(known[field] for known in FIELDS.values() if field in known))
  step = 1 if kind is int else 0.001
  wrong = [low - step] + ([high + step] if high < math.inf else []) + ([math.nan] if kind is float else [])
  expected = f'{low} or more' if high == math.inf else f'{low} to {high}'
  for value in wrong:
    message = error_of(changed(**{field.replace('.', '__'): kind(value)}))
    assert message.startswith(f'{field} is ') and message.endswith(f'; expected {expected}')


def test_choices_and_ranges_name_existing_settings():
  special = [checks.DATASET_CHOICES, checks.DATASET_RANGES]
  assert {*checks.CHOICES, *checks.RANGES} <= COMMON
  assert all(fields.keys() <= FIELDS[name].keys() for table in special for name, fields in table.items())


@pytest.mark.parametrize(
  ('fields', 'words'),
  [
    ({'data__fold': 5}, ['data.fold is 5', '0, 1, 2, 3, 4']),
    ({'data__label': 'region'}, ['data.label', 'did you mean regions?', 'surfaces']),
    ({'data__val_fraction': 1.0}, ['data.val_fraction is 1.0', '0 to 0.9']),
    ({'model__stride': 7}, ['model.stride is 7', '32, 16, 8, 4, 2']),
    # A skip must not be finer than the stride.
    ({'model__stride': 32, 'model__skips': 'pool4'}, ['pool4', 'stride 16', 'model.stride 32', 'model.stride=16']),
    ({'model__stride': 16, 'model__skips': 'pool4+pool2'}, ['pool2', 'model.stride 16', 'model.stride=4']),
    ({'model__skips': 'pol4'}, ['model.skips', "'pol4'", 'did you mean pool4?', 'pool1', 'none']),
    ({'model__skips': 'pool5'}, ['model.skips', "'pool5'"]),
    ({'model__skips': 'fc7'}, ['model.skips', "'fc7'"]),  # always used
    ({'model__skips': ''}, ['model.skips', "''", 'none']),
    ({'model__skips': 'pool4,pool3'}, ['model.skips', "'pool4,pool3'"]),
    ({'model__stride': 4, 'model__at_once': True}, ['model.at_once', 'model.stride is 4', 'expected 8']),
    # Channels are whole numbers, and whole groups.
    ({'model__width': 0.1}, ['model.width 0.1', '64 channels', 'expected a whole number', '1/64']),
    ({'model__fc_channels': 1001}, ['model.fc_channels', 'whole number']),
    ({'model__width': 0.0625}, ['model.group_size 8', 'model.width 0.0625', 'a divisor of 4']),
    ({'model__fc_channels': 96, 'model__group_size': 8}, ['model.group_size 8', 'divide 12', 'model.fc_channels']),
    ({'model__mean': (1.0,)}, ['model.mean has 1', 'model.std 3']),
    ({'model__mean': (math.nan, 1.0, 1.0)}, ['model.mean', 'finite']),
    ({'model__mean': (1.0,) * 3, 'model__std': (1.0, 1.0)}, ['model.std 2', 'model.mean has 3']),
    ({'model__std': (1.0, 0.0, 1.0)}, ['model.std', 'above 0']),
    ({'train__batch_size': 8, 'train__accumulation': 3}, ['train.accumulation 3', 'train.batch_size 8']),
    ({'optim__warmup': 600, 'train__steps': 600}, ['optim.warmup is 600', 'train.steps', 'below 600']),
    ({'init__weights': 'vgg16'}, ['init.weights', 'model.norm', 'set model.norm=none']),
    ({'data__train_size': (64,)}, ['data.train_size', '2 numbers']),
    ({'data__train_size': (64, 64, 64)}, ['data.train_size', '2 numbers']),
    ({'data__train_size': (0, 64)}, ['data.train_size', 'above 0']),
    ({'data__train_size': (64.5, 64)}, ['data.train_size', 'whole']),
    ({'data__scale': (1.0,)}, ['data.scale', '2 numbers']),
    ({'data__scale': (0.0, 1.0)}, ['data.scale', 'above 0']),
    ({'data__scale': (1.5, 1.0)}, ['data.scale', 'smaller']),
    ({'data__scale': (math.nan, 1.0)}, ['data.scale']),
    ({'data__threads': 0}, ['data.threads is 0', '1 or more']),
    ({'loss__sampling': 0.0}, ['loss.sampling is 0', '0.01 to 1']),  # nothing would count
    ({'seed': -1}, ['seed is -1']),
    ({'recipe': 'scratch'}, ['recipe is', 'did you mean scratch_']),
    ({'recipe': ''}, ['recipe is', 'expected one of cvpr15']),
  ],
  ids=str,
)
def test_a_wrong_setting_or_a_contradiction_is_an_error_that_names_it(fields, words):
  message = error_of(changed(**fields))
  assert all(word in message for word in words), message


@pytest.mark.parametrize(
  'fields',
  [
    {'model__stride': 32, 'model__skips': 'none'},
    {'model__stride': 16, 'model__skips': 'none'},
    {'model__stride': 2, 'model__skips': 'pool4+pool1'},
    {'model__width': 1.0, 'model__norm': 'none'},
    {'model__width': 0.0625, 'model__group_size': 4},
    {'model__mean': (1.0,) * 4, 'model__std': (1.0,) * 4},  # for images of four channels
    {'train__batch_size': 8, 'train__accumulation': 4},
    {'optim__warmup': 0, 'train__steps': 1},
    {'data__scale': (1.0, 1.0)},
    {'init__weights': 'vgg16', 'model__norm': 'none'},
  ],
  ids=str,
)
def test_settings_that_fit_together_are_valid(fields):
  config_lib.validate(changed(**fields))


@pytest.mark.parametrize(
  ('field', 'value', 'words'),
  [
    ('optim.lr', 'fast', "optim.lr is 'fast'; expected float"),
    ('train.steps', 1.5, 'train.steps is 1.5; expected int'),
    ('train.steps', True, 'train.steps is True; expected int'),
    ('model.remat', 1, 'model.remat is 1; expected bool'),
    ('model.mean', 3.0, 'model.mean is 3.0; expected tuple'),
    ('model.norm', None, 'model.norm is None; expected str'),
  ],
)
def test_a_value_of_another_type_is_an_error(field, value, words):
  section, _, leaf = field.rpartition('.')
  config = config_lib.default()
  del config[section][leaf]  # otherwise ml_collections itself refuses the type
  config[section][leaf] = value
  assert error_of(config).startswith(words)


def test_a_whole_number_is_valid_for_a_fraction():
  config_lib.validate(changed(optim__lr=1, model__width=1))


@pytest.mark.parametrize(('old', 'new'), checks.RENAMED.items())
def test_a_renamed_setting_is_an_error_with_the_new_name(old, new):
  assert new in COMMON and old not in COMMON
  section, _, leaf = old.rpartition('.')
  config = config_lib.default()
  config[section][leaf] = 1
  assert error_of(config) == f'the setting {old} is now called {new}'


@pytest.mark.parametrize(
  ('guess', 'meant'),
  {
    'optim.learning_rate': 'optim.lr',
    'lr': 'optim.lr',
    'batch_size': 'train.batch_size',
    'epochs': 'train.epochs',
    'train.epoch': 'train.epochs',
    'train.max_steps': 'train.steps',
    'backbone': 'model.backbone',
    'crop_size': 'data.train_size',
    'image_size': 'data.train_size',
    'dataset': 'data.name',
    'pretrained': 'init.weights',
    'weights': 'init.weights',
    'modle.strid': 'model.stride',
    'model.nam': 'model.name',
    'optim.rl': 'optim.lr',
    'data.dri': 'data.dir',
    'dataset.name': 'data.name',
    'train.gpus': None,
    'out': None,
  }.items(),
)
def test_a_guess_is_answered_with_the_setting(guess, meant):
  expected = f'there is no setting {guess}' + (f' (did you mean {meant}?)' if meant else '')
  assert config_lib.unknown_setting(guess, COMMON) == expected


def test_an_unknown_setting_suggests_the_closest():
  """An experiment file with a typo adds such a setting, because its config is not locked yet."""
  config = config_lib.default()
  config.model.strid = 16
  message = error_of(config)
  assert 'model.strid' in message and 'did you mean model.stride?' in message


def test_a_missing_setting_is_an_error_that_names_it():
  config = config_lib.default()
  del config.optim.lr
  message = error_of(config)
  assert 'optim.lr' in message and 'fcn_jax.config.default()' in message


def test_flatten_names_every_setting_once():
  config = ml_collections.ConfigDict({'a': 1, 'b': {'c': (1, 2), 'd': {'e': None}}})
  assert config_lib.flatten(config) == {'a': 1, 'b.c': (1, 2), 'b.d.e': None}


def test_config_does_not_import_jax():
  code = 'import sys, fcn_jax.config; print(sorted({m.split(".")[0] for m in sys.modules} & {"jax", "grain", "orbax"}))'
  done = subprocess.run([sys.executable, '-c', code], cwd=tiny.ROOT, capture_output=True, text=True, check=True)
  assert done.stdout == '[]\n'
