"""However a run ends, it ends in one place: with a state in `status.json`, an exit code and the files closed."""

import contextlib
import json
import os
import shutil
import signal
import time

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fcn_jax import config as config_lib
from fcn_jax import evaluation, session, starting_point, train
from fcn_jax.data import records
from fcn_jax.data.builders import scenes
from fcn_jax.errors import UserError
from fcn_jax.run import checkpoint, hosts, lock, saved, summary


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  made = config_lib.default('scenes')
  data_dir = tiny.prepare(tmp_path_factory.mktemp('small') / 'data')
  made.update_from_flattened_dict(tiny.SETTINGS | {'data.train_size': (32, 32), 'data.dir': data_dir})
  return made


@pytest.fixture
def opened(config, tmp_path, monkeypatch):
  """A context: a session of a run in tmp_path/run that has begun and has taken no step."""
  monkeypatch.setattr(summary, 'startup_lines', lambda *_: [])  # it counts FLOPs, which takes seconds

  @contextlib.contextmanager
  def opened():
    prepared = starting_point.prepare(config, str(tmp_path / 'run'))
    with session.open_run(*prepared) as run:
      run.restore(train.init_state(run.model, run.optimizer, config.seed))
      assert status(tmp_path)['state'] == 'running'
      yield run

  return opened


def status(folder) -> dict:
  return json.loads((folder / 'run' / 'status.json').read_text())


def saved_steps(folder) -> list[str]:
  return sorted(name for name in os.listdir(folder / 'run' / 'checkpoints') if name.isdigit())


def assert_closed(opened):
  """Signals have their usual effect again, and another start can open the run."""
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
  assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
  with contextlib.suppress(ZeroDivisionError), opened() as run:
    assert run.step == 0
    raise ZeroDivisionError


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_ends_the_batches_and_everything_is_saved(opened, tmp_path, caplog, number, code):
  with caplog.at_level('INFO', logger='fcn_jax'), opened() as run:
    batches = run.batches()
    assert next(batches)['labels']['semantic'].shape == (8, 1, 32, 32)
    assert run.stop_reason() == 0 and not run.signal().any()
    os.kill(os.getpid(), number)
    assert run.stop_reason() == number and run.signal().tolist() == [[number]] * 8
    assert next(batches, None) is None
    assert run.evaluate() is None  # at once: a restart makes up for it
  assert run.exit_code == code
  assert (status(tmp_path)['state'], status(tmp_path)['step']) == ('preempted', 0)
  assert saved_steps(tmp_path) == ['0'] and not (tmp_path / 'run' / 'eval').exists()
  assert 'saved at step 0 of 12; run the same command again to resume' in caplog.text
  assert_closed(opened)


def numbers_of(loss: float) -> dict:
  """What a training step returns."""
  numbers = {'loss': loss, 'gradient_norm': 1.0, 'parameter_norm': 2.0, 'signal': 0}
  return {name: jnp.asarray(x) for name, x in numbers.items()}


def logged(folder) -> list[tuple[int, float]]:
  rows = saved.read_rows(folder / 'run' / 'metrics.jsonl')
  return [(row['step'], row['train/loss']) for row in rows]


def test_a_number_that_is_not_finite_ends_the_run_as_diverged(opened, tmp_path, caplog):
  with caplog.at_level('INFO', logger='fcn_jax'), opened() as run:
    for loss in (7, 8, np.nan, 5):
      run.log(numbers_of(loss))
    raise AssertionError('never reached')
  assert run.exit_code == 1
  assert logged(tmp_path) == [(2, 8)], 'the curve that explains it is on disk'
  assert saved.read_rows(tmp_path / 'run' / 'timing.jsonl')
  assert (status(tmp_path)['state'], status(tmp_path)['error']) == ('diverged', 'the loss of step 3 is nan')
  assert 'diverged: the loss of step 3 is nan. Try a lower optim.lr, or optim.clip=1' in caplog.text
  assert saved_steps(tmp_path) == []
  assert_closed(opened)


def test_a_run_is_done_although_files_of_its_evaluations_are_gone(opened, tmp_path, caplog):
  with opened() as run:
    pass  # resumed at its last step, it would not evaluate again either
  assert run.exit_code == 0 and status(tmp_path)['state'] == 'done'
  assert 'eval/validation.npz is missing; run python -m fcn_jax.evaluate' in caplog.text
  assert 'not all of its results can be shown' in caplog.text
  assert_closed(opened)


@pytest.mark.parametrize('error', [UserError('the disk is full'), ValueError('a bug')])
def test_an_error_ends_the_run_as_failed_and_is_raised(opened, tmp_path, error):
  with pytest.raises(type(error), match=str(error)), opened() as run:
    for loss in (7, 8, 9):
      run.log(numbers_of(loss))
    raise error
  assert logged(tmp_path) == [(2, 8)]
  assert (status(tmp_path)['state'], status(tmp_path)['error']) == ('failed', str(error))
  assert saved_steps(tmp_path) == []
  assert_closed(opened)
  assert status(tmp_path)['restarts'] == 1


