"""A data set is prepared once by processes that start together; what a killed one left is removed; faults are named."""

import fcntl
import logging
import os
import pathlib
import re
import resource
import shutil
import sys
import threading
import time

import numpy as np
import pytest
import tiny
from noise import settings
from ordinary_user import without_root

from fcn_jax.data import dataset, preparation
from fcn_jax.data.builders import scenes
from fcn_jax.errors import UserError


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
  monkeypatch.setattr(scenes, 'SPLITS', {'train': 3, 'validation': 1})


# Prepares the data in FOLDER, but draws no image before there is a file FOLDER/go.
PREPARE = """
import pathlib, sys, time
from fcn_jax import config
from fcn_jax.data import preparation
from fcn_jax.data.builders import scenes
folder, draw = pathlib.Path(sys.argv[1]), scenes.image
def image(split, index):
  (folder / 'began').touch()
  while not (folder / 'go').exists():
    time.sleep(0.02)
  return draw(split, index)
scenes.SPLITS, scenes.image = {'train': 3, 'validation': 1}, image
data = config.default('scenes').data
data.dir = str(folder)
preparation.prepared(scenes.Scenes, data, {})
"""


@pytest.fixture
def another(tmp_path):
  """Another process that is preparing the data in tmp_path."""
  process = tiny.start([sys.executable, '-c', PREPARE, str(tmp_path)])
  tiny.until((tmp_path / 'began').exists, process)
  yield process
  process.kill()
  process.communicate()


def load(folder):
  return dataset.load(settings(dir=str(folder)))


def left(folder) -> list[str]:
  names = (path.name for path in pathlib.Path(folder).rglob('*'))
  return [name for name in names if name.startswith(('incomplete.', '.preparing')) or '.tmp.' in name]


def test_what_a_killed_preparation_left_is_removed_by_the_next_one(tmp_path, another, caplog):
  another.kill()
  another.communicate()
  (tmp_path / 'downloads' / 'scenes' / f'archive.tar.tmp.{"0a" * 16}').mkdir(parents=True)
  (tmp_path / 'scenes' / 'incomplete.txt').write_text("a user's")
  assert len(left(tmp_path)) > 3
  with caplog.at_level(logging.INFO, logger='fcn_jax'):
    load(tmp_path)
  assert left(tmp_path) == ['incomplete.txt']
  assert 'removed what a preparation that was killed had left' in caplog.text


def test_a_second_process_waits_for_the_first_and_removes_nothing(tmp_path, another, caplog):
  before, found = left(tmp_path), []
  with caplog.at_level(logging.INFO, logger='fcn_jax'):
    thread = threading.Thread(target=lambda: found.append(load(tmp_path)))
    thread.start()
    while 'waiting for another process' not in caplog.text:
      time.sleep(0.02)
    assert left(tmp_path) == before and not found
    (tmp_path / 'go').touch()
    thread.join(60)
  assert 'preparing scenes' not in caplog.text and len(found[0].splits['train']) == 3
  another.communicate(timeout=60)
  assert another.returncode == 0 and not left(tmp_path)


@pytest.mark.parametrize('reason', ['another machine', 'no locks'])
def test_nothing_is_removed_that_another_machine_may_be_writing(tmp_path, monkeypatch, reason):
  folder = tmp_path / 'scenes' / 'incomplete.ABCDEF_1.0.0'
  folder.mkdir(parents=True)
  marker = tmp_path / 'scenes' / '.preparing-elsewhere'
  if reason == 'another machine':
    marker.touch()
  else:

    def flock(*_):
      raise OSError('Function not implemented')

    monkeypatch.setattr(fcntl, 'flock', flock)
  assert len(load(tmp_path).splits['train']) == 3 and folder.exists()


