"""`model.mean` and `model.std`: the user wins over the start, the start over the recipe or the default."""

import logging
import types

import pytest

from fcn_jax import config as config_lib
from fcn_jax import models
from fcn_jax.config import normalization
from fcn_jax.errors import UserError
from fcn_jax.models import names

CAFFE, TORCHVISION = names.PREPROCESSING['caffe'], names.PREPROCESSING['torchvision']
FILE = names.Preprocessing((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def config_of(dataset: str = 'voc2012', **fields):
  config = config_lib.default(dataset)
  config.update_from_flattened_dict({name.replace('__', '.'): value for name, value in fields.items()})
  config_lib.validate(config)
  return config


@pytest.mark.parametrize(
  ('config', 'start', 'expected', 'sources'),
  [
    (config_of(), None, CAFFE, ('the default', 'the default')),
    (config_of('scenes'), None, (CAFFE.mean, (64.0,) * 3), ('the default', 'the recipe or the data set')),
    (config_of(init__weights='a.npz'), FILE, FILE, ('a.npz', 'a.npz')),
    (config_of('voc2012,recipe=scratch_full', init__run='runs/a'), FILE, FILE, ('runs/a', 'runs/a')),
    # A value of the user wins, even if it equals the default; mean and std are independent.
    (
      config_of(init__weights='a.npz', model__mean=CAFFE.mean, model__std=CAFFE.std),
      FILE,
      CAFFE,
      ('model.mean', 'model.std'),
    ),
    (config_of(init__weights='a.npz', model__std=(9.0,) * 3), FILE, (FILE.mean, (9.0,) * 3), ('a.npz', 'model.std')),
    (config_of(init__run='runs/a', model__mean=(9.0,) * 3), FILE, ((9.0,) * 3, FILE.std), ('model.mean', 'runs/a')),
    # The constants of a run that did not record any are the default.
    (config_of(init__run='runs/a'), names.Preprocessing((), ()), CAFFE, ('runs/a', 'runs/a')),
    # A run keeps its constants, whatever is meant for the file.
    (config_of(init__run='runs/a', init__weights='a.npz', init__preprocessing='none'), FILE, FILE, ('runs/a',) * 2),
    (config_of(init__preprocessing='torchvision'), None, TORCHVISION, ('init.preprocessing=torchvision',) * 2),
  ],
)
def test_the_order(config, start, expected, sources):
  before = config_lib.flatten(config)
  resolved = normalization.resolve(config, start, 'a.npz')
  assert (resolved.model.mean, resolved.model.std) == tuple(expected)
  assert tuple(normalization.sources(config).values()) == sources
  assert config_lib.flatten(config) == before
  assert normalization.resolve(resolved) == resolved  # resolved once, it stays


def test_a_network_without_numbers_has_the_default():
  config = config_of()
  assert config.model.mean == () == config.model.std
  model = models.build(config.model, {'rgb': 3}, {'semantic': 5}, platform='cpu')
  assert (model.mean['rgb'], model.std['rgb']) == tuple(CAFFE)


def test_a_guess_is_logged(caplog):
  caplog.set_level(logging.INFO, logger='fcn_jax')
  guess = types.SimpleNamespace(mean=FILE.mean, std=FILE.std, assumed='torchvision')
  normalization.resolve(config_of(model__mean=(9.0,) * 3, model__std=(9.0,) * 3), guess, 'a.safetensors')
  assert not caplog.records  # nothing of it is used
  normalization.resolve(config_of(), guess, 'a.safetensors')
  assert 'a.safetensors does not say' in caplog.text and 'torchvision' in caplog.text
  assert 'init.preprocessing' in caplog.text


def test_numbers_for_other_channels_are_an_error():
  four = config_of('scenes')
  four.model.mean = (1.0,) * 4
  with pytest.raises(UserError, match=r'model\.mean has 4 numbers and model\.std 3'):
    normalization.resolve(four)
  with pytest.raises(UserError, match=r'a\.npz was trained on images of 4 channels, but model\.std has 3'):
    normalization.resolve(config_of('scenes'), names.Preprocessing((1.0,) * 4, (1.0,) * 4), 'a.npz')


def test_a_setting_for_a_file_without_a_file_is_an_error():
  with pytest.raises(UserError, match=r"init\.preprocessing is 'caffe', but the network starts from init\.run"):
    config_of(init__run='runs/a', init__preprocessing='caffe')
