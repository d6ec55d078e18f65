"""A run is scored as it was when it was trained, on the pictures that it has not seen; files and messages are right."""

import json
import shutil
import sys

import numpy as np
import pytest
import tiny
from cheap import random_params
from etils import epath
from PIL import Image

from fcn_jax import bounds, images, metrics
from fcn_jax import config as configs
from fcn_jax.data import bands, dataset
from fcn_jax.data.builders import scenes
from fcn_jax.data.dataset import IGNORE
from fcn_jax.models import fcn
from fcn_jax.run import checkpoint, directory

CLASSES, PALETTE = scenes.Scenes.CLASSES, scenes.Scenes.PALETTE
CONFIG = f'--config={tiny.ROOT}/experiments/fcn16s.py'


def evaluate(*arguments, **options):
  command = [sys.executable, '-m', 'fcn_jax.evaluate', *map(str, arguments)]
  return tiny.run(command, **options)


# Errors in the command line.


@pytest.fixture(scope='module')
def without_jax(tmp_path_factory):
  folder = tmp_path_factory.mktemp('without_jax')
  for name in ('jax', 'flax', 'grain', 'orbax', 'optax', 'tensorflow_datasets'):
    (folder / f'{name}.py').write_text(f'raise SystemExit("{name} was imported")')
  return f'{folder}:{tiny.ROOT}'


