"""Recipes set existing settings to valid values, on every data set, and a config records them."""

import sys
import types

import pytest

from fcn_jax import config as config_lib
from fcn_jax.config import recipes
from fcn_jax.data import names
from fcn_jax.errors import UserError


@pytest.fixture
def module(monkeypatch):
  """Adds an importable data set module `mine.data` with the given attributes."""

  def add(**attributes):
    monkeypatch.setitem(sys.modules, 'mine', package := types.ModuleType('mine'))
    monkeypatch.setitem(sys.modules, 'mine.data', found := types.ModuleType('mine.data'))
    package.__path__, package.data = [], found
    found.__spec__ = types.SimpleNamespace(name='mine.data')
    vars(found).update({'load': lambda data: None} | attributes)

  return add


@pytest.mark.parametrize('dataset', names.DATASETS)
@pytest.mark.parametrize('recipe', recipes.RECIPES)
def test_a_recipe_is_valid_on_every_data_set(dataset, recipe):
  config = config_lib.default(f'{dataset},recipe={recipe}')
  config_lib.validate(config)
  assert config.recipe == recipe and config.data.name == dataset
  of_data = names.settings(dataset)
  flat, before = config_lib.flatten(config), config_lib.flatten(config_lib.base())
  for field, value in recipes.RECIPES[recipe].items():
    assert field in before, f'{field} is no setting'
    assert flat[field] == of_data.get(field, value)


@pytest.mark.parametrize('recipe', recipes.RECIPES)
def test_a_recipe_changes_nothing_but_its_settings(recipe):
  flat, before = (config_lib.flatten(c) for c in (config_lib.default(f'scenes,recipe={recipe}'), config_lib.base()))
  given = {'recipe', 'data.name', *recipes.RECIPES[recipe], *names.settings('scenes')}
  assert {field for field in flat if flat[field] != before.get(field)} <= given


def test_every_data_set_has_a_default_recipe_which_the_config_records():
  assert recipes.BY_DATASET.keys() <= names.DATASETS.keys()
  for dataset in names.DATASETS:
    assert config_lib.default(dataset).recipe == recipes.BY_DATASET.get(dataset, recipes.OTHERWISE)


def test_an_experiment_can_choose_a_recipe_for_a_data_set_and_the_argument_wins():
  chosen = {'scenes': 'scratch_short'}
  assert config_lib.default('scenes', chosen).recipe == 'scratch_short'
  assert config_lib.default('voc2012', chosen).recipe == 'cvpr15'
  assert config_lib.default('scenes,recipe=scratch_full', chosen).recipe == 'scratch_full'


@pytest.mark.parametrize(
  ('argument', 'words'),
  [
    ('voc2012,recipe=scratch_smal', "there is no recipe 'scratch_smal' (did you mean scratch_small?); expected one of"),
    ('voc2012,recipe=', "'voc2012,recipe='; expected DATASET or DATASET,recipe=NAME"),
    ('voc2012,recip=scratch_small', 'expected DATASET or DATASET,recipe=NAME'),
    ('voc2012,scratch_small', 'expected DATASET or DATASET,recipe=NAME'),
    ('scens', "there is no data set 'scens' (did you mean scenes?)"),
    ('', "there is no data set ''"),
    ('/my/photos', 'give :folder and --config.data.folder=DIR'),
    ('my.module', "there is no data set 'my.module'; expected one of scenes, "),
    ('fcn_jax.nothing', "there is no data set 'fcn_jax.nothing'"),
    ('fcn_jax.losses.nothing', "there is no data set 'fcn_jax.losses.nothing'"),
    ('fcn_jax.errors', 'the data set module fcn_jax.errors has no load(data)'),
  ],
)
def test_a_wrong_argument_of_the_config_file_is_an_error(argument, words):
  with pytest.raises(UserError) as caught:
    config_lib.default(argument)
  assert words in str(caught.value)


def test_apply_recipe_overlays_a_recipe_and_records_both():
  config = config_lib.default('scenes')
  assert config_lib.apply_recipe(config, 'pami16_heavy') is config
  assert config.recipe == 'scratch_small+pami16_heavy'
  config_lib.validate(config)
  flat = config_lib.flatten(config)
  heavy, small = recipes.RECIPES['pami16_heavy'], recipes.RECIPES['scratch_small']
  assert {field: flat[field] for field in small} == small | {field: heavy[field] for field in heavy.keys() & small}
  # The recorded names, given as an argument, make the same config.
  assert config_lib.flatten(config_lib.default(f'scenes,recipe={config.recipe}')) == flat
  assert config_lib.flatten(config_lib.usual(config)) == flat
  with pytest.raises(UserError, match="there is no recipe 'heavy'"):
    config_lib.apply_recipe(config, 'heavy')


def test_the_usual_settings_are_those_before_any_change():
  config = config_lib.default('voc2012')
  usual = config_lib.flatten(config)
  config.optim.lr = 3.0
  assert config_lib.flatten(config_lib.usual(config)) == usual
  assert config_lib.flatten(config_lib.usual(config_lib.base())) == config_lib.flatten(config_lib.base())


def test_a_module_outside_the_package_brings_its_settings_and_its_recipe(module):
  module(SETTINGS={'root': '/data', 'train_size': (64, 64), 'eval.canvases': 2}, RECIPE='scratch_full')
  config = config_lib.default('mine.data')
  config_lib.validate(config)
  assert (config.data.name, config.recipe) == ('mine.data', 'scratch_full')
  assert (config.data.root, config.data.train_size, config.eval.canvases) == ('/data', (64, 64), 2)
  config.data.root = 3.5 if False else '/other'
  config_lib.validate(config)
  module()  # neither settings nor a recipe
  assert config_lib.default('mine.data').recipe == 'cvpr15'


@pytest.mark.parametrize(
  ('attributes', 'words'),
  [
    (
      {'SETTINGS': {'modle.stride': 8}},
      'the data set mine.data sets modle.stride, which does not exist (did you mean model.stride?)',
    ),
    (
      {'SETTINGS': {'model.strid': 8}},
      'the data set mine.data sets model.strid, which does not exist (did you mean model.stride?)',
    ),
    ({'SETTINGS': {'eval.canvases': 'two'}}, "the data set mine.data sets eval.canvases to 'two'"),
    ({'RECIPE': 'scratch'}, "there is no recipe 'scratch'"),
  ],
)
def test_a_wrong_setting_of_a_module_is_an_error_that_names_the_module(module, attributes, words):
  module(**attributes)
  with pytest.raises(UserError) as caught:
    config_lib.default('mine.data')
  assert words in str(caught.value)
