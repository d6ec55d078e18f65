"""A data set outside the package: trained, resumed, scored, and read without it.

It has two streams and two heads, and resizes its images when they are read.
"""

import json
import shutil
import signal
import sys

import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from fcn_jax.run import saved
from fcn_jax.sweep import points

NAME = 'my_package.my_data'

MODULE = """
import numpy as np
from fcn_jax.data import Classes, Data

SETTINGS = {
  'count': 16,  # training images
  'train_size': (32, 32),
  'resize': 32,  # from 64x64
  'model.mean': (120.0, 115.0, 105.0, 40.0),
  'model.std': (64.0, 64.0, 64.0, 30.0),
}
HEADS = {
  'semantic': Classes(('wall', 'floor', 'chair'), ((0, 0, 0), (200, 0, 0), (0, 200, 0))),
  'geometric': Classes(('flat', 'upright'), ((0, 0, 90), (90, 90, 0))),
}


class Drawn:
  def __init__(self, seed, count):
    self._seed, self._count = seed, count

  def __len__(self):
    return self._count

  def _labels(self, rng, block):
    semantic = np.repeat(np.repeat(rng.integers(0, 3, (4, 4), np.uint8), block, 0), block, 1)
    return {'semantic': semantic, 'geometric': (semantic == 1).astype(np.uint8)}

  def __getitem__(self, index):
    rng = np.random.default_rng([self._seed, index])
    labels = self._labels(rng, 8)
    semantic = labels['semantic']
    rgb = 80 * semantic[..., None] + rng.integers(0, 80, (32, 32, 3), np.uint8)
    depth = rng.integers(0, 99, (32, 32, 1), np.uint8)
    return {'inputs': {'rgb': rgb, 'depth': depth}, 'labels': labels, 'id': self.ids()[index]}

  def sizes(self):
    return np.array([(32, 32)] * self._count)

  def full_labels(self, index):
    return self._labels(np.random.default_rng([self._seed, index]), 16)

  def full_sizes(self):
    return 2 * self.sizes()

  def ids(self):
    return [f'{self._seed}-{index}' for index in range(self._count)]


def load(data):
  splits = {'train': Drawn(0, data.count), 'validation': Drawn(1, 5)}
  return Data({'rgb': 3, 'depth': 1}, HEADS, splits, f'rooms of {data.count}')
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with the package `my_package`."""
  folder = tmp_path_factory.mktemp('outside')
  package = folder / 'packages' / 'my_package'
  package.mkdir(parents=True)
  (package / '__init__.py').touch()
  (package / 'my_data.py').write_text(MODULE)
  no_scores = MODULE.replace("{'train': Drawn(0, data.count), 'validation': Drawn(1, 5)}", "{'train': Drawn(0, 4)}")
  (package / 'only_training.py').write_text(no_scores)
  return folder


def run(folder, *arguments, importable: bool = True):
  """Runs `python -m ARGUMENTS`, with or without the package on Python's path."""
  path = f'{tiny.ROOT}:{folder}/packages' if importable else str(tiny.ROOT)
  return tiny.run([sys.executable, *map(str, arguments)], env={'PYTHONPATH': path})


def train(folder, workdir, dataset=NAME, importable: bool = True, **settings):
  return run(folder, *tiny.command(folder, workdir, dataset=dataset, **settings)[1:], importable=importable)


def assert_refused(done, *words):
  """One sentence on standard error."""
  assert done.returncode == 1 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
  for word in words:
    assert word in done.stderr, done.stderr


@pytest.fixture(scope='module')
def trained(folder):
  """The directory of a run that was not disturbed."""
  done = train(folder, folder / 'run')
  assert done.returncode == 0, done.stderr
  assert 'semantic: wall' in done.stdout and 'geometric: flat' in done.stdout
  return folder / 'run'


