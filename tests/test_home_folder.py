"""`~` is the home folder in every path that a user gives."""

import re

import numpy as np
import pytest
import small_stanford
import tiny
import untrained
import weight_formats
from absl.testing import flagsaver
from command_line import flags_of
from photos import drawing, save
from PIL import Image

import fcn_jax
from fcn_jax import bounds, files, predict, starting_point
from fcn_jax import config as config_lib
from fcn_jax.data import dataset
from fcn_jax.data.builders import stanford_background
from fcn_jax.errors import UserError
from fcn_jax.run import directory
from fcn_jax.weights import formats, initialize, match


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  """The home folder; the working directory is another one, and must stay empty."""
  (tmp_path / 'elsewhere').mkdir()
  monkeypatch.chdir(tmp_path / 'elsewhere')
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  (tmp_path / 'home').mkdir()
  yield tmp_path / 'home'
  assert not list((tmp_path / 'elsewhere').iterdir()), 'a folder called ~'


def test_workdir(home):
  config = config_lib.default('scenes')
  config.eval.batch_size = 8  # divisible by the number of devices
  _, made = starting_point.prepare(config, '~/run')
  assert made.path == files.path(str(home / 'run')) and (home / 'run').is_dir()
  directory.RunDirectory('~/run').write('deep/file', 'text')
  assert (home / 'run' / 'deep' / 'file').read_text() == 'text'


def test_predict_reads_and_writes(home):
  untrained.write(home / 'run')
  save(home / 'in' / 'photo.png', drawing(150, 70))
  options = {'workdir': '~/run', 'out': '~/out'}
  with flags_of(predict), flagsaver.flagsaver(**options), pytest.raises(SystemExit) as caught:
    predict.main(['~/in'])
  assert caught.value.code == 0 and (home / 'out' / 'photo.png').exists()
  assert fcn_jax.load_run('~/run').step == 7


def test_bounds_reads_and_writes(home):
  (home / 'masks').mkdir()
  Image.fromarray(np.zeros((130, 130), np.uint8)).save(home / 'masks' / 'a.png')
  with flags_of(bounds), flagsaver.flagsaver(masks='~/masks', classes=2, out='~/made/bounds.json'):
    bounds.main([])
  assert (home / 'made' / 'bounds.json').exists()


def test_data_dir(home):
  tiny.prepare(home / 'data')
  data = config_lib.default('scenes').data
  data.dir = '~/data'
  assert len(dataset.load(data).splits['train']) == 24


def test_data_archive(home, monkeypatch):
  monkeypatch.setattr(stanford_background, 'IMAGES', small_stanford.COUNT)
  small_stanford.pack(home / 'small.tar.gz')
  data = config_lib.default('stanford_background').data
  data.update(dir='~/data', archive='~/small.tar.gz')
  loaded = dataset.load(data)
  assert sum(len(split) for split in loaded.splits.values()) == small_stanford.COUNT
  assert (home / 'data' / 'stanford_background').is_dir()


def test_data_sbd_archive(home):
  data = config_lib.default('sbd').data
  data.update(dir='~/data', sbd_archive='~/benchmark.tgz')
  with pytest.raises(UserError, match=re.escape(f'there is no archive {home}/benchmark.tgz')):
    dataset.load(data)


def test_init_run(home):
  untrained.write(home / 'source')
  config = config_lib.default('scenes')
  config.model.norm = 'none'
  config.init.run = '~/source'
  resolved = initialize.resolve(config)
  assert resolved.model.mean == (122.67892, 116.66877, 104.00699)
  params = untrained.write(home / 'other', seed=1).params
  restored = initialize.from_run(params, resolved, {})
  assert restored.step == 7 and not restored.differences
  config.init.run = '~/nothing'
  with pytest.raises(UserError, match=re.escape(f'{home}/nothing holds no run')):
    initialize.resolve(config)


def test_weights(home):
  config = weight_formats.config_for(8)
  _, params = weight_formats.network(config)
  weight_formats.write_caffemodel(home / 'fcn8s.caffemodel', params, 8)
  read = match.read('~/fcn8s.caffemodel')
  formats.write('~/made/fcn8s.npz', read)
  assert match.read('~/made/fcn8s.npz').tensors.keys() == read.tensors.keys()
  config.init.weights = '~/made/fcn8s.npz'
  assert initialize.resolve(config).model.mean == pytest.approx(read.mean)