def test_a_preparation_elsewhere_that_began_long_ago_is_dead(tmp_path):
  (tmp_path / 'scenes' / 'incomplete.ABCDEF_1.0.0').mkdir(parents=True)
  marker = tmp_path / 'scenes' / '.preparing-elsewhere'
  marker.touch()
  os.utime(marker, (0, time.time() - 2 * preparation._LONGEST))
  load(tmp_path)
  assert not left(tmp_path)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))  # the largest size of a file, in bytes
  try:
    with pytest.raises(UserError) as caught:
      load(tmp_path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert str(caught.value) == f'cannot prepare scenes in {tmp_path}/scenes/1.0.0: File too large'
  assert not left(tmp_path) and len(load(tmp_path).splits['train']) == 3


@pytest.mark.parametrize(
  'error',
  [
    OSError(28, 'No space left on device', '/data'),
    RuntimeError('Failed to write: No space left on device; at byte 3'),
  ],
)
def test_whatever_a_library_raises_the_reason_is_that_of_the_system(tmp_path, monkeypatch, error):
  def image(split, index):
    raise error

  monkeypatch.setattr(scenes, 'image', image)
  with pytest.raises(UserError, match=r'^cannot prepare scenes in .*/scenes/1.0.0: No space left on device$'):
    load(tmp_path)


@pytest.mark.parametrize('part', ['', 'scenes', 'scenes/1.0.0', 'scenes/1.0.0/dataset_info.json'])
def test_data_that_may_not_be_read_are_said_to_be(tmp_path, part):
  load(tmp_path / 'data')
  (tmp_path / 'data' / part).chmod(0)
  with without_root(), pytest.raises(UserError, match=f'{tmp_path}/data.*: Permission denied'):
    load(tmp_path / 'data')
  (tmp_path / 'data' / part).chmod(0o755)


@pytest.mark.parametrize('content', ['', '{'])
def test_a_damaged_description_of_the_data_is_named_with_a_way_out(tmp_path, content):
  load(tmp_path)
  folder = tmp_path / 'scenes' / '1.0.0'
  (folder / 'dataset_info.json').write_text(content)
  with pytest.raises(UserError) as caught:
    load(tmp_path)
  assert str(caught.value).startswith(f'{folder}/dataset_info.json is {"damaged" if content else "empty"}')
  assert str(caught.value).endswith(f'delete the folder {folder}, and the data are prepared again')
  shutil.rmtree(folder)
  assert len(load(tmp_path).splits['train']) == 3


@pytest.mark.parametrize('damage', ['missing', 'cut', 'no permission'])
def test_records_that_cannot_be_read_are_named(tmp_path, damage):
  load(tmp_path)
  (path,) = (tmp_path / 'scenes' / '1.0.0').glob('*train.array_record*')
  if damage == 'missing':
    path.unlink()
  elif damage == 'cut':
    path.write_bytes(path.read_bytes()[:-3000])
  else:
    path.chmod(0)
  words = 'Permission denied' if damage == 'no permission' else ''
  with without_root(), pytest.raises(UserError, match=f'cannot read the data in {tmp_path}/scenes/1.0.0: .*{words}'):
    load(tmp_path)


def test_addresses_of_data(tmp_path):
  assert len(dataset.load(settings(dir=f'file://{tmp_path}')).splits['train']) == 3
  with pytest.raises(UserError, match=r'gs://bucket/data; expected a folder on a disk'):
    dataset.load(settings(dir='gs://bucket/data'))
  with pytest.raises(UserError, match=re.escape('s3://')):
    dataset.load(settings(dir='s3://bucket/data'))


def test_the_environment_variable_may_have_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setenv('TFDS_DATA_DIR', '~/data')
  assert np.shape(load('').splits['train'].sizes()) == (3, 2)
  assert (tmp_path / 'data' / 'scenes').is_dir()


@pytest.mark.parametrize('names', [['photo.JPG'], ['images/', 'masks/']])
def test_nothing_is_prepared_in_a_folder_of_images(tmp_path, names):
  for name in names:
    (tmp_path / name).mkdir() if name.endswith('/') else (tmp_path / name).touch()
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(UserError, match=r'seems to be a folder of images; .* --config=FILE:folder'):
    dataset.load(settings(dir=str(tmp_path)))
  assert sorted(tmp_path.rglob('*')) == before