@pytest.fixture
def unfinished(trained, tmp_path):
  """A copy of the run, as if it had been killed after its last checkpoint but one."""
  shutil.copytree(trained, tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run' / 'checkpoints' / '12')
  status = tmp_path / 'run' / 'status.json'
  status.write_text(status.read_text().replace('"done"', '"running"'))
  return tmp_path / 'run'


@pytest.mark.slow
def test_the_first_head_has_flat_names_and_the_other_has_its_name_in_them(trained):
  rows = [json.loads(line) for line in (trained / 'metrics.jsonl').read_text().splitlines()]
  scored = [row for row in rows if 'eval/mean_iou' in row]
  assert [row['step'] for row in scored] == [4, 8, 12]
  for row in scored:
    assert {'eval/geometric/mean_iou', 'eval/iou/chair', 'eval/geometric/iou/upright'} <= row.keys()
  for stem, field in (('validation', 'eval/mean_iou'), ('validation.geometric', 'eval/geometric/mean_iou')):
    scores = json.loads((trained / 'eval' / f'{stem}.json').read_text())
    assert scores['mean_iou'] == scored[-1][field] and scores['images'] == 5
    assert (trained / 'eval' / f'{stem}.npz').exists()
  saved = json.loads((trained / 'data.json').read_text())
  assert saved['inputs'] == {'rgb': 3, 'depth': 1}
  assert saved['heads']['geometric']['names'] == ['flat', 'upright']
  config = json.loads((trained / 'config.json').read_text())
  assert config['data']['name'] == NAME and config['data']['count'] == 16 and len(config['model']['mean']) == 4


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_stopped_resumes_to_the_same_metrics(folder, trained, tmp_path, number):
  workdir = tmp_path / 'run'
  env = {'PYTHONPATH': f'{tiny.ROOT}:{folder}/packages'}
  process = tiny.start(tiny.command(folder, workdir, dataset=NAME), env=env)
  try:
    tiny.until(lambda: any(path.name.isdigit() for path in workdir.glob('checkpoints/*')), process)
    process.send_signal(number)
    process.communicate(timeout=200)
  finally:
    process.kill()
  assert process.returncode == (75 if number == signal.SIGTERM else -number)
  done = train(folder, workdir)
  assert done.returncode == 0 and 'resuming from step' in done.stdout, done.stderr
  assert (workdir / 'metrics.jsonl').read_bytes() == (trained / 'metrics.jsonl').read_bytes()


@pytest.mark.slow
def test_evaluate_scores_both_heads(folder, trained, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(trained, workdir)
  files = [workdir / 'eval' / f'validation{head}.json' for head in ('', '.geometric')]
  before = [path.read_bytes() for path in files]
  shutil.rmtree(workdir / 'eval')
  done = run(folder, '-m', 'fcn_jax.evaluate', f'--workdir={workdir}', '--save_predictions', tmp_path / 'predictions')
  assert done.returncode == 0, done.stderr
  assert [path.read_bytes() for path in files] == before
  names, matrices = (np.load(workdir / 'eval' / 'validation.npz')[kind] for kind in ('id', 'confusion'))
  assert len(list((tmp_path / 'predictions').glob('*.png'))) == len(names) == 5
  for name, matrix in zip(names, matrices, strict=True):
    assert matrix.sum() == 64 * 64  # pixels before resizing
    for path, size in (
      (tmp_path / 'predictions' / f'{name}.png', 64),
      (workdir / f'eval/validation/{name}.label.png', 32),
    ):
      with Image.open(path) as image:
        assert image.size == (size, size)
        assert size == 32 or np.array_equal(np.bincount(np.asarray(image).ravel(), minlength=3), matrix.sum(0))


PREDICT = """
import sys, numpy as np, fcn_jax
run = fcn_jax.load_run(sys.argv[1])
rng = np.random.default_rng(0)
image = {'rgb': rng.integers(0, 256, (20, 33, 3), np.uint8), 'depth': rng.integers(0, 99, (20, 33, 1), np.uint8)}
for head, classes in (('semantic', 3), ('geometric', 2)):
  labels = run.predict(image, head=head)
  assert labels.shape == (20, 33) and labels.dtype == np.uint8 and labels.max() < classes
print(*run.classes, *run.heads)
"""


@pytest.mark.slow
def test_a_run_is_read_without_the_module(folder, trained, tmp_path):
  done = run(folder, '-c', PREDICT, trained, importable=False)
  assert done.returncode == 0 and done.stdout.split() == ['wall', 'floor', 'chair', 'semantic', 'geometric'], (
    done.stderr
  )
  sweep = tmp_path / 'sweep'
  config = saved.read_config(epath.Path(trained))
  runs = [points.Run(f'seed={seed}', sweep / f'seed={seed}', config, (), {'seed': seed}, None) for seed in (0, 1)]
  points.write_sweep(epath.Path(sweep), 'rooms.py', config, runs)
  shutil.copytree(trained, sweep / 'seed=0')
  listed = run(folder, '-m', 'fcn_jax.sweep', f'--workdir={sweep}', '--list', importable=False)
  assert listed.returncode == 0 and '1 done, 1 waiting' in listed.stdout and 'mean IoU' in listed.stdout, listed.stderr
  reported = run(folder, '-m', 'fcn_jax.report', sweep, importable=False)
  assert reported.returncode == 0, reported.stderr
  assert 'chair' in (sweep / 'report' / 'index.html').read_text()


@pytest.mark.slow
def test_without_the_module_evaluating_and_resuming_are_errors_that_name_it(folder, trained, unfinished):
  evaluated = run(folder, '-m', 'fcn_jax.evaluate', f'--workdir={trained}', importable=False)
  assert_refused(evaluated, f"there is no data set '{NAME}'", 'importable module')
  before = {path: path.read_bytes() for path in unfinished.rglob('*') if path.is_file()}
  assert_refused(train(folder, unfinished, importable=False), NAME, 'importable module')
  assert {path: path.read_bytes() for path in unfinished.rglob('*') if path.is_file()} == before


@pytest.mark.parametrize(
  ('setting', 'expected'),
  [('data__name', '--config=FILE:DATASET'), ('recipe', '--config=FILE:DATASET,recipe=NAME')],
)
def test_data_set_and_recipe_are_set_by_the_argument_of_the_config_file(folder, tmp_path, setting, expected):
  done = train(folder, tmp_path / 'run', dataset='', **{setting: 'scratch_small'})
  assert_refused(done, f'--config.{setting.replace("__", ".")} cannot be set', f'write {expected}')


@pytest.mark.parametrize(
  ('settings', 'words'),
  [
    ({'data__count': 'many'}, ['data.count', 'many']),
    ({'data__cuont': 3}, ['there is no setting data.cuont', 'data.count']),
    ({'model__mean': '1,2,3'}, ['model.mean has 3 numbers']),
  ],
)
def test_settings_of_the_module_are_checked(folder, tmp_path, settings, words):
  assert_refused(train(folder, tmp_path / 'run', **settings), *words)
  assert not (tmp_path / 'run').exists()


def test_data_with_neither_validation_nor_test_are_an_error_that_says_how_to_get_one(folder, tmp_path):
  done = train(folder, tmp_path / 'run', dataset='my_package.only_training')
  assert_refused(done, 'has the splits train, but neither validation nor test', 'hold back some of the training images')
  assert not (tmp_path / 'run' / 'config.json').exists()