MASKS = ['--upper_bounds', '--masks=masks', '--classes=4']


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['nothing to score', '--workdir=RUN', '--weights=FILE', '--upper_bounds']),
    (['--weights=fcn.npz'], ['no config given']),
    (['--workdir=run', 'photo.jpg'], ["unexpected argument 'photo.jpg'", '--help']),
    (['--workdir=masks'], ['masks holds no run', 'config.json']),
    (['--workdir=nowhere'], ['nowhere holds no run']),
    (['--workdir=masks', '--checkpoint=first'], ['checkpoint', 'first', 'last', 'best']),
    (['--workdir=masks', CONFIG], ['--config and --weights are for']),
    (['--upper_bounds'], ['either --config', 'or --masks=FOLDER --classes=N']),
    ([*MASKS, CONFIG], ['either --config', 'or --masks=FOLDER --classes=N']),
    (['--upper_bounds', '--config=missing.py'], ['there is no config file missing.py']),
    (['--upper_bounds', CONFIG, '--config.model.stride=7'], ['model.stride is 7']),
    (['--upper_bounds', '--masks=masks'], ['--masks wants --classes=N']),
    (['--upper_bounds', '--masks=masks', '--classes=0'], ['classes', '[1, 255]']),
    (['--upper_bounds', '--masks=nowhere', '--classes=4'], ['there is no PNG mask in nowhere']),
    (['--upper_bounds', '--masks=masks', '--classes=3'], ['masks/b.png has the class 3; expected 0 to 2, or 255']),
    (['--upper_bounds', '--masks=colours', '--classes=4'], ['colours/a.png is uint8 [5, 6, 3]', 'uint8 [H, W]']),
    (['--upper_bounds', '--masks=deep', '--classes=4'], ['deep/a.png is', '16', '[5, 6]; expected class numbers']),
    (['--upper_bounds', '--masks=broken', '--classes=4'], ['broken/a.png cannot be read']),
    (['--upper_bounds', '--masks=cut', '--classes=4'], ['cut/a.png cannot be read']),
  ],
  ids=str,
)
def test_an_error_in_the_command_line_is_a_sentence_before_jax_is_imported(without_jax, tmp_path, arguments, words):
  label = np.random.default_rng(0).integers(0, 3, (5, 6), np.uint8)
  with_three = label.copy()
  with_three[1, 2] = 3
  files = {
    'masks/a.png': label,
    'masks/b.png': with_three,
    'colours/a.png': np.dstack([label] * 3),
    'deep/a.png': label.astype(np.uint16),
    'cut/a.png': np.random.default_rng(0).integers(0, 3, (90, 90), np.uint8),
  }
  for name, pixels in files.items():
    (tmp_path / name).parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(tmp_path / name)
  whole = (tmp_path / 'cut' / 'a.png').read_bytes()
  (tmp_path / 'cut' / 'a.png').write_bytes(whole[: len(whole) // 2])
  (tmp_path / 'broken').mkdir()
  (tmp_path / 'broken' / 'a.png').write_text('no picture')
  before = sorted(tmp_path.rglob('*'))
  done = evaluate(*arguments, env={'PYTHONPATH': without_jax}, cwd=tmp_path)
  assert done.returncode == 1 and done.stdout == ''
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
  assert all(word in done.stderr for word in words), done.stderr
  assert sorted(tmp_path.rglob('*')) == before


# A run.


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tiny.prepare(tmp_path_factory.mktemp('evaluate') / 'data')


@pytest.fixture(scope='module')
def finished(data_dir, tmp_path_factory):
  """A finished run, which began with random scores: otherwise so short a run predicts one class everywhere."""
  folder = tmp_path_factory.mktemp('evaluate')
  config = configs.default('scenes')
  config.model.update(stride=32, **{n.removeprefix('model.'): x for n, x in tiny.SETTINGS.items() if 'model.' in n})
  params = random_params(fcn.from_config(config, len(CLASSES)), np.zeros((1, 1, 1, 3), np.uint8))
  checkpoints = checkpoint.Checkpoints(epath.Path(folder / 'random'), keep=1)
  checkpoints.save(1, {'params': params})
  checkpoints.close()
  directory.write_config(epath.Path(folder / 'random'), config)
  directory.Status(epath.Path(folder / 'random'), 1).write('done', 1)
  done = tiny.run(tiny.command(data_dir, folder / 'run', init__run=folder / 'random'))
  assert (done.returncode, done.stderr) == (0, '')
  return folder / 'run'


@pytest.fixture
def run(finished, tmp_path):
  """A copy without the scores that the training left."""
  workdir = tmp_path / 'run'
  shutil.copytree(finished, workdir)
  shutil.rmtree(workdir / 'eval')
  return workdir


def read(workdir, split):
  with np.load(workdir / 'eval' / f'{split}.npz') as file:
    assert set(file) == {'confusion', 'id'}
    return json.loads((workdir / 'eval' / f'{split}.json').read_text()), file['confusion'], list(file['id'])


def pictures(workdir, split):
  split = dataset.load(directory.read_config(epath.Path(workdir)).data).splits[split]
  return [split[i] for i in range(len(split))]


def slow_confusion(label, prediction):
  matrix = np.zeros((len(CLASSES),) * 2, np.int64)
  np.add.at(matrix, (label[label != IGNORE], prediction[label != IGNORE]), 1)
  return matrix


def test_a_run_is_scored_as_at_its_end_and_its_predictions_give_the_same_scores(run, tmp_path):
  done = evaluate(f'--workdir={run}', f'--save_predictions={tmp_path}/out/put')
  assert (done.returncode, done.stderr) == (0, ''), done.stderr
  scores, matrices, names = read(run, 'validation')  # what the run did not train on
  last = json.loads((run / 'metrics.jsonl').read_text().splitlines()[-1])
  assert last['step'] == scores['step'] == tiny.STEPS
  assert {name: scores[name] for name in metrics.METRICS} == {name: last[f'eval/{name}'] for name in metrics.METRICS}
  assert scores['iou'] == {name: last[f'eval/iou/{name}'] for name in CLASSES}

  truth = pictures(run, 'validation')
  assert names == [picture['id'] for picture in truth]
  assert sorted(path.name for path in (tmp_path / 'out' / 'put').iterdir()) == sorted(f'{name}.png' for name in names)
  near = np.zeros((len(bands.WIDTHS), len(CLASSES), len(CLASSES)), np.int64)
  for picture, matrix in zip(truth, matrices, strict=True):
    with Image.open(tmp_path / 'out' / 'put' / f'{picture["id"]}.png') as image:
      assert image.mode == 'P' and image.getpalette()[:24] == [x for colour in PALETTE for x in colour]
      prediction = np.asarray(image)
    assert np.array_equal(slow_confusion(picture['label'], prediction), matrix)
    near += bands.confusions(picture['label'], prediction, len(CLASSES))
  assert np.count_nonzero(matrices.sum((0, 1))) > 2, 'a network that predicts one class everywhere tests little'

  assert scores | metrics.summarize(matrices.sum(0), CLASSES) == scores
  assert all(0 < scores[name] < 1 for name in metrics.METRICS)
  assert scores['boundary_iou'] == {
    str(width): metrics.summarize(band, CLASSES)['mean_iou'] for width, band in zip(bands.WIDTHS, near, strict=True)
  }
  assert scores['images'] == len(truth) == 8
  assert scores['pixels'] == sum(np.count_nonzero(picture['label'] != IGNORE) for picture in truth)
  assert set(scores) == {*metrics.METRICS, 'iou', 'images', 'pixels', 'boundary_iou', 'step'}

  assert json.loads((run / 'eval' / 'network.json').read_text())['upper_bound'].keys() == {'validation'}
  for picture in (truth[0], truth[-1]):
    with Image.open(run / 'eval' / 'validation' / f'{picture["id"]}.prediction.png') as image:
      assert np.array_equal(np.asarray(image), np.asarray(Image.open(f'{tmp_path}/out/put/{picture["id"]}.png')))
    with Image.open(run / 'eval' / 'validation' / f'{picture["id"]}.label.png') as image:
      assert np.array_equal(np.asarray(image), picture['label'])
    with Image.open(run / 'eval' / 'validation' / f'{picture["id"]}.image.jpg') as image:
      assert np.abs(np.asarray(image).astype(int) - picture['image']).mean() < 8

  assert 'on validation of scenes/1.0.0' in done.stdout and f'8 images, {scores["pixels"]:,} pixels' in done.stdout
  for name in metrics.METRICS:
    assert f'{100 * scores[name]:.2f} %' in done.stdout
  assert 'IoU sky' in done.stdout and 'mean IoU within 16 px of a boundary' in done.stdout
  assert '8/8' not in done.stdout, 'the bar is for terminals'


def test_another_split_and_checkpoint_on_more_devices_than_the_run_had(run):
  """Three, which cannot share the run's batches of eight."""
  shutil.copytree(run / 'checkpoints' / '9', run / 'best' / '9')
  env = {'XLA_FLAGS': '--xla_force_host_platform_device_count=3'}
  done = evaluate(f'--workdir={run}', '--split=train', '--checkpoint=best', env=env)
  assert (done.returncode, done.stderr) == (0, ''), done.stderr
  assert sorted(path.name for path in (run / 'eval').iterdir()) == ['network.json', 'train', 'train.json', 'train.npz']
  scores, matrices, names = read(run, 'train')
  assert scores['step'] == 9 and scores['images'] == 24
  truth = pictures(run, 'train')
  assert names == [picture['id'] for picture in truth] and len(set(names)) == 24
  for picture, matrix in zip(truth, matrices, strict=True):
    assert np.array_equal(matrix.sum(1), np.bincount(picture['label'].ravel(), minlength=256)[: len(CLASSES)])


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--split=test'], ["there is no split 'test'; this run has train, validation"]),
    (['--checkpoint=best'], ['has no best checkpoint', 'validation split']),
    (['--save_predictions=/proc/out'], ['cannot write /proc/out']),
    ([], ['has no checkpoint; expected a run that has saved one']),
  ],
  ids=str,
)
def test_what_cannot_be_scored_is_a_sentence_and_writes_nothing(run, arguments, words):
  if not arguments:
    shutil.rmtree(run / 'checkpoints')
  before = sorted(run.rglob('*'))
  done = evaluate(f'--workdir={run}', *arguments)
  assert done.returncode == 1
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
  assert all(word in done.stderr for word in words), done.stderr
  assert sorted(run.rglob('*')) == before


