"""The recipes of docs/recipes: each file does what its page says, and all of them together train a network."""

import json
import os
import re
import shlex
import subprocess
import sys

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tiny
from cheap import quick_jit, random_params
from etils import epath
from photos import drawing

import fcn_jax
from fcn_jax import config as config_lib
from fcn_jax import losses, models
from fcn_jax.data import dataset, pipeline
from fcn_jax.sweep import points

FOLDER = tiny.ROOT / 'docs' / 'recipes'
SHORT = {
  'train.steps': 4,
  'optim.warmup': 1,
  'train.batch_size': 2,
  'eval.every': 0,
  'eval.batch_size': 2,
  'checkpoint.every': 0,
  'data.train_size': '32,32',
}


@pytest.fixture(autouse=True)
def found_by_python(monkeypatch):
  monkeypatch.syspath_prepend(FOLDER)


def notebook() -> list[str]:
  """The code cells."""
  cells = json.loads((FOLDER / 'notebook.ipynb').read_text())['cells']
  assert not any(cell.get('outputs') for cell in cells)
  return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']


def test_recipes_are_short_and_listed():
  found = {path.name: path.read_text() for path in FOLDER.glob('my_*.py')} | {'notebook.ipynb': '\n'.join(notebook())}
  assert len(found) == 6
  for name, text in found.items():
    assert sum(bool(line.strip()) for line in text.splitlines()) < 40, name
    assert f'[`{name}`]({name})' in (FOLDER / 'README.md').read_text()


def test_the_backbone_gives_a_padded_image_the_scores_that_it_gets_alone():
  settings = config_lib.base().model
  settings.update(backbone='my_backbone.TinyResNet', width=0.125, norm='group', stride=16)
  config_lib.check_model(settings, config_lib.base().model)
  model = models.build(settings, {'rgb': 3}, {'semantic': 5})
  params = random_params(model, model.example_inputs())
  assert {'trunk', 'score_fr', 'score_stage3'} == params.keys() and 'stem.conv' in params['trunk']
  image = drawing(37, 29)
  canvas = np.pad(image, ((0, 27), (0, 35), (0, 0)), constant_values=99)[None]

  @quick_jit
  def both(canvas, size, image):
    return [model.apply({'params': params}, *x)['semantic'][0] for x in (({'rgb': canvas}, size), ({'rgb': image},))]

  padded, alone = both(canvas, np.array([[37, 29]]), image[None])
  np.testing.assert_allclose(padded[:37, :29], alone, atol=1e-4 * np.abs(alone).max())


def test_the_loss_equals_one_computed_by_hand():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
  label = rng.integers(0, 3, (2, 4, 5)).astype(np.uint8)
  label[0, :2] = 255
  expected = 0.0
  for place in zip(*np.nonzero(label != 255), strict=True):
    p = np.exp(logits[place]) / np.exp(logits[place]).sum()
    expected += 1 - p[label[place]] - np.log(p[label[place]])
  name, function = '0.5*my_loss.poly', losses.make('0.5*my_loss.poly', gamma=2.0)
  weights = losses.weights(name, label)
  assert weights.keys() == {'pixels'}
  assert float(function(logits, label, weights)) == pytest.approx(0.5 * expected, rel=1e-5)
  gradient = jax.grad(function)(logits, label, weights)
  assert np.isfinite(gradient).all() and not gradient[0, :2].any() and gradient[1].any()


def test_the_augmentation_hides_pixels_and_their_labels_differently_in_every_epoch():
  config = config_lib.default('my_data')
  config.data.update(count=8, flip=0.0, scale=(1.0, 1.0), augment_on='host', augment='my_augmentation.cutout')
  config_lib.validate(config)
  split = dataset.load(config.data).split('train')
  batches = pipeline.train_batches(split, config.data, batch_size=8, seed=0)
  first, second = next(batches), next(batches)
  image, label = first['inputs']['rgb'], first['labels']['semantic']
  hidden = label == 255
  assert 0 < hidden.mean() <= 1 / 16 and not image[hidden].any()
  assert image[~hidden].mean() > 70 and set(np.unique(label[~hidden])) == {0, 1}
  again = next(pipeline.train_batches(split, config.data, batch_size=8, seed=0, step=1))
  assert np.array_equal(again['labels']['semantic'], second['labels']['semantic'])
  assert not np.array_equal(second['labels']['semantic'] == 255, hidden)


