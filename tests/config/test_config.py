"""Settings: all have a default, a comment and a check, and wrong ones are said in a sentence before jax is imported."""

import ast
import importlib.util
import inspect
import io
import math
import re
import subprocess
import sys
import tokenize

import ml_collections
import pytest
import tiny

from fcn_jax import config as config_lib
from fcn_jax.errors import UserError

EXPERIMENTS = sorted((tiny.ROOT / 'experiments').rglob('*.py'))


# What the contradictions below rest on; defaults may move.
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


FIELDS = {name: config_lib.flatten(config_lib.default(name)) for name in config_lib.DATASETS}


def changed(**fields):
  """The base with fields changed, on the first data set that has them all; __ stands for the dot."""
  fields = {name.replace('__', '.'): value for name, value in fields.items()}
  config = config_lib.default(next(name for name, known in FIELDS.items() if fields.keys() <= known.keys()))
  config.update_from_flattened_dict(BASE | fields)
  return config


def complaint(config) -> str:
  """The sentence of `validate`, which there must be."""
  with pytest.raises(UserError) as caught:
    config_lib.validate(config)
  message = str(caught.value)
  assert '\n' not in message
  return message


@pytest.mark.parametrize('dataset', config_lib.DATASETS)
def test_the_defaults_of_every_data_set_are_valid(dataset):
  config = config_lib.default(dataset)
  config_lib.validate(config)
  assert config.data.name == dataset


def test_an_unknown_data_set_is_named_with_the_nearest():
  with pytest.raises(UserError, match=r"'scenen'.*did you mean scenes\?.*expected one of scenes"):
    config_lib.default('scenen')


def commented_lines(source) -> set:
  tokens = tokenize.generate_tokens(io.StringIO(source).readline)
  return {token.start[0] for token in tokens if token.type == tokenize.COMMENT and len(token.string) > 4}


def test_every_field_of_all_data_sets_has_a_comment():
  source = inspect.getsource(config_lib.default)
  fields, lines = set(), commented_lines(source)
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
      name = ast.unparse(node.targets[0]).removeprefix('config.')
      if ast.unparse(node.value) != 'ml_collections.ConfigDict()':  # a section
        fields.add(name)
        assert lines & {*range(node.lineno, node.end_lineno + 1)}, f'{name} has no comment'
  assert fields == set.intersection(*map(set, FIELDS.values()))


def test_every_field_of_one_data_set_has_a_comment():
  source = inspect.getsource(config_lib)
  lines, common = commented_lines(source), set.intersection(*map(set, FIELDS.values()))
  special = set.union(*map(set, FIELDS.values())) - common
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'DATASETS':
      for settings in node.value.values:
        for key in settings.keys:
          assert key.value in common or key.lineno in lines, f'{key.value} has no comment'
          special.discard(key.value)
  assert not special


@pytest.mark.parametrize('field', config_lib.CHOICES)
def test_a_choice_that_there_is_not_is_named_with_those_that_there_are(field):
  choices = config_lib.CHOICES[field]
  wrong = 77 if isinstance(choices[0], int) else f'{choices[-1]}x'
  message = complaint(changed(**{field.replace('.', '__'): wrong}))
  assert message.startswith(f'{field} is {wrong!r}')
  assert all(str(choice) in message for choice in choices)
  if isinstance(wrong, str):
    assert f'did you mean {choices[-1]}?' in message


@pytest.mark.parametrize('stride', config_lib.CHOICES['model.stride'])
@pytest.mark.parametrize('field', ['model.upsample', 'model.norm', 'model.dtype', 'optim.name', 'optim.schedule'])
def test_every_choice_is_accepted(stride, field):
  for choice in config_lib.CHOICES[field]:
    config_lib.validate(changed(model__stride=stride, **{field.replace('.', '__'): choice}))


@pytest.mark.parametrize('field', config_lib.RANGES)
def test_a_number_beyond_either_end_of_its_range_is_refused(field):
  low, high = config_lib.RANGES[field]
  kind = type(next(known[field] for known in FIELDS.values() if field in known))
  step = 1 if kind is int else 0.001
  wrong = [low - step] + ([high + step] if high < math.inf else []) + ([math.nan] if kind is float else [])
  for value in wrong:
    assert complaint(changed(**{field.replace('.', '__'): kind(value)})).startswith(f'{field} is ')