# Upper bounds.


def expected_bounds(labels):
  return {str(stride): score for stride, score in bounds.upper_bounds(labels, len(CLASSES)).items()}


def test_upper_bounds_of_masks_with_a_palette_or_without(tmp_path):
  labels = [scenes.picture('validation', index)['label'][:100, :120] for index in range(2)]
  (tmp_path / 'masks').mkdir()
  Image.fromarray(labels[0]).save(tmp_path / 'masks' / 'a.png')
  (tmp_path / 'masks' / 'b.png').write_bytes(images.indexed(labels[1], PALETTE))
  done = evaluate('--upper_bounds', '--masks=masks', '--classes=8', '--out=made/bounds.json', cwd=tmp_path)
  assert (done.returncode, done.stderr) == (0, ''), done.stderr
  scores = json.loads((tmp_path / 'made' / 'bounds.json').read_text())
  assert scores == expected_bounds(labels)
  rows = [line.split('│')[1:-1] for line in done.stdout.splitlines() if '│' in line]
  rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}
  assert {stride: cells[:2] for stride, cells in rows.items()} == {
    stride: [f'{100 * x[name]:.2f} %' for name in ('mean_iou', 'pixel_accuracy')] for stride, x in scores.items()
  }
  assert (rows['128'][2], rows['4'][2], rows['2'][2]) == ('50.9 %', '98.5 %', '')  # the paper's


def test_upper_bounds_of_a_data_set(data_dir, tmp_path):
  done = evaluate('--upper_bounds', CONFIG, f'--config.data.dir={data_dir}', '--split=train', cwd=tmp_path)
  assert (done.returncode, done.stderr) == (0, ''), done.stderr
  config = configs.default('scenes')
  config.data.dir = data_dir
  train = dataset.load(config.data).splits['train']
  labels = [train[i]['label'] for i in range(len(train))]
  assert json.loads((tmp_path / 'upper_bounds.json').read_text()) == expected_bounds(labels)
