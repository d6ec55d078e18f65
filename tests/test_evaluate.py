"""`evaluate` scores a run like its training did, on any split, checkpoint and number of devices."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest
import tiny
import untrained
from PIL import Image

from fcn_jax import files, metrics
from fcn_jax.data import bands, dataset
from fcn_jax.data.builders.scenes import CLASSES
from fcn_jax.data.dataset import IGNORE
from fcn_jax.run import saved

HEAD = 'semantic'


def evaluate(*arguments, **options):
  return tiny.run([sys.executable, '-m', 'fcn_jax.evaluate', *map(str, arguments)], **options)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A finished run. It starts from random scores: otherwise so short a training predicts one class everywhere."""
  folder = tmp_path_factory.mktemp('evaluate')
  model = {name.replace('.', '__'): x for name, x in tiny.SETTINGS.items() if name.startswith('model.')}
  untrained.write(folder / 'random', **model | {'model__stride': 32})
  data_dir = tiny.prepare(folder / 'data')
  done = tiny.run(tiny.command(data_dir, folder / 'run', init__run=folder / 'random'))
  assert (done.returncode, done.stderr) == (0, '')
  return folder / 'run'


@pytest.fixture
def run(finished, tmp_path):
  """A copy of the run without its scores."""
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  shutil.rmtree(workdir / 'eval')
  return workdir


def read(workdir, split):
  """The scores, the confusion matrices and the ids that were written for a split."""
  with np.load(workdir / 'eval' / f'{split}.npz') as file:
    assert set(file) == {'confusion', 'id'}
    return json.loads((workdir / 'eval' / f'{split}.json').read_text()), file['confusion'], list(file['id'])


def examples(workdir, split) -> list[dict]:
  """The images of a split: image [H, W, 3], label [H, W] and id."""
  split = dataset.load(saved.read_config(files.path(workdir)).data).splits[split]
  found = [split[i] for i in range(len(split))]
  return [{'image': e['inputs']['rgb'], 'label': e['labels'][HEAD], 'id': e['id']} for e in found]


def slow_confusion(label, prediction):
  matrix = np.zeros((len(CLASSES),) * 2, np.int64)
  np.add.at(matrix, (label[label != IGNORE], prediction[label != IGNORE]), 1)
  return matrix


@pytest.fixture(scope='module')
def scored(finished, tmp_path_factory):
  """A copy of the run that the command has scored, the saved predictions by id, and the output of the command."""
  folder = tmp_path_factory.mktemp('scored')
  shutil.copytree(finished, folder / 'run')
  shutil.rmtree(folder / 'run' / 'eval')
  done = evaluate(f'--workdir={folder}/run', f'--save_predictions={folder}/out/put', '--worst=2')
  assert (done.returncode, done.stderr) == (0, ''), done.stderr
  predictions = {}
  for path in (folder / 'out' / 'put').glob('*.png'):
    with Image.open(path) as image:
      assert image.mode == 'P' and image.getpalette()[:24] == [x for color in CLASSES.palette for x in color]
      predictions[path.name.removesuffix('.png')] = np.asarray(image)
  return folder / 'run', predictions, done.stdout


def test_the_scores_are_those_of_the_end_of_training(scored):
  workdir, *_ = scored
  scores, *_ = read(workdir, 'validation')  # the split that results are reported on
  last = json.loads((workdir / 'metrics.jsonl').read_text().splitlines()[-1])
  assert last['step'] == scores['step'] == tiny.STEPS
  assert {name: scores[name] for name in metrics.METRICS} == {name: last[f'eval/{name}'] for name in metrics.METRICS}
  assert scores['iou'] == {name: last[f'eval/iou/{name}'] for name in CLASSES.names}


def test_the_saved_predictions_give_the_same_scores(scored):
  workdir, predictions, _ = scored
  scores, matrices, ids = read(workdir, 'validation')
  truth = examples(workdir, 'validation')
  assert ids == [e['id'] for e in truth] and predictions.keys() == set(ids)
  near = np.zeros((len(bands.WIDTHS), len(CLASSES), len(CLASSES)), np.int64)
  for e, matrix in zip(truth, matrices, strict=True):
    assert np.array_equal(slow_confusion(e['label'], predictions[e['id']]), matrix)
    for band, counts in enumerate(near):
      far = bands.narrowest(e['label']) > band
      counts += slow_confusion(np.where(far, IGNORE, e['label']), predictions[e['id']])
  assert np.count_nonzero(matrices.sum((0, 1))) > 2, 'a network that predicts one class everywhere tests little'

  assert scores | metrics.summarize(matrices.sum(0), CLASSES.names) == scores
  assert all(0 < scores[name] < 1 for name in metrics.METRICS)
  widths = zip(bands.WIDTHS, near, strict=True)
  assert scores['boundary_iou'] == {str(w): metrics.summarize(x, CLASSES.names)['mean_iou'] for w, x in widths}
  assert scores['images'] == len(truth) == 8
  assert scores['pixels'] == sum(np.count_nonzero(e['label'] != IGNORE) for e in truth)
  assert set(scores) == {*metrics.METRICS, *metrics.OF_CLASS, 'share', 'images', 'pixels', 'boundary_iou', 'step'}