@pytest.mark.parametrize(
  ('fields', 'words'),
  [
    # A skip must not be finer than the stride.
    ({'model__stride': 32, 'model__skips': 'pool4'}, ['pool4', 'stride 16', 'model.stride 32', 'model.stride=16']),
    ({'model__stride': 16, 'model__skips': 'pool4+pool2'}, ['pool2', 'model.stride 16', 'model.stride=4']),
    ({'model__skips': 'pol4'}, ['model.skips', "'pol4'", 'did you mean pool4?', 'pool1', 'none']),
    ({'model__skips': 'pool5'}, ['model.skips', "'pool5'"]),
    ({'model__skips': ''}, ['model.skips', "''", 'none']),
    ({'model__skips': 'pool4,pool3'}, ['model.skips', "'pool4,pool3'"]),
    # Channels are whole numbers, and whole groups.
    ({'model__width': 0.1}, ['model.width 0.1', 'conv1_1', 'not whole']),
    ({'model__fc_channels': 1001}, ['model.fc_channels', 'not whole']),
    ({'model__width': 0.0625}, ['model.group_size 8', 'model.width 0.0625', '4 channels']),
    ({'model__fc_channels': 96, 'model__group_size': 8}, ['model.group_size 8', '12 channels', 'model.fc_channels']),
    ({'train__batch_size': 8, 'train__accumulation': 3}, ['train.accumulation is 3', 'train.batch_size 8']),
    ({'optim__warmup': 600, 'train__steps': 600}, ['optim.warmup is 600', 'train.steps', '600']),
    ({'data__train_size': (64,)}, ['data.train_size', '2 numbers']),
    ({'data__train_size': (64, 64, 64)}, ['data.train_size', '2 numbers']),
    ({'data__train_size': (0, 64)}, ['data.train_size', 'above 0']),
    ({'data__train_size': (64.5, 64)}, ['data.train_size', 'whole']),
    ({'data__scale': (1.0,)}, ['data.scale', '2 numbers']),
    ({'data__scale': (0.0, 1.0)}, ['data.scale', 'above 0']),
    ({'data__scale': (1.5, 1.0)}, ['data.scale', 'smaller']),
    ({'data__scale': (math.nan, 1.0)}, ['data.scale']),
    ({'data__mean': (1.0,)}, ['data.mean', '3 numbers']),
    ({'data__mean': (math.nan, 1.0, 1.0)}, ['data.mean']),
    ({'data__std': (1.0, 1.0)}, ['data.std', '3 numbers']),
    ({'data__std': (1.0, 0.0, 1.0)}, ['data.std', 'above 0']),
    ({'data__threads': 0}, ['data.threads is 0', '1 or more']),
    ({'loss__sampling': 0.0}, ['loss.sampling is 0', '0.01 to 1']),  # nothing would count
    ({'seed': -1}, ['seed is -1']),
  ],
  ids=str,
)
def test_a_contradiction_is_one_sentence_that_names_the_field(fields, words):
  message = complaint(changed(**fields))
  assert all(word in message for word in words), message


@pytest.mark.parametrize(
  'fields',
  [
    {'model__stride': 32, 'model__skips': 'none'},
    {'model__stride': 16, 'model__skips': 'none'},
    {'model__stride': 2, 'model__skips': 'pool4+pool1'},
    {'model__width': 1.0, 'model__norm': 'none'},
    {'model__width': 0.0625, 'model__group_size': 4},
    {'train__batch_size': 8, 'train__accumulation': 4},
    {'optim__warmup': 0, 'train__steps': 1},
    {'data__scale': (1.0, 1.0)},
  ],
  ids=str,
)
def test_what_does_not_contradict_is_accepted(fields):
  config_lib.validate(changed(**fields))


def test_a_field_that_there_is_not_is_named_with_the_nearest():
  """As an experiment file with a typo has it: the config is locked only after it."""
  config = config_lib.default()
  with config.unlocked():
    config.model.strid = 16
  message = complaint(config)
  assert 'model.strid' in message and 'did you mean model.stride?' in message


def test_a_field_that_is_missing_is_named():
  config = config_lib.default()
  with config.unlocked():
    del config.optim.lr
  assert 'optim.lr' in complaint(config)


