"""The code blocks of CONTRIBUTING.md do what the text says: a backbone, a data set, a loss and an experiment."""

import functools
import importlib.util
import sys
import types
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cheap import quick_jit, random_params
from etils import epath
from markdown_blocks import python_blocks
from photos import drawing
from PIL import Image

from fcn_jax import config as config_lib
from fcn_jax import losses, models
from fcn_jax.data import dataset
from fcn_jax.models import names
from fcn_jax.models.grid import Grid
from fcn_jax.models.layers import relu
from fcn_jax.sweep import points


def block(start: str) -> str:
  """The code block that contains this text."""
  (found,) = [text for text in python_blocks('CONTRIBUTING.md') if start in text]
  return found


def run(code: str, **namespace) -> types.SimpleNamespace:
  """What a block defines."""
  exec(compile(code, 'CONTRIBUTING.md', 'exec'), namespace)
  return types.SimpleNamespace(**namespace)


def test_a_backbone(monkeypatch):
  table = run(block("BACKBONES['tiny'] ="), BACKBONES={}, Backbone=names.Backbone).BACKBONES
  monkeypatch.setitem(names.BACKBONES, 'tiny', table['tiny'])
  given = {'nn': nn, 'jnp': jnp, 'Grid': Grid, 'relu': relu, 'ClassVar': ClassVar, 'names': names}
  tiny = run(block('class TinyResNet'), **given).TinyResNet
  monkeypatch.setitem(sys.modules, 'fcn_jax.models.tiny', types.SimpleNamespace(TinyResNet=tiny))

  settings = config_lib.base().model
  settings.update(backbone='tiny', stride=2, width=0.25)
  config_lib.check_model(settings, config_lib.base().model)
  model = models.build(settings, {'rgb': 3}, {'semantic': 5})
  params = random_params(model, model.example_inputs())
  assert {'trunk', 'score_fr', 'score_stem'} == params.keys() and 'conv1' in params['trunk']
  apply = quick_jit(lambda *inputs: model.apply({'params': params}, *inputs)['semantic'])
  image = drawing(37, 29)
  canvas = np.pad(image, ((0, 27), (0, 35), (0, 0)))[None]
  padded = apply({'rgb': canvas}, np.array([[37, 29]]))[0, :37, :29]
  np.testing.assert_allclose(padded, apply({'rgb': image[None]})[0], rtol=1e-4, atol=1e-4)


def test_a_data_set(tmp_path, monkeypatch):
  found = run(block('class Split'))
  module = types.ModuleType('my_data')
  vars(module).update(vars(found) | {'__name__': 'my_data'})
  module.__spec__ = importlib.util.spec_from_loader('my_data', loader=None)
  monkeypatch.setitem(sys.modules, 'my_data', module)
  for split, count in (('train', 3), ('validation', 2)):
    (tmp_path / split).mkdir()
    for number in range(count):
      image = drawing(20 + number, 30, number)
      Image.fromarray(image).save(tmp_path / split / f'{number}.jpg')
      Image.fromarray(image[..., 0] % 2).save(tmp_path / split / f'{number}.png')
  config = config_lib.default('my_data')
  assert config.recipe == 'scratch_small' and config.data.train_size == (256, 256) and config.data.dir == ''
  config.data.dir = str(tmp_path)
  config_lib.validate(config)
  data = dataset.load(config.data)
  assert {name: len(split) for name, split in data.splits.items()} == {'train': 3, 'validation': 2}
  train = data.splits['train']
  assert train.ids() == ['0', '1', '2'] and train.sizes().tolist() == [[20, 30], [21, 30], [22, 30]]
  for index in range(3):
    example = train[index]  # checked when it is read
    assert example['labels']['semantic'].max() == 1 and example['inputs']['rgb'].shape == (20 + index, 30, 3)


def test_a_loss():
  poly = run(block('def poly'), jax=jax, jnp=jnp).poly
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
  label = rng.integers(0, 3, (2, 4, 5)).astype(np.uint8)
  label[0, :2] = 255
  weight = np.asarray(losses.pixel_weights(label))
  expected = 0.0
  for place in zip(*np.nonzero(label != 255), strict=True):
    p = np.exp(logits[place]) / np.exp(logits[place]).sum()
    expected += 1 - p[label[place]] - np.log(p[label[place]])
  assert float(poly(logits, label, weight)) == pytest.approx(expected, rel=1e-5)
  gradient = jax.grad(functools.partial(poly, label=label, weight=weight))(logits)
  assert np.isfinite(gradient).all() and not gradient[0, :2].any() and gradient[1].any()


def test_an_experiment(tmp_path):
  path = tmp_path / 'wide.py'
  path.write_text(block('def sweep'))
  found, config = points.load(str(path), '')
  runs = points.runs(str(path), config, epath.Path(tmp_path / 'runs'))
  assert len(found) == len(runs) == 6
  assert {run.config.model.width for run in runs} == {0.125, 0.25}
  assert all(run.config.train.steps == 1000 for run in runs)
  assert 'python -m fcn_jax.sweep --config=experiments/wide.py' in path.read_text()
