"""A run that starts from another run restores the matching parameters and has the same coarse scores."""

import json
import logging
import shutil

import jax
import numpy as np
import pytest
import tiny
import weight_formats

from fcn_jax import config as config_lib
from fcn_jax import files, optim
from fcn_jax.data.dataset import Classes
from fcn_jax.errors import UserError
from fcn_jax.models import names
from fcn_jax.run import checkpoint, directory, saved
from fcn_jax.weights import initialize, match


def test_tensors_with_equal_path_and_shape_are_restored():
  rng = np.random.default_rng(0)

  def tensor(*shape):
    return rng.normal(size=shape).astype(np.float32)

  source = {
    'trunk': {'conv1_1': {'kernel': tensor(3, 3, 8, 8), 'bias': tensor(8)}},
    'score_fr': {'bias': tensor(4)},
    'score_pool3': {'bias': tensor(4)},
  }
  params = {
    'trunk': {'conv1_1': {'kernel': tensor(3, 3, 8, 8), 'bias': tensor(9)}},
    'score_pool4': {'kernel': tensor(1, 1, 8, 4)},
    'score_fr': {'bias': tensor(3)},
  }
  restored, rows = initialize.restore_matching(params, source)
  assert jax.tree.structure(restored) == jax.tree.structure(params)
  assert restored['trunk']['conv1_1']['kernel'] is source['trunk']['conv1_1']['kernel']
  assert restored['trunk']['conv1_1']['bias'] is params['trunk']['conv1_1']['bias']  # another shape
  assert restored['score_pool4']['kernel'] is params['score_pool4']['kernel']
  assert restored['score_fr']['bias'] is params['score_fr']['bias']
  assert sorted((row.outcome, row.name, row.shape, row.note, row.reason) for row in rows) == [
    ('new', 'score_fr/bias', (3,), '[4] there', 'other number of classes'),
    ('new', 'score_pool4/kernel', (1, 1, 8, 4), '', 'missing there'),
    ('new', 'trunk/conv1_1/bias', (9,), '[8] there', 'other shape'),
    ('restored', 'trunk/conv1_1/kernel', (3, 3, 8, 8), '', ''),
    ('unused', 'score_fr/bias', (4,), '', ''),
    ('unused', 'score_pool3/bias', (4,), '', ''),
    ('unused', 'trunk/conv1_1/bias', (8,), '', ''),
  ]
  assert match.summary_line(rows, 'runs/a') == (
    'restored 0 of 3 layers from runs/a; new: conv1_1 (other shape), score_pool4 (missing there), score_fr (other '
    'number of classes); unused: score_pool3'
  )


def test_scores_are_comparable_unless_a_setting_or_a_tensor_differs(tmp_path, monkeypatch):
  source = {'score_fr': {'bias': np.zeros(3)}, 'upsample_to_1': {'kernel': np.zeros((4, 4, 3))}}
  params = {'score_fr': {'bias': np.ones(3)}, 'score_pool4': {'bias': np.ones(3)}}
  monkeypatch.setattr(checkpoint, 'load_params', lambda workdir: (7, source))
  theirs = config_lib.default('scenes')
  theirs.model.stride = 32
  monkeypatch.setattr(saved, 'read_config', lambda workdir: theirs)
  mine = theirs.copy_and_resolve_references()
  mine.model.stride, mine.init.run = 16, str(tmp_path)
  restored = initialize.from_run(params, mine, {})
  assert (restored.step, restored.config, restored.source, restored.differences) == (7, theirs, source, ())
  assert restored.params['score_fr']['bias'] is source['score_fr']['bias']

  mine.model.shrink, theirs.model.stride = 2, 8
  mine.model.mean = (1.0, 2.0, 3.0)
  source['score_pool3'] = {'bias': np.zeros(3)}
  assert initialize.from_run(params, mine, {}).differences == (
    'model.shrink',
    'model.mean',
    'model.stride',
    'score_pool3/bias',
  )


