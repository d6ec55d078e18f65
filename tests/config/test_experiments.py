"""Every experiment file is valid on every data set, as is every point of its sweep, and its docstring has a command."""

import importlib.util
import re

import pytest
import tiny
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax.data import names
from fcn_jax.sweep import points

EXPERIMENTS = sorted((tiny.ROOT / 'experiments').rglob('*.py'))
BY_DATA = [path for path in EXPERIMENTS if path.stem != 'stanford_small']  # whose argument is a stride


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def place(path) -> str:
  return str(path.relative_to(tiny.ROOT / 'experiments'))


SWEEPS = [path for path in EXPERIMENTS if hasattr(load(path), 'sweep')]


@pytest.mark.parametrize('path', BY_DATA, ids=place)
@pytest.mark.parametrize('dataset', names.DATASETS)
def test_experiments_are_valid_on_every_data_set(path, dataset):
  config = load(path).get_config(dataset)
  config_lib.validate(config)
  assert config.data.name == dataset


@pytest.mark.parametrize('path', BY_DATA, ids=place)
def test_experiments_accept_a_recipe(path):
  config = load(path).get_config('voc2012,recipe=scratch_small')
  config_lib.validate(config)
  assert config.recipe.split('+')[0] == 'scratch_small'


@pytest.mark.parametrize('stride', [32, 16, 8])
def test_the_small_experiment_on_stanford_background_takes_a_stride(stride):
  config = load(tiny.ROOT / 'experiments' / 'stanford_small.py').get_config(str(stride))
  config_lib.validate(config)
  assert config.model.stride == stride and config.data.name == 'stanford_background'


@pytest.mark.parametrize('path', SWEEPS, ids=place)
def test_every_point_of_a_sweep_is_valid(path, tmp_path):
  found = points.runs(str(path), load(path).get_config(), epath.Path(tmp_path))
  assert len(found) == len({run.name for run in found}) == len(load(path).sweep())
  for run in found:
    config_lib.validate(run.config)
    flat = config_lib.flatten(run.config)
    assert all(flat[field] == value for field, value in run.point.items() if field != 'init.run')


@pytest.mark.parametrize('path', EXPERIMENTS, ids=place)
def test_docstrings_have_a_command_and_the_score_to_expect(path):
  module = load(path)
  assert re.search(rf'python -m fcn_jax\.\w+ --config=experiments/{place(path)}\b', module.__doc__)
  if path not in SWEEPS:  # the results of sweeps are tables
    assert re.search(r'\d %|\d\.\d', module.__doc__), 'the docstring has no score to expect'


@pytest.mark.parametrize('folder', ['experiments', 'experiments/paper'])
@pytest.mark.parametrize(('name', 'stride'), [('fcn32s', 32), ('fcn16s', 16), ('fcn8s', 8)])
def test_the_three_networks_have_the_strides_of_their_names(folder, name, stride):
  config = load(tiny.ROOT / folder / f'{name}.py').get_config()
  assert config.model.stride == stride and config.model.skips == 'all'
  assert config.data.name == ('scenes' if folder == 'experiments' else 'voc2011_sbd')


def test_the_experiments_of_the_papers_follow_their_descriptions():
  """The authors' solvers, and section 4.3 of CVPR'15. The sweeps on `scenes` are not among them."""
  made = {path.stem: load(path).get_config() for path in EXPERIMENTS if path.parent.name == 'paper'}
  made = {name: config for name, config in made.items() if config.data.name != 'scenes'}
  assert {n: (c.optim.lr, c.optim.momentum, c.train.batch_size, c.loss.reduction) for n, c in made.items()} == {
    'fcn32s': (1e-10, 0.99, 1, 'sum'),
    'fcn16s': (1e-12, 0.99, 1, 'sum'),
    'fcn8s': (1e-14, 0.99, 1, 'sum'),
    'fcn8s_atonce': (1e-10, 0.99, 1, 'sum'),
    'fcn32s_frozen': (1e-10, 0.99, 1, 'sum'),
    'cvpr15': (1e-4, 0.9, 20, 'mean'),
    'stages': (1e-10, 0.99, 1, 'sum'),
    'fcn_alexnet': (1e-4, 0.9, 20, 'mean'),
  }
  for name, config in made.items():
    assert (config.data.name, config.model.geometry, config.optim.schedule) == ('voc2011_sbd', 'caffe', 'constant')
    bias_lr = 1.0 if name == 'fcn_alexnet' else 2.0
    assert (config.optim.weight_decay, config.optim.bias_lr, config.optim.clip) == (5e-4, bias_lr, 0.0)
    assert config.model.at_once == (name == 'fcn8s_atonce')
    assert config.optim.freeze_backbone == (name == 'fcn32s_frozen')
    assert config.data.with_replacement == (name != 'cvpr15')
    assert config.init.weights == ('' if name in ('fcn16s', 'fcn8s', 'fcn_alexnet') else 'vgg16')
  stages = load(tiny.ROOT / 'experiments' / 'paper' / 'stages.py').sweep()
  assert [(p['model.stride'], p['optim.lr']) for p in stages] == [(32, 1e-10), (16, 1e-12), (8, 1e-14)]
