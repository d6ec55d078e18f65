"""What `evaluate` writes and replaces: one set of files per checkpoint, results first, nothing of anyone else."""

import json
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
import tiny
import untrained
from absl.testing import flagsaver
from command_line import flags_of
from ordinary_user import without_root
from PIL import Image

from fcn_jax import bounds, evaluate, evaluation, files, images, metrics, outputs
from fcn_jax.data import bands, dataset
from fcn_jax.data.dataset import Classes
from fcn_jax.errors import UserError
from fcn_jax.evaluate_files import Worst
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


def score(model, params, split, config, savers):
  """Scores as if all pixels of each image were predicted correctly."""
  examples = []
  matrices = np.tile(np.eye(8, dtype=np.int64), (len(split), 1, 1))
  for index in range(len(split)):
    label = split[index]['labels']['semantic']
    image = {'index': index, 'inputs': split[index]['inputs'], 'counts': {'semantic': matrices[index][None]}}
    examples.append(image | {'labels': {'semantic': label}, 'predictions': {'semantic': label % 8}})
    for saver in savers:
      saver.add(examples[-1])
  return evaluation.Scored({'semantic': matrices}, {'semantic': matrices[: len(bands.WIDTHS)]}, examples[:1])


def evaluated(run, **flags):
  with flags_of(evaluate), flagsaver.flagsaver(workdir=str(run), **flags):
    evaluate.main([])


ENDINGS = ('', '.json', '.npz', '.images.csv', '.confusion.png')


def names(folder) -> set[str]:
  return {path.name for path in folder.iterdir()}


def test_each_checkpoint_has_its_files(run):
  evaluated(run)
  eval_folder = run / 'eval'
  last = {*(f'validation{ending}' for ending in ENDINGS), 'network.json'}
  assert names(eval_folder) == last
  before = {path: path.read_bytes() for path in eval_folder.rglob('*') if path.is_file()}
  evaluated(run, checkpoint='best')
  best = {*(f'validation.best{ending}' for ending in ENDINGS), 'network.best.json'}
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
  assert f'not all files are written: cannot write {run}/eval/' in caplog.text and 'Permission denied' in caplog.text
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
  monkeypatch.setattr(evaluate, '_score', None)  # refused before anything is scored
  for name in ('train.npz', 'train.images.csv', 'train.confusion.png'):
    (out / 'eval' / name).write_text("a user's")
    with pytest.raises(UserError, match=f'{name} would be overwritten'):
      evaluated(run, out=str(out), split='train')
    assert (out / 'eval' / name).read_text() == "a user's"
    (out / 'eval' / name).unlink()


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


@pytest.mark.parametrize('checkpoint', ['last', 'best'])
def test_the_worst_images_of_every_head_are_saved_and_replace_earlier_ones(tmp_path, checkpoint):
  heads = {head: Classes(('no', 'yes'), ((0, 0, 0), (9, 9, 9))) for head in ('semantic', 'ground')}
  ids, rng = [f'day/{number}' for number in range(6)], np.random.default_rng(0)
  label = rng.integers(0, 2, (4, 6), np.uint8)
  label[0] = 255
  written = directory.RunDirectory(tmp_path)
  folder = tmp_path / 'eval' / f'validation{".best" if checkpoint == "best" else ""}.worst'
  for most, wrong in ((5, [3, 1, 4, 0, 2]), (2, [1, 5, 0, 2, 9])):  # wrong pixels of each image; the last has no label
    worst = Worst(most, ids, heads)
    for index, count in enumerate(wrong):
      prediction = label.copy()
      prediction[1].flat[:count] = 1 - prediction[1].flat[:count]
      counts = {head: np.array([[[9, count], [0, 9]]]) for head in heads}
      image = {'index': index, 'inputs': {'rgb': np.full((4, 6, 3), 7 * index, np.uint8)}, 'counts': counts}
      worst.add(image | {kind: dict.fromkeys(heads, x) for kind, x in (('labels', label), ('predictions', prediction))})
    worst.add({'index': 5, 'counts': {head: np.zeros((1, 2, 2), int) for head in heads}})
    worst.write(written, 'validation', checkpoint)
    expected = [f'{rank:04d}.day_{index}.png' for rank, index in enumerate(np.argsort(wrong)[::-1][:most], start=1)]
    assert names(folder) - {outputs.LIST} == set(expected)
    other = folder.with_name(folder.name.replace('validation', 'validation.ground'))
    assert names(other) == names(folder)
    with Image.open(folder / expected[0]) as opened:
      pixels = np.asarray(opened)
    assert np.count_nonzero((pixels[:22] == images.WRONG).all(-1)) == min(max(wrong), 6)
    assert (pixels[22:] == images.WRONG).all(-1).sum() >= 50, 'a swatch in the legend'
    errors = pixels[14 + 4 :][:4, -10:-4]
    assert (errors[0] == 0).all(), 'pixels without a label are black'
  (folder / '0001.day_3.png').write_text("a user's")
  with pytest.raises(UserError, match='would be overwritten'):
    outputs.replace(files.path(folder), ['0001.day_3.png'])


def test_what_was_written_and_the_next_commands_are_shown(run, caplog, capsys):
  with caplog.at_level('INFO', 'fcn_jax'):
    evaluated(run, worst=3)
  assert len(names(run / 'eval' / 'validation.worst') - {outputs.LIST}) == 3
  assert f'{run}/eval/validation.json, .npz, .images.csv' in caplog.text
  assert f'the 3 worst images to {run}/eval/validation.worst' in caplog.text
  command = re.escape(f'python -m fcn_jax.predict --workdir={run} ')
  image = re.search(rf'{command}(.*)', capsys.readouterr().out)[1]
  assert pathlib.Path(image).name.endswith('.image.jpg') and pathlib.Path(image).exists()
  (run / 'eval' / 'validation.worst' / outputs.LIST).write_text('[]')  # the images could be the user's
  caplog.clear()
  evaluated(run, worst=3)
  assert f'not all files are written: {run}/eval/validation.worst/' in caplog.text and 'not saved' not in caplog.text


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
