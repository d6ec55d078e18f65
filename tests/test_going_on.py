"""Runs that end early by `train.patience`, with steps from `train.epochs`, and runs that go on from them."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
import tiny

from fcn_jax import config as config_lib
from fcn_jax import evaluation, session, starting_point, train
from fcn_jax.errors import UserError
from fcn_jax.run import checkpoint, summary

SCORES = {2: 0.2, 4: 0.6, 6: 0.4, 8: 0.5, 10: 0.9}  # by step: with a patience of 2, the run ends at step 8
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  """Of 24 training images in batches of 8, so that 10 epochs are 30 steps."""
  made = config_lib.default('scenes')
  data_dir = tiny.prepare(tmp_path_factory.mktemp('small') / 'data')
  settings = tiny.SETTINGS | {'data.train_size': (32, 32), 'data.dir': data_dir}
  settings |= {'train.steps': 0, 'train.epochs': 10.0, 'train.patience': 2, 'eval.every': 2, 'checkpoint.every': 3}
  made.update_from_flattened_dict(settings | {'optim.name': 'adamw', 'optim.warmup': 40, 'eval.keep': 8})
  config_lib.validate(made)
  return made


@pytest.fixture(scope='module', autouse=True)
def patched():
  """Other scores, and no FLOPs, which take seconds to count."""
  write = evaluation.write

  def write_other_scores(directory, name, split, scored, heads, step, *rest):
    written = write(directory, name, split, scored, heads, step, *rest)
    return written | {'semantic': written['semantic'] | {'mean_iou': SCORES[step]}}

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(evaluation, 'write', write_other_scores)
    patch.setattr(summary, 'startup_lines', lambda *_: [])
    yield


@pytest.fixture(scope='module')
def ended(config, tmp_path_factory):
  """The directory of a run that has ended early."""
  workdir = tmp_path_factory.mktemp('ended') / 'run'
  assert train.run(config, str(workdir)) == 0
  return workdir


def status(workdir) -> dict:
  return json.loads((workdir / 'status.json').read_text())


def saved_steps(workdir, folder: str = 'checkpoints') -> list[int]:
  return sorted(int(name) for name in os.listdir(workdir / folder) if name.isdigit())


def assert_ended(workdir):
  assert status(workdir).items() >= {('state', 'done'), ('step', 8), ('steps', 30), ('stopped_early', True)}
  assert saved_steps(workdir) == [6, 8] and saved_steps(workdir, 'best') == [4]
  assert len(list((workdir / 'eval' / 'validation').glob('*.prediction.png'))) == 8 > evaluation.EXAMPLES
  network = json.loads((workdir / 'eval' / 'network.json').read_text())
  assert network['upper_bound']['validation']
  config = json.loads((workdir / 'config.json').read_text())
  assert (config['train']['steps'], config['optim']['warmup']) == (30, 3)


def test_a_run_ends_at_the_last_evaluation_that_its_patience_allows(config, ended, caplog):
  assert_ended(ended)
  rows = [json.loads(line) for line in (ended / 'metrics.jsonl').read_text().splitlines()]
  assert {row['step']: row['eval/mean_iou'] for row in rows if 'eval/mean_iou' in row} == {
    step: score for step, score in SCORES.items() if step <= 8
  }
  before = {path: path.stat().st_mtime_ns for path in ended.rglob('*')}
  with caplog.at_level('INFO', logger='fcn_jax'):
    assert train.run(config, str(ended)) == 0
  assert 'is done already (it stopped early); start another run with --config.init.run=' in caplog.text
  assert {path: path.stat().st_mtime_ns for path in ended.rglob('*')} == before


@pytest.mark.parametrize('checkpoints', [[6], [6, 8]])
def test_a_run_that_was_killed_ends_at_the_same_step(config, ended, tmp_path, checkpoints):
  """Before its last checkpoint, or before it wrote that it is done."""
  again = tmp_path / 'run'
  shutil.copytree(ended, again)
  (again / 'status.json').write_text(json.dumps(status(ended) | {'state': 'running'}))
  for step in set(saved_steps(again)) - set(checkpoints):
    shutil.rmtree(again / 'checkpoints' / str(step))
  assert train.run(config, str(again)) == 0
  assert_ended(again)
  assert (again / 'metrics.jsonl').read_bytes() == (ended / 'metrics.jsonl').read_bytes()
  (_, mine), (_, theirs) = (checkpoint.load_state(x) for x in (again, ended))
  jax.tree.map(np.testing.assert_array_equal, mine, theirs)


def test_a_run_goes_on_with_the_optimizer_state_of_another_one(config, ended, tmp_path, caplog):
  more = config.copy_and_resolve_references()
  more.train.patience, more.init.run, more.init.optimizer = 0, str(ended), True
  prepared = starting_point.prepare(more, str(tmp_path / 'run'))
  with (
    caplog.at_level('INFO', logger='fcn_jax'),
    pytest.raises(ZeroDivisionError),
    session.open_run(*prepared) as run,
  ):
    run.restore(train.init_state(run.model, run.optimizer, config.seed))
    step, source = checkpoint.load_state(ended)
    jax.tree.map(np.testing.assert_array_equal, run.state.params, source['params'])
    moments, schedule = run.state.opt_state[1][0], run.state.opt_state[1][2]
    for name in ('mu', 'nu'):
      jax.tree.map(np.testing.assert_array_equal, getattr(moments, name), source['opt_state'][1][0][name])
    assert (int(moments.count), int(schedule.count), int(run.state.step), step) == (8, 0, 0, 8)
    raise ZeroDivisionError
  tensors = json.loads((tmp_path / 'run' / 'restored.json').read_text())['tensors']
  assert {row['outcome'] for row in tensors} == {'restored'} and len(tensors) == len(jax.tree.leaves(source['params']))
  assert f'layers from step 8 of {ended}' in caplog.text and 'tensors of its optimizer state' in caplog.text
  more.optim.name = 'sgd'
  with (
    pytest.raises(UserError, match=r'trained with optim\.name=adamw, fits this run with optim\.name=sgd'),
    session.open_run(*starting_point.prepare(more, str(tmp_path / 'other'))) as run,
  ):
    run.restore(train.init_state(run.model, run.optimizer, config.seed))