def test_flatten_names_every_field_once():
  config = ml_collections.ConfigDict({'a': 1, 'b': {'c': (1, 2), 'd': {'e': None}}})
  assert config_lib.flatten(config) == {'a': 1, 'b.c': (1, 2), 'b.d.e': None}


def test_config_needs_no_jax():
  code = 'import sys, fcn_jax.config; print(sorted({m.split(".")[0] for m in sys.modules} & {"jax", "grain", "orbax"}))'
  done = subprocess.run([sys.executable, '-c', code], cwd=tiny.ROOT, capture_output=True, text=True, check=True)
  assert done.stdout == '[]\n'


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


BY_DATA = [path for path in EXPERIMENTS if path.stem != 'stanford_small']  # whose argument is a stride


@pytest.mark.parametrize('path', BY_DATA, ids=lambda path: f'{path.parent.name}/{path.stem}')
@pytest.mark.parametrize('dataset', config_lib.DATASETS)
def test_experiments_are_valid_on_every_data_set(path, dataset):
  config = load(path).get_config(dataset)
  config_lib.validate(config)
  assert config.data.name == dataset


@pytest.mark.parametrize('stride', [32, 16, 8])
def test_the_small_preset_takes_a_stride(stride):
  config = load(tiny.ROOT / 'experiments' / 'stanford_small.py').get_config(str(stride))
  config_lib.validate(config)
  assert config.model.stride == stride and config.data.name == 'stanford_background'


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_experiments_say_their_command_and_the_number_to_expect(path):
  module = load(path)
  text = module.__doc__
  place = path.relative_to(tiny.ROOT)
  assert re.search(rf'python -m fcn_jax\.\w+ --config={place}\b', text)
  if not hasattr(module, 'sweep'):  # what to expect of a sweep is a table, and that stands in results/
    assert re.search(r'\d %|\d\.\d', text), 'the docstring names no number to expect'


def test_the_three_nets_are_what_their_names_say():
  for folder in ('experiments', 'experiments/paper'):
    for name, stride in {'fcn32s': 32, 'fcn16s': 16, 'fcn8s': 8}.items():
      assert load(tiny.ROOT / folder / f'{name}.py').get_config().model.stride == stride
  for name in ('fcn32s', 'fcn16s', 'fcn8s'):
    config = load(tiny.ROOT / 'experiments' / f'{name}.py').get_config()
    assert config.model.skips == 'all' and config.data.name == 'scenes'


def test_the_papers_recipes_are_what_they_say():
  """CVPR'15, section 4.3, and the authors' solvers."""
  made = {path.stem: load(path).get_config() for path in EXPERIMENTS if path.parent.name == 'paper'}
  made = {name: config for name, config in made.items() if config.data.name != 'scenes'}  # sweeps in the small
  assert {n: (c.optim.lr, c.optim.momentum, c.train.batch_size, c.loss.reduction) for n, c in made.items()} == {
    'fcn32s': (1e-10, 0.99, 1, 'sum'),
    'fcn16s': (1e-12, 0.99, 1, 'sum'),
    'fcn8s': (1e-14, 0.99, 1, 'sum'),
    'fcn8s_atonce': (1e-10, 0.99, 1, 'sum'),
    'fcn32s_frozen': (1e-10, 0.99, 1, 'sum'),
    'cvpr15': (1e-4, 0.9, 20, 'mean'),
    'stages': (1e-10, 0.99, 1, 'sum'),
  }
  for name, config in made.items():
    assert (config.data.name, config.model.geometry, config.optim.schedule) == ('voc2011_sbd', 'caffe', 'constant')
    assert (config.optim.weight_decay, config.optim.bias_lr, config.optim.clip) == (5e-4, 2.0, 0.0)
    assert config.model.at_once == (name == 'fcn8s_atonce')
    assert config.optim.freeze_trunk == (name == 'fcn32s_frozen')
    assert config.data.replacement == (name != 'cvpr15')
    assert config.init.weights == ('' if name in ('fcn16s', 'fcn8s') else 'vgg16')
  points = load(tiny.ROOT / 'experiments' / 'paper' / 'stages.py').sweep()
  assert [(p['model.stride'], p['optim.lr']) for p in points] == [(32, 1e-10), (16, 1e-12), (8, 1e-14)]