def test_examples_and_the_upper_bound_are_written(scored):
  workdir, predictions, _ = scored
  assert json.loads((workdir / 'eval' / 'network.json').read_text())['upper_bound'].keys() == {'validation'}
  truth = examples(workdir, 'validation')
  for e in (truth[0], truth[-1]):
    for kind, expected in (('prediction', predictions[e['id']]), ('label', e['label'])):
      with Image.open(workdir / 'eval' / 'validation' / f'{e["id"]}.{kind}.png') as image:
        assert np.array_equal(np.asarray(image), expected)
    with Image.open(workdir / 'eval' / 'validation' / f'{e["id"]}.image.jpg') as image:
      assert np.abs(np.asarray(image).astype(int) - e['image']).mean() < 8


def test_the_images_are_listed_from_worst_to_best(scored):
  workdir, *_ = scored
  _, matrices, ids = read(workdir, 'validation')
  with open(workdir / 'eval' / 'validation.images.csv') as file:
    rows = list(csv.DictReader(file))
  slow = {i: metrics.summarize(matrix, CLASSES.names)['mean_iou'] for i, matrix in zip(ids, matrices, strict=True)}
  assert [row['id'] for row in rows] == sorted(ids, key=slow.get)
  np.testing.assert_allclose([float(row['mean_iou']) for row in rows], sorted(slow.values()), atol=1e-6)
  saved_images = sorted((workdir / 'eval' / 'validation.worst').glob('*.png'))
  assert [path.name for path in saved_images] == [f'{rank:04d}.{rows[rank - 1]["id"]}.png' for rank in (1, 2)]


def test_a_finished_run_keeps_its_predictions_and_images(finished, scored):
  workdir, predictions, _ = scored
  (images,) = (finished / 'images').iterdir()
  assert {path.name for path in (finished / 'eval' / 'validation').glob('*.prediction.png')} == {
    f'{name}.prediction.png' for name in predictions
  }
  for e in examples(workdir, 'validation'):
    for folder, kind, expected in (
      (finished / 'eval', 'prediction', predictions[e['id']]),
      (images, 'label', e['label']),
    ):
      with Image.open(folder / 'validation' / f'{e["id"]}.{kind}.png') as image:
        assert np.array_equal(np.asarray(image), expected)
    assert (images / 'validation' / f'{e["id"]}.image.jpg').exists()


def test_the_scores_are_printed(scored):
  workdir, _, output = scored
  scores, *_ = read(workdir, 'validation')
  assert 'on validation of scenes/1.0.0' in output and f'8 images, {scores["pixels"]:,} pixels' in output
  for name in metrics.METRICS:
    assert f'{100 * scores[name]:.2f} %' in output
  assert f'{100 * scores["f1"]["sky"]:.2f} %' in output and 'mean IoU within 16 px of a boundary' in output
  assert '8/8' not in output, 'the progress bar is for terminals only'


def test_another_split_and_checkpoint_on_more_devices_than_the_run_had(run):
  """Three devices cannot share the run's batches of eight equally."""
  shutil.copytree(run / 'checkpoints' / '9', run / 'best' / '9')
  env = {'XLA_FLAGS': '--xla_force_host_platform_device_count=3'}
  done = evaluate(f'--workdir={run}', '--split=train', '--checkpoint=best', env=env)
  assert (done.returncode, done.stderr) == (0, ''), done.stderr
  written = ['network.best.json', 'train.best', 'train.best.confusion.png', 'train.best.images.csv']
  written += ['train.best.json', 'train.best.npz']
  assert sorted(path.name for path in (run / 'eval').iterdir()) == written
  scores, matrices, ids = read(run, 'train.best')
  assert scores['step'] == 9 and scores['images'] == 24
  truth = examples(run, 'train')
  assert ids == [e['id'] for e in truth] and len(set(ids)) == 24
  for e, matrix in zip(truth, matrices, strict=True):
    assert np.array_equal(matrix.sum(1), np.bincount(e['label'].ravel(), minlength=256)[: len(CLASSES)])


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--split=test'], ["there is no split 'test'; expected one of train, validation"]),
    (['--checkpoint=best'], ['has no best checkpoint', 'both a validation and a test split']),
    (['--save_predictions=/proc/out'], ['cannot write /proc/out']),
    ([], ['has no checkpoint; expected a run that has saved one']),
  ],
  ids=str,
)
def test_an_error_after_jax_is_imported_is_one_sentence_and_writes_nothing(run, arguments, words):
  if not arguments:
    shutil.rmtree(run / 'checkpoints')
  before = sorted(run.rglob('*'))
  done = evaluate(f'--workdir={run}', *arguments)
  assert done.returncode == 1
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
  assert all(word in done.stderr for word in words), done.stderr
  assert sorted(run.rglob('*')) == before
