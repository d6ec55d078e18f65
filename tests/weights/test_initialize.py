"""A run that starts from another one takes over all that fits, and its coarse scores are the same."""

import json
import shutil

import jax
import numpy as np
import pytest
import tiny

from fcn_jax import config as config_lib
from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import checkpoint, directory
from fcn_jax.weights import initialize


def test_tensors_are_taken_by_name_and_shape():
  rng = np.random.default_rng(0)

  def tensor(*shape):
    return rng.normal(size=shape).astype(np.float32)

  source = {
    'trunk': {'conv1_1': {'kernel': tensor(3, 3, 8, 8), 'bias': tensor(8)}},
    'score_fr': {'kernel': tensor(1, 1, 8, 4)},
  }
  own = {
    'trunk': {'conv1_1': {'kernel': tensor(3, 3, 8, 8), 'bias': tensor(9)}},
    'score_pool4': {'kernel': tensor(1, 1, 8, 4)},
  }
  said = []
  taken, lost = initialize.take_over(own, source, said.append)
  assert jax.tree.structure(taken) == jax.tree.structure(own)
  assert taken['trunk']['conv1_1']['kernel'] is source['trunk']['conv1_1']['kernel']
  assert taken['trunk']['conv1_1']['bias'] is own['trunk']['conv1_1']['bias']  # another shape
  assert taken['score_pool4']['kernel'] is own['score_pool4']['kernel']
  assert lost == ['score_fr/kernel', 'trunk/conv1_1/bias']
  assert sorted(map(str.strip, said)) == sorted([
    'taken      trunk/conv1_1/kernel [3, 3, 8, 8]',
    'fresh      trunk/conv1_1/bias [9]',
    'fresh      score_pool4/kernel [1, 1, 8, 4]',
    'left over  score_fr/kernel [1, 1, 8, 4]',
    'left over  trunk/conv1_1/bias [8]',
  ])  # fmt: skip


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
  assert f'from step 12 of {fcn32s}:' in done.stdout
  assert 'taken      score_fr/kernel' in done.stdout and 'fresh      score_pool4/kernel' in done.stdout
  (line,) = (line for line in done.stdout.splitlines() if 'largest relative difference' in line)
  assert line.startswith(f'scores at stride 32 as in {fcn32s}: ') and float(line.split()[-1]) < 1e-5
  first = json.loads((tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()[0])
  assert first['step'] == 0 and 0 < first['init/mean_iou'] < first['init/pixel_accuracy'] < 1
  ended = json.loads((fcn32s / 'eval' / 'validation.json').read_text())
  assert f'step 0: mean IoU {100 * first["init/mean_iou"]:.2f} %, {100 * ended["mean_iou"]:.2f} % at the' in done.stdout


@pytest.mark.slow
def test_scores_that_did_not_come_over_stop_the_run(data, fcn32s, tmp_path, monkeypatch):
  """As if two tensors of one shape had been mistaken for each other."""
  from fcn_jax import train

  def mistaken(workdir):
    step, params = checkpoint.load_params(workdir)
    first, second = params['trunk']['conv5_2'], params['trunk']['conv5_3']
    first['kernel'], second['kernel'] = second['kernel'], first['kernel']
    return step, params

  take_over = initialize.take_over
  monkeypatch.setattr(initialize, 'take_over', lambda own, _, say: take_over(own, mistaken(fcn32s)[1], say))
  config = config_lib.default('scenes')
  config.update_from_flattened_dict(tiny.SETTINGS | {'data.train_size': (32, 32), 'data.dir': data})
  config.model.stride, config.init.run = 16, str(fcn32s)
  with pytest.raises(UserError, match='the scores at stride 32 differ from those of'):
    train.run(config, str(tmp_path / 'run'))


@pytest.mark.slow
def test_scores_of_another_preprocessing_are_not_compared(data, fcn32s, tmp_path):
  done = tiny.run(tiny.command(data, tmp_path / 'run', init__run=fcn32s, model__shrink=2))
  assert done.returncode == 0, done.stderr
  assert f'not comparable with those of {fcn32s}, for model.shrink' in done.stdout


def test_a_run_starts_only_from_one_that_is_done(data, fcn32s, tmp_path):
  unfinished = tmp_path / 'unfinished'
  shutil.copytree(fcn32s, unfinished)
  status = unfinished / 'status.json'
  status.write_text(status.read_text().replace('"done"', '"preempted"'))
  for source, sentence in ((unfinished, 'is preempted; a run starts from one that is done'), ('/none', 'holds no run')):
    done = tiny.run(tiny.command(data, tmp_path / 'run', init__run=source))
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert str(source) in done.stderr and sentence in done.stderr
    assert not (tmp_path / 'run').exists()


def test_the_preprocessing_of_the_run_before_is_taken_over(tmp_path):
  """The trunk of a stage has learnt on it, and its own config only has the data set's."""
  source, config = tmp_path / 'fcn32s', config_lib.default('voc2011')
  brought = config.copy_and_resolve_references()
  brought.data.mean = (123.68, 116.779, 103.939)
  directory.write_config(source, brought)
  config.init.run = str(source)
  with pytest.raises(UserError, match='is not begun; a run starts from one that is done'):
    initialize.settled(config)
  files.write_json(source / 'status.json', {'state': 'done'})
  settled = initialize.settled(config)
  assert settled.data.mean == brought.data.mean and settled.data.std == config.data.std

  workdir = tmp_path / 'fcn16s'
  assert directory.settled(workdir, config) == config  # nothing has begun there
  directory.write_config(workdir, settled)
  assert directory.settled(workdir, config) == settled
  directory.check(workdir, config)
  config.data.mean = (1.0, 2.0, 3.0)
  with pytest.raises(UserError, match=r'another config: data\.mean is'):
    directory.check(workdir, config)
  with pytest.raises(UserError, match=r'data\.mean is .* but .*fcn32s was trained with'):
    initialize.settled(config)