@pytest.mark.parametrize(
  ('theirs', 'mine', 'warning'),
  [
    ('sky tree', 'sky tree', ''),
    ('sky tree', 'tree sky', 'has the same classes in another order (class 0 is sky, here tree)'),
    ('sky tree', 'sky road', 'has other classes (class 1 is tree, here road)'),
    ('class_0 class_1', 'sky road', ''),  # the data had no names: only the number is compared
    ('sky tree', 'class_0 class_1', ''),
    ('', 'sky road', 'the classes of this run are not compared'),  # no data.json
    ('sky tree road', 'sky tree', ''),  # the shapes differ
  ],
)
def test_the_score_layers_of_other_classes_are_not_restored(tmp_path, monkeypatch, caplog, theirs, mine, warning):
  def params(value, classes):
    names = ('score_fr', 'score_pool4', 'upsample_to_1', 'trunk')
    return {name: {'bias': np.full(1 if name == 'trunk' else len(classes.split()), value)} for name in names}

  source, config = params(5.0, theirs or mine), config_lib.default('scenes')
  monkeypatch.setattr(checkpoint, 'load_params', lambda workdir: (7, source))
  monkeypatch.setattr(saved, 'read_config', lambda workdir: config)
  if theirs:
    palette = [[0, 0, 0]] * len(theirs.split())
    heads = {'semantic': {'names': theirs.split(), 'palette': palette, 'ignore': 255}}
    (tmp_path / 'data.json').write_text(json.dumps({'inputs': {'rgb': 3}, 'heads': heads}))
  config.init.run = str(tmp_path)
  classes = Classes(tuple(mine.split()), ((0, 0, 0),) * len(mine.split()))
  with caplog.at_level(logging.WARNING, 'fcn_jax'):
    restored = initialize.from_run(params(0.0, mine), config, {'labels': classes})
  assert warning in caplog.text and bool(warning) == bool(caplog.text)
  is_new = 'class ' in warning or len(theirs.split()) > 2
  values = {name: layer['bias'][0] for name, layer in restored.params.items()}
  assert values == dict.fromkeys(('score_fr', 'score_pool4', 'upsample_to_1'), 0 if is_new else 5) | {'trunk': 5}
  assert ('score_fr/bias' in restored.differences) == is_new
  reasons = {row.reason for row in restored.rows}
  assert reasons == {''} | (
    {'other classes' if 'class ' in warning else 'other number of classes'} if is_new else set()
  )
  moments = optim.restore({'mu': params(0.0, mine)}, {'mu': source}, match.restored(restored.rows))[0]['mu']
  assert {name: layer['bias'][0] for name, layer in moments.items()} == values


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return tiny.prepare(tmp_path_factory.mktemp('small') / 'data')


