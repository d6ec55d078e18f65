"""What `evaluate` writes and replaces: one set of files per checkpoint, results first, nothing of anyone else."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import tiny
import untrained
from absl.testing import flagsaver
from command_line import flags_of
from ordinary_user import without_root

from fcn_jax import bounds, evaluate, evaluation, files, metrics
from fcn_jax.data import bands, dataset
from fcn_jax.errors import UserError
from fcn_jax.models import cost
from fcn_jax.run import directory, environment, saved


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A run with a last and a best checkpoint, and no scores."""
  folder = tmp_path_factory.mktemp('files')
  tiny.prepare(folder / 'data')
  run = untrained.write(folder / 'run', data__dir=str(folder / 'data'), model__stride=32)
  untrained.save(folder / 'run', 4, run.params, 'best')
  made = directory.RunDirectory(folder / 'run')
  environment.add_environment(made, ['cpu'], dataset.load(saved.read_config(made.path).data).fingerprint)
  return folder / 'run'


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
  """A copy of the run, whose scores take no time."""
  monkeypatch.setattr(evaluate, '_score', score)
  monkeypatch.setattr(bounds, 'upper_bounds', lambda *_: {32: dict.fromkeys(metrics.METRICS, 0.5)})
  monkeypatch.setattr(cost, 'flops', lambda *_: 1e9)
  shutil.copytree(finished, tmp_path / 'run')
  return tmp_path / 'run'


def score(model, params, split, config, predictions):
  """Scores as if all pixels of each image were predicted correctly."""
  examples = []
  for index in range(len(split)):
    label = split[index]['labels']['semantic']
    image = {'index': index, 'inputs': split[index]['inputs']}
    examples.append(image | {'labels': {'semantic': label}, 'predictions': {'semantic': label % 8}})
    predictions.save(examples[-1])
  matrices = np.tile(np.eye(8, dtype=np.int64), (len(split), 1, 1))
  return evaluation.Scored({'semantic': matrices}, {'semantic': matrices[: len(bands.WIDTHS)]}, examples[:1])


def evaluated(run, **flags):
  with flags_of(evaluate), flagsaver.flagsaver(workdir=str(run), **flags):
    evaluate.main([])


def names(folder) -> set[str]:
  return {path.name for path in folder.iterdir()}


def test_each_checkpoint_has_its_files(run):
  evaluated(run)
  eval_folder = run / 'eval'
  last = {'validation.json', 'validation.npz', 'validation', 'network.json'}
  assert names(eval_folder) == last
  before = {path: path.read_bytes() for path in eval_folder.rglob('*') if path.is_file()}
  evaluated(run, checkpoint='best')
  best = {'validation.best.json', 'validation.best.npz', 'validation.best', 'network.best.json'}
  assert names(eval_folder) == last | best
  assert {path: path.read_bytes() for path in before} == before
  steps = [json.loads((eval_folder / f'validation{x}.json').read_text())['step'] for x in ('', '.best')]
  assert steps == [7, 4] and names(eval_folder / 'validation.best') == names(eval_folder / 'validation')


def test_on_a_read_only_disk_the_scores_are_printed_and_out_is_the_way_out(run, capsys, caplog, tmp_path):
  folders = [run, *(path for path in run.rglob('*') if path.is_dir())]
  for folder in folders:
    folder.chmod(0o555)
  before = sorted(run.rglob('*'))
  with without_root():
    evaluated(run)
  assert 'precision' in capsys.readouterr().out
  assert f'not saved: cannot write {run}/eval/' in caplog.text and 'Permission denied' in caplog.text
  assert '--out=FOLDER' in caplog.text
  with without_root():
    evaluated(run, out=str(tmp_path / 'out'))
  assert {'validation.json', 'validation.npz', 'network.json'} <= names(tmp_path / 'out' / 'eval')
  for folder in folders:
    folder.chmod(0o755)
  assert sorted(run.rglob('*')) == before