def test_too_little_memory_ends_the_run_with_the_settings_that_need_less(opened, tmp_path):
  with pytest.raises(UserError, match=r'too small for a step with train\.batch_size=8 images of 32x32 pi'), opened():
    jnp.zeros(2**44, jnp.uint8).block_until_ready()
  assert status(tmp_path)['state'] == 'failed' and 'To need less: lower train' in status(tmp_path)['error']


def test_a_superseded_run_writes_nothing_more(opened, tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(lock, '_POLL', 0.05)
  with caplog.at_level('INFO', logger='fcn_jax'), opened() as run:
    before = status(tmp_path)
    (tmp_path / 'run' / 'attempt.json').write_text(json.dumps({'id': 'of a newer start'}))
    end = time.time() + 20
    while not run.stop_reason():
      assert time.time() < end
      time.sleep(0.02)
    assert list(run.batches()) == []
  assert run.exit_code == 75
  assert status(tmp_path) == before and saved_steps(tmp_path) == []
  assert 'another process took over' in caplog.text
  assert_closed(opened)


def test_a_superseded_run_that_fails_leaves_the_files_to_the_newer_start(opened, tmp_path, caplog):
  with caplog.at_level('INFO', logger='fcn_jax'), opened() as run:
    before = status(tmp_path)
    (tmp_path / 'run' / 'attempt.json').write_text(json.dumps({'id': 'of a newer start'}))
    run.log(numbers_of(np.inf))
    run.write_logs()
  assert run.exit_code == 75
  assert status(tmp_path) == before and not logged(tmp_path)
  assert 'failed at step 1 after another process took over: the loss of step 1 is inf' in caplog.text
  assert_closed(opened)


def test_a_run_whose_directory_is_deleted_ends_with_this_reason(opened, tmp_path):
  with (
    pytest.raises(UserError, match='run is gone: another program has deleted or moved this directory'),
    opened() as run,
  ):
    shutil.rmtree(tmp_path / 'run')
    run.log(numbers_of(1))
    run.save()
  assert not (tmp_path / 'run').exists()


def test_a_lost_host_ends_the_process_at_once(opened, tmp_path, monkeypatch):
  """A normal exit would wait for the lost host."""

  def exit_now(reason):
    assert status(tmp_path)['state'] == 'preempted'
    raise SystemExit(reason)

  monkeypatch.setattr(hosts, 'lost_host', lambda error: str(error))
  monkeypatch.setattr(hosts, 'exit_now', exit_now)
  with pytest.raises(SystemExit, match=r'another host of this run seems to be gone \(connection reset\)'), opened():
    raise RuntimeError('connection reset')
  assert saved_steps(tmp_path) == []


def test_two_starts_cannot_train_in_one_directory(opened):
  with contextlib.suppress(ZeroDivisionError), opened():
    with pytest.raises(UserError, match='another process is training in'), opened():
      pass
    raise ZeroDivisionError


@pytest.mark.parametrize(('every', 'steps'), [(5, [5, 10, 12]), (12, [12]), (0, [12])])
def test_what_is_due_is_due_at_the_end_too(opened, every, steps):
  with contextlib.suppress(ZeroDivisionError), opened() as run:
    due = []
    for run.step in range(1, 13):
      due += [run.step] * run.due(every)
    assert due == steps
    raise ZeroDivisionError


def test_the_best_checkpoint_is_that_of_the_best_evaluation(config, tmp_path, monkeypatch):
  """Only if there is a test split as well: a test split never chooses."""
  parts = {'train': 'train', 'validation': 'validation[:4]', 'test': 'validation[4:]'}
  monkeypatch.setattr(scenes, 'load', lambda data: records.load_builder(scenes.Scenes, parts, data, scenes.CLASSES))
  scores = iter([0.2, 0.6, 0.4])  # at steps 4, 8 and 12
  write = evaluation.write

  def write_other_scores(*arguments):
    written = write(*arguments)
    return written | {'semantic': written['semantic'] | {'mean_iou': next(scores)}}

  monkeypatch.setattr(evaluation, 'write', write_other_scores)
  assert train.run(config, str(tmp_path / 'run'), profile_steps=(3, 4)) == 0
  assert status(tmp_path)['state'] == 'done'
  assert checkpoint.load_params(tmp_path / 'run', 'best')[0] == 8
  assert checkpoint.load_params(tmp_path / 'run')[0] == 12
  assert list((tmp_path / 'run').glob('profile/plugins/profile/*/*.xplane.pb'))


def test_a_run_without_a_test_split_has_no_best_checkpoint(tmp_path):
  (tmp_path / 'best').mkdir()
  with pytest.raises(UserError, match=r'has no best checkpoint; a run keeps one only with train\.patience, or on data'):
    checkpoint.load_params(tmp_path, 'best')
