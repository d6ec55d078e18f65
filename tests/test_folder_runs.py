"""A run trained on a folder of 16-bit TIFF files with four channels: moved, scored elsewhere, and predicting."""

import json
import shutil
import sys

import numpy as np
import pytest
import tifffile
import tiny
from PIL import Image

pytestmark = pytest.mark.slow


def draw(folder, count: int, seed: int = 0):
  """Images of three classes in four channels of 12 bits."""
  rng = np.random.default_rng(seed)
  for kind in ('images', 'masks'):
    (folder / kind).mkdir(parents=True)
  for number in range(count):
    label = np.kron(rng.integers(0, 3, (4, 4)), np.ones((8, 8), int)).astype(np.uint8)
    values = 900.0 * label[..., None] + rng.normal(1000, 100, (32, 32, 4))
    tifffile.imwrite(folder / f'images/{number}.tif', values.astype(np.uint16), photometric='minisblack')
    Image.fromarray(label).save(folder / f'masks/{number}.png')
  return folder


def command(module: str, *arguments):
  return tiny.run([sys.executable, '-m', f'fcn_jax.{module}', *map(str, arguments)])


def listing(folder):
  return {path: path.stat().st_mtime_ns for path in folder.rglob('*')}


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """A folder with a run, whose data have been moved to `moved`."""
  home = tmp_path_factory.mktemp('folder_runs')
  draw(home / 'data', 20)
  before = listing(home / 'data')
  settings = {'data__folder': home / 'data', 'data__val_fraction': 0.3, 'data__train_fraction': 0.8}
  settings['train__log_every'] = 1
  done = tiny.run(tiny.command(home / 'prepared', home / 'run', dataset='folder', **settings))
  assert done.returncode == 0, done.stderr
  assert listing(home / 'data') == before
  (home / 'data').rename(home / 'moved')
  return home


def test_what_is_measured_is_part_of_the_config(home):
  config = json.loads((home / 'run/config.json').read_text())
  assert config['data']['classes'] == 3 and len(config['data']['range']) == 8
  assert len(config['model']['mean']) == len(config['model']['std']) == 4
  low, high = np.reshape(config['data']['range'], (4, 2)).T
  assert (low > 500).all() and (high < 3400).all()


def test_a_moved_folder_is_found_by_its_new_path_and_has_the_same_scores(home, tmp_path):
  shutil.copytree(home / 'run', tmp_path / 'run')
  before = (tmp_path / 'run/eval/validation.json').read_text()
  missing = command('evaluate', f'--workdir={tmp_path / "run"}')
  assert missing.returncode == 1 and f'there is no folder {home / "data"}' in missing.stderr
  found = command('evaluate', f'--workdir={tmp_path / "run"}', f'--config.data.folder={home / "moved"}')
  assert found.returncode == 0, found.stderr
  assert (tmp_path / 'run/eval/validation.json').read_text() == before


def test_another_folder_is_scored_with_out_alone_and_leaves_the_run_as_it_is(home, tmp_path):
  other, before = draw(tmp_path / 'other', 5, seed=1), listing(home / 'run')
  flags = [f'--workdir={home / "run"}', f'--config.data.folder={other}']
  refused = command('evaluate', *flags)
  assert refused.returncode == 1 and '--out=FOLDER' in refused.stderr
  done = command('evaluate', *flags, f'--out={tmp_path / "scores"}')
  assert done.returncode == 0, done.stderr
  assert json.loads((tmp_path / 'scores/eval/all.json').read_text())['images'] == 5
  assert listing(home / 'run') == before
  (other / 'dataset.toml').write_text('classes = ["a", "b", "c"]')
  refused = command('evaluate', *flags, f'--out={tmp_path / "scores"}')
  assert refused.returncode == 1 and 'the classes of' in refused.stderr and 'class_0, class_1' in refused.stderr


def test_prediction_reads_the_files_as_the_evaluation_does(home, tmp_path):
  flags = [f'--workdir={home / "run"}']
  folder = f'--config.data.folder={home / "moved"}'
  for done in (
    command('evaluate', *flags, folder, '--split=all', f'--out={tmp_path}', f'--save_predictions={tmp_path / "a"}'),
    command('predict', *flags, home / 'moved/images', f'--out={tmp_path / "b"}'),
  ):
    assert done.returncode == 0, done.stderr
  scored = [path.name for path in (tmp_path / 'a').glob('*.png')]
  assert len(scored) > 10
  for name in scored:
    first, second = (np.asarray(Image.open(tmp_path / part / name)) for part in ('a', 'b'))
    assert np.mean(first != second) < 0.01  # canvases may round differently
  Image.new('RGB', (32, 32)).save(tmp_path / 'rgb.png')
  refused = command('predict', *flags, tmp_path / 'rgb.png', f'--out={tmp_path / "b"}')
  assert refused.returncode == 1 and 'has 3 channels; expected 4' in refused.stderr