def test_out_replaces_files_of_an_earlier_call_and_no_others(run, tmp_path, monkeypatch):
  out = tmp_path / 'out'
  evaluated(run, out=str(out))
  (out / 'eval' / 'validation.json').write_text('{}')
  evaluated(run, out=str(out))
  assert json.loads((out / 'eval' / 'validation.json').read_text())['step'] == 7
  (out / 'eval' / 'train.npz').write_text("a user's")
  monkeypatch.setattr(evaluate, '_score', None)  # refused before anything is scored
  with pytest.raises(UserError, match=r'train\.npz would be overwritten'):
    evaluated(run, out=str(out), split='train')
  assert (out / 'eval' / 'train.npz').read_text() == "a user's"


def test_out_may_be_the_run_itself_but_no_other_run(run, tmp_path):
  (tmp_path / 'link').symlink_to(run)
  evaluated(run, out=str(tmp_path / 'link'))
  evaluated(run, out=f'{run}/')
  assert saved.read_scores(files.path(run), 'validation')['step'] == 7
  untrained_config = (run / 'config.json').read_bytes()
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'config.json').write_bytes(untrained_config)
  with pytest.raises(UserError, match='is the directory of another run'):
    evaluated(run, out=str(tmp_path / 'other'))


def test_predictions_replace_those_of_an_earlier_call_and_nothing_else(run, tmp_path, monkeypatch):
  ids = dataset.load(saved.read_config(files.path(run)).data).splits['validation'].ids()
  for _ in range(2):
    evaluated(run, save_predictions=str(tmp_path / 'predictions'))
  assert {f'{name}.png' for name in ids} < names(tmp_path / 'predictions')
  (tmp_path / 'masks').mkdir()
  (tmp_path / 'masks' / f'{ids[3]}.png').write_text('a mask')
  monkeypatch.setattr(evaluate, '_score', None)
  with pytest.raises(UserError, match=r'\.png would be overwritten'):
    evaluated(run, save_predictions=str(tmp_path / 'masks'))
  assert names(tmp_path / 'masks') == {f'{ids[3]}.png'}


def test_a_prediction_that_cannot_be_written_does_not_cost_the_scores(run, tmp_path, capsys):
  ids = dataset.load(saved.read_config(files.path(run)).data).splits['validation'].ids()
  folder = tmp_path / 'predictions'
  evaluated(run, save_predictions=str(folder))
  (folder / f'{ids[3]}.png').unlink()
  (folder / f'{ids[3]}.png').mkdir()
  shutil.rmtree(run / 'eval')
  with pytest.raises(UserError, match=f'cannot write {folder}/{ids[3]}.png'):
    evaluated(run, save_predictions=str(folder))
  assert 'precision' in capsys.readouterr().out and (run / 'eval' / 'validation.json').exists()


def test_a_damaged_file_about_the_network_is_made_again(run):
  evaluated(run, split='train')
  evaluated(run)
  assert saved.read_network(files.path(run))['upper_bound'].keys() == {'train', 'validation'}
  (run / 'eval' / 'network.json').write_text('{')
  evaluated(run)
  assert saved.read_network(files.path(run))['upper_bound'].keys() == {'validation'}


def test_without_a_run_the_network_of_an_earlier_call_is_not_mixed_in(run, tmp_path):
  for split in ('train', 'validation'):
    evaluated(run, split=split, out=str(tmp_path / 'out'))
  network = json.loads((tmp_path / 'out' / 'eval' / 'network.json').read_text())
  assert network['upper_bound'].keys() == {'validation'}


@pytest.mark.parametrize('part', ['', 'config.json', 'env.json'])
def test_a_run_that_may_not_be_read_is_said_to_be(run, part):
  mode = (run / part).stat().st_mode
  os.chmod(run / part, 0)
  with without_root(), pytest.raises(UserError, match=f'{run}.*: Permission denied'):
    evaluated(run)
  os.chmod(run / part, mode)
  assert not (pathlib.Path(run) / 'eval').exists()