@pytest.fixture(scope='module')
def fcn32s(data, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('source') / 'fcn32s'
  done = tiny.run(tiny.command(data, workdir))
  assert done.returncode == 0, done.stderr
  return workdir


@pytest.mark.slow
def test_fcn16s_starts_where_fcn32s_ended(data, fcn32s, tmp_path):
  settings = {'init__run': fcn32s, 'model__stride': 16, 'model__upsample': 'bilinear_learned'}
  done = tiny.run(tiny.command(data, tmp_path / 'run', **settings))
  assert done.returncode == 0, done.stderr
  assert f'layers from step 12 of {fcn32s}; new: score_pool4' in done.stdout
  tensors = json.loads((tmp_path / 'run' / 'restored.json').read_text())['tensors']
  assert {row['name']: row['outcome'] for row in tensors}.items() >= {
    ('score_fr/kernel', 'restored'),
    ('score_pool4/kernel', 'new'),
  }
  (line,) = (line for line in done.stdout.splitlines() if 'largest relative difference' in line)
  assert line.startswith(f'scores at stride 32 as in {fcn32s}: ') and float(line.split()[-1]) < 1e-5
  first = json.loads((tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()[0])
  assert first['step'] == 0 and 0 < first['init/mean_iou'] < first['init/pixel_accuracy'] < 1
  ended = json.loads((fcn32s / 'eval' / 'validation.json').read_text())
  assert f'step 0: mean IoU {100 * first["init/mean_iou"]:.2f} %, {100 * ended["mean_iou"]:.2f} % at the' in done.stdout


@pytest.mark.slow
def test_a_run_stops_if_its_coarse_scores_differ(data, fcn32s, tmp_path, monkeypatch):
  """Two tensors of equal shape are swapped."""
  from fcn_jax import train

  def swapped(workdir):
    _, params = checkpoint.load_params(workdir)
    first, second = params['trunk']['conv5_2'], params['trunk']['conv5_3']
    first['kernel'], second['kernel'] = second['kernel'], first['kernel']
    return params

  restore_matching = initialize.restore_matching
  monkeypatch.setattr(
    initialize, 'restore_matching', lambda params, _, new: restore_matching(params, swapped(fcn32s), new)
  )
  config = config_lib.default('scenes')
  config.update_from_flattened_dict(tiny.SETTINGS | {'data.train_size': (32, 32), 'data.dir': data})
  config.model.stride, config.init.run = 16, str(fcn32s)
  with pytest.raises(UserError, match='the scores at stride 32 differ from those of'):
    train.run(config, str(tmp_path / 'run'))


@pytest.mark.slow
def test_scores_of_another_preprocessing_are_not_compared(data, fcn32s, tmp_path):
  done = tiny.run(tiny.command(data, tmp_path / 'run', init__run=fcn32s, model__shrink=2))
  assert done.returncode == 0, done.stderr
  assert f'not comparable with those of {fcn32s}, because of model.shrink' in done.stdout


def test_a_run_starts_only_from_a_run_that_is_done(data, fcn32s, tmp_path):
  unfinished = tmp_path / 'unfinished'
  shutil.copytree(fcn32s, unfinished)
  status = unfinished / 'status.json'
  status.write_text(status.read_text().replace('"done"', '"preempted"'))
  for source, message in ((unfinished, 'is preempted; expected a run that is done'), ('/none', 'holds no run')):
    done = tiny.run(tiny.command(data, tmp_path / 'run', init__run=source))
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert str(source) in done.stderr and message in done.stderr
    assert not (tmp_path / 'run').exists()


def test_the_preprocessing_of_the_source_run_is_used(tmp_path):
  """The backbone was trained with it; the config of the new run has the default of its data set."""
  source, config = tmp_path / 'fcn32s', config_lib.default('voc2011')
  trained = config.copy_and_resolve_references()
  trained.model.mean = (123.68, 116.779, 103.939)
  directory.write_config(directory.RunDirectory(source), trained)
  config.init.run = str(source)
  with pytest.raises(UserError, match='is not started; expected a run that is done'):
    initialize.resolve(config)
  files.write_json(source / 'status.json', {'state': 'done'})
  resolved = initialize.resolve(config)
  assert resolved.model.mean == trained.model.mean and resolved.model.std == (1.0, 1.0, 1.0)

  workdir = tmp_path / 'fcn16s'
  directory.write_config(directory.RunDirectory(workdir), resolved)
  assert directory.resolve_config(workdir, config) == resolved
  directory.check(workdir, config)
  config.model.mean = (1.0, 2.0, 3.0)
  with pytest.raises(UserError, match=r'model\.mean is'):
    directory.check(workdir, config)
  assert initialize.resolve(config).model.mean == (1.0, 2.0, 3.0)  # the user wins


@pytest.mark.parametrize(
  ('argument', 'settings', 'words'),
  [
    ('voc2012', {}, ['the recipe cvpr15', 'init.weights=vgg16', 'init.run', 'most frequent class']),
    ('voc2011_sbd', {'model.norm': 'group'}, ['voc2011_sbd', 'init.weights=vgg16']),
    ('sbd,recipe=scratch_full', {}, ['sbd needs', 'init.weights=vgg16']),
    ('scenes,recipe=pami16_heavy', {}, ['the recipe pami16_heavy', 'scratch_full']),
    ('scenes', {}, None),
    ('stanford_background', {'model.norm': 'none'}, None),
    ('stanford_background,recipe=cvpr15', {'model.norm': 'group'}, None),
  ],
)
def test_a_random_backbone_is_a_warning_if_the_recipe_needs_a_pretrained_one(caplog, argument, settings, words):
  config = config_lib.default(argument)
  config.update_from_flattened_dict(settings)
  initialize.resolve(config)
  assert [record.levelname for record in caplog.records] == (['WARNING'] if words else [])
  assert all(word in caplog.text for word in words or [])


def test_the_constants_of_the_start_are_used_and_kept(tmp_path, caplog):
  """From the first start to a resume after the file is gone."""
  from safetensors.numpy import save_file

  caplog.set_level(logging.INFO, logger='fcn_jax')
  config = weight_formats.config_for(8)
  file = tmp_path / 'vgg.safetensors'
  save_file(weight_formats.torchvision(weight_formats.network(config)[1]), file)
  config.init.weights = str(file)
  caplog.clear()
  first = initialize.resolve(config)
  assert first.model.std == names.PREPROCESSING['torchvision'].std
  assert [record.levelname for record in caplog.records] == ['INFO'] and 'does not say' in caplog.text
  config.init.preprocessing = 'caffe'
  resolved = initialize.resolve(config)
  assert (resolved.model.mean, resolved.model.std) == tuple(names.PREPROCESSING['caffe'])
  config.model.std = (2.0, 2.0, 2.0)
  resolved = initialize.resolve(config)
  assert (resolved.model.mean, resolved.model.std) == (names.PREPROCESSING['caffe'].mean, (2.0, 2.0, 2.0))

  workdir = tmp_path / 'run'
  directory.write_config(directory.RunDirectory(workdir), resolved)
  file.unlink()
  assert directory.resolve_config(workdir, config) == resolved
  directory.check(workdir, config)
  config.init.preprocessing = 'none'
  with pytest.raises(UserError, match=r'init\.preprocessing is caffe there, none here'):
    directory.check(workdir, config)


def test_a_run_from_random_parameters_resumes_only_with_its_constants(tmp_path):
  config = config_lib.default('scenes')
  config.model.mean = (1.0, 2.0, 3.0)
  directory.write_config(directory.RunDirectory(tmp_path), initialize.resolve(config))
  directory.check(tmp_path, config)
  with pytest.raises(UserError, match=r'model\.mean is \[1\.0, 2\.0, 3\.0\] there, \[122'):
    directory.check(tmp_path, config_lib.default('scenes'))
