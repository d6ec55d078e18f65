"""Records of TFDS are decoded exactly, cached within bounds, and prepared once."""

import hashlib
import logging
import tempfile

import numpy as np
import pytest
from noise import Source, blank, make_split, record, settings

from fcn_jax.data import dataset, records
from fcn_jax.data.builders import scenes
from fcn_jax.errors import UserError


def make_records(source, room=2**30):
  return records.Records(source, room=room)


def test_images_are_decoded_as_they_were_stored():
  rng = np.random.default_rng(1)
  image, label = rng.integers(0, 256, (6, 9, 3), np.uint8), rng.integers(0, 8, (6, 9), np.uint8)
  split = make_split(Source([record(0, image, label)]))
  assert np.array_equal(split[0]['inputs']['rgb'], image)
  assert np.array_equal(split[0]['labels']['semantic'], label)
  assert split[0]['id'] == 'image_0' and split.ids() == ['image_0']
  assert split.sizes().tolist() == [[6, 9]]


def test_gray_images_become_rgb():
  gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
  split = make_split(Source([record(0, gray, np.zeros((3, 4), np.uint8))]))
  assert np.array_equal(split[0]['inputs']['rgb'], np.stack([gray] * 3, -1))


def test_a_record_of_another_kind_is_refused_by_its_id():
  good = record(0, np.zeros((3, 4, 3), np.uint8), np.zeros((3, 4), np.uint8))
  postscript = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 3\n%%EndComments\n'  # pillow would start Ghostscript
  for changes in ({'image': postscript}, {'label': postscript}, {'label': good['image']}):
    with pytest.raises(UserError, match='cannot read image_0: its '):
      make_split(Source([good | changes]))[0]


@pytest.mark.parametrize(('room', 'kept'), [(2**30, 4), (2 * 400 + 399, 2), (0, 0)])
def test_images_are_decoded_once_while_there_is_room_and_otherwise_whenever_they_are_read(room, kept):
  source = blank(4)
  split = make_records(source, room=room)  # 400 bytes per image
  for _ in range(3):
    for i in range(4):
      assert split[i]['inputs']['rgb'].shape == (10, 10, 3) and split[i]['id'] == f'image_{i}'
  # The first read of all is for their sizes.
  assert source.reads == {i: 2 if i < kept else 7 for i in range(4)}
  assert split.is_decoded == (kept == 4)


def test_scenes_are_prepared_once_and_read_again(data_dir):
  data = settings(dir=data_dir)
  first, again = dataset.load(data), dataset.load(data)
  assert {name: len(split) for name, split in first.splits.items()} == {'train': 600, 'validation': 100}
  assert (first.inputs, first.heads) == dataset.describe(data) == ({'rgb': 3}, {'semantic': scenes.CLASSES})
  assert first.fingerprint == again.fingerprint
  labels = [found.splits['train'][7]['labels']['semantic'] for found in (first, again)]
  assert np.array_equal(*labels)
  assert not set(first.splits['train'].ids()) & set(first.splits['validation'].ids())


def test_the_fingerprint_is_computed_as_before():
  """Runs store the fingerprint: with another one, a run of an earlier version could not resume."""
  record_of = {'id': b'a', 'image': b'jpeg', 'label': b'png'}
  sources = {'validation': [record_of], 'train': [record_of, record_of | {'id': b'b'}]}
  digest = hashlib.sha256(b'train 2ajpegpngbjpegpngvalidation 1ajpegpng').hexdigest()[:16]
  assert records.fingerprint('scenes/1.0.0', sources) == f'scenes/1.0.0 {digest}'


def test_preparation_is_logged_once(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(scenes, 'SPLITS', {'train': 3, 'validation': 1})
  with caplog.at_level(logging.INFO, logger='fcn_jax'):
    for _ in range(2):
      dataset.load(settings(dir=str(tmp_path)))
  (message,) = (entry.getMessage() for entry in caplog.records if entry.name.startswith('fcn_jax'))
  assert message.startswith('preparing scenes') and str(tmp_path) in message


def test_no_temporary_folder_is_left(tmp_path, monkeypatch):
  """TFDS makes one per data set that is not prepared, and then asks its server about it."""
  monkeypatch.setattr(scenes, 'SPLITS', {'train': 3, 'validation': 1})
  (tmp_path / 'temporary').mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'temporary'))
  dataset.load(settings(dir=str(tmp_path / 'data')))
  assert not list((tmp_path / 'temporary').iterdir())


def test_splits_share_the_cache_by_their_size(tmp_path, monkeypatch):
  """With half of the memory that all images need, about half of each split is cached."""
  monkeypatch.setattr(scenes, 'SPLITS', {'train': 8, 'validation': 4})
  splits = dataset.load(settings(dir=str(tmp_path), cache_gib=1.0)).splits
  examples = [split[i] for split in splits.values() for i in range(len(split))]
  total = sum(example['inputs']['rgb'].nbytes + example['labels']['semantic'].nbytes for example in examples)
  splits = dataset.load(settings(dir=str(tmp_path), cache_gib=total / 2 / 2**30)).splits
  cached = {}
  for name, split in splits.items():
    first = [split[i]['labels']['semantic'] for i in range(len(split))]
    cached[name] = sum(np.shares_memory(split[i]['labels']['semantic'], first[i]) for i in range(len(split)))
  assert 3 <= cached['train'] <= 5 and 1 <= cached['validation'] <= 3


def test_the_fingerprint_changes_with_the_images_and_not_when_they_are_written_again(tmp_path, monkeypatch):
  prints = []
  for folder, count in (('a', 3), ('b', 4), ('c', 3)):
    monkeypatch.setattr(scenes, 'SPLITS', {'train': count, 'validation': 1})
    prints.append(dataset.load(settings(dir=str(tmp_path / folder))).fingerprint)
  assert prints[0] != prints[1] and prints[0] == prints[2]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match=f'{tmp_path}/file/data'):
    dataset.load(settings(dir=str(tmp_path / 'file' / 'data')))


@pytest.mark.parametrize('name', ['run[1]', '[*?]a**b', 'latin\udce9'], ids=ascii)
def test_a_folder_that_tfds_cannot_use_is_refused(tmp_path, name):
  """It would not find the data that it has prepared there."""
  with pytest.raises(UserError, match='the path of prepared data cannot have'):
    scenes.Scenes(data_dir=str(tmp_path / name))
  assert not list(tmp_path.iterdir())
