"""`train.epochs` sets `train.steps` when a run first starts, and is compared when it resumes."""

import json

import pytest

from fcn_jax import config as config_lib
from fcn_jax.config import length
from fcn_jax.errors import UserError
from fcn_jax.run import directory, saved


def make(**settings):
  config = config_lib.default('scenes')
  config.update_from_flattened_dict({name.replace('__', '.'): x for name, x in settings.items()})
  return config


@pytest.mark.parametrize('epochs', [0.1, 0.5, 1, 2.5, 20])
@pytest.mark.parametrize('images', [1, 7, 30, 600])
@pytest.mark.parametrize('batch_size', [1, 8])
def test_the_steps_are_the_fewest_that_see_enough_images(epochs, images, batch_size):
  steps = 0
  while steps * batch_size * 10 < round(10 * epochs) * images:  # in whole numbers
    steps += 1
  assert length.steps(make(train__epochs=float(epochs), train__batch_size=batch_size).train, images) == steps


@pytest.mark.parametrize(('settings', 'words'), [
  ({'train__steps': 300}, ['train.steps is 300', 'train.epochs is 20', '--config.train.steps=0']),
  ({'train__steps': 0}, []),  # an experiment file sets them, the command line drops them
  ({}, []),  # those of the recipe
  ({'train__steps': 0, 'train__epochs': 0.0}, ['train.steps is 0; expected 1 or more']),
  ({'train__patience': 3, 'eval__every': 0}, ['train.patience is 3', 'eval.every is 0']),
  ({'init__optimizer': True}, ['init.optimizer is set, but init.run is not']),
])  # fmt: skip
def test_the_steps_or_the_epochs_are_set(settings, words):
  config = make(**{'train__epochs': 20.0} | settings)
  if not words:
    return config_lib.validate(config)
  with pytest.raises(UserError) as caught:
    config_lib.validate(config)
  assert all(word in str(caught.value) for word in words)


def test_a_run_resumes_with_the_steps_of_its_first_start(tmp_path):
  config = make(train__epochs=2.0)
  first = length.resolve(config, 30)
  assert (first.train.steps, first.optim.warmup, config.optim.warmup) == (30, 3, 40)
  assert length.resolve(config, 41).optim.warmup == 40
  directory.write_config(directory.RunDirectory(tmp_path), first)
  assert directory.resolve_config(tmp_path, config).train.steps == 30
  directory.check(tmp_path, config)
  assert saved.read_config(tmp_path).train.steps == 30
  for changed, found in (
    ({'train__epochs': 3.0}, 'train.epochs is 2.0 there, 3.0 here. '),
    ({}, 'train.epochs is 2.0 there, 0.0 here; '),
  ):
    with pytest.raises(UserError, match=rf'another config: .*{found}.*--config.init.run=') as caught:
      directory.check(tmp_path, make(**changed))
    assert ('train.steps' in str(caught.value)) == (not changed)
  assert json.loads((tmp_path / 'config.json').read_text())['train'].items() >= {('epochs', 2.0), ('steps', 30)}