def test_the_data_module():
  config = config_lib.default('my_data')
  assert config.recipe == 'scratch_short' and config.data.train_size == (96, 128)
  config.data.count = 5
  config_lib.validate(config)
  data = dataset.load(config.data)
  assert {name: len(split) for name, split in data.splits.items()} == {'train': 5, 'validation': 50}
  train = data.splits['train']
  for index, size in enumerate(train.sizes()):
    example = train[index]  # checked when it is read
    label = example['labels']['semantic']
    assert label.shape == tuple(size) and example['id'] == train.ids()[index]
    assert example['inputs']['rgb'][label == 1].mean() > example['inputs']['rgb'][label == 0].mean() + 70


def test_the_ablation(tmp_path):
  found, config = points.load(str(FOLDER / 'my_ablation.py'), '')
  runs = points.runs(str(FOLDER / 'my_ablation.py'), config, epath.Path(tmp_path))
  assert len(found) == len(runs) == 12
  assert {(run.config.loss.name, run.config.data.augment) for run in runs} == {
    (loss, augment) for loss in ('cross_entropy', 'my_loss.poly') for augment in ('none', 'my_augmentation.cutout')
  }


def changed(command: list[str], settings: dict) -> list[str]:
  """A command of the page, in this Python, with further settings."""
  return [sys.executable, *command[1:], *(f'--config.{name}={value}' for name, value in settings.items())]


@pytest.mark.slow
def test_the_commands_of_the_page_with_all_recipes_in_one_run(tmp_path):
  """A training takes seconds, so the flags of all commands are given to one run of the ablation."""
  page = (FOLDER / 'README.md').read_text()
  lines = [line for block in re.findall(r'```bash\n(.*?)```', page, re.DOTALL) for line in block.splitlines()]
  exported, *commands = map(shlex.split, lines)
  assert exported == ['export', 'PYTHONPATH=docs/recipes']
  *trainings, sweep, report = commands
  assert [command[2] for command in trainings] == ['fcn_jax.main'] * 4
  flags = [word for command in trainings for word in command if word.startswith('--config.')]
  assert len(flags) == 3 and '--config=experiments/fcn8s.py:my_data' in trainings[3]
  (tmp_path / 'docs').symlink_to(tiny.ROOT / 'docs')
  sweep = [f'{word}:my_data' if word.startswith('--config=') else word for word in sweep]
  only = '--only=name=my_loss.poly,augment=my_augmentation.cutout,seed=0'
  environment = {'PYTHONPATH': os.pathsep.join(('docs/recipes', str(tiny.ROOT)))}
  for command in (changed([*sweep, *flags, only], SHORT | {'data.count': 8}), changed(report, {})):
    done = tiny.run(command, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
  assert 'mean IoU' in (tmp_path / 'runs/my_ablation/report/table.md').read_text()
  loaded = fcn_jax.load_run(tmp_path / 'runs/my_ablation' / only.removeprefix('--only='))
  assert loaded.config.model.backbone == 'my_backbone.TinyResNet' and loaded.classes == ('background', 'disk')


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
  for name in ('experiments', 'docs'):
    (tmp_path / name).symlink_to(tiny.ROOT / name)
  (tmp_path / 'a' / 'b').mkdir(parents=True)
  monkeypatch.chdir(tmp_path / 'a' / 'b')  # as deep as docs/recipes
  monkeypatch.setenv('TFDS_DATA_DIR', tiny.prepare(tmp_path / 'data'))
  monkeypatch.setenv('PYTHONPATH', str(tiny.ROOT))
  namespace = {}
  for number, cell in enumerate(notebook(), 1):
    if cell.startswith('%%bash\n'):
      subprocess.run(changed(shlex.split(cell)[1:], tiny.SETTINGS | {'train.steps': 4}), check=True)
    else:
      exec(compile(cell, f'notebook, cell {number}', 'exec'), namespace)
  assert len(plt.get_fignums()) == 2 and 0 < namespace['scores']['mean_iou'] < 1
  plt.close('all')
