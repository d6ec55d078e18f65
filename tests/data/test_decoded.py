"""Decoded images are in one file, written once and mapped by all runs of a machine, or in memory if that fails."""

import errno
import fcntl
import logging
import os
import threading

import numpy as np
import pytest
from noise import make_source
from ordinary_user import without_root

from fcn_jax.data import decoded, records


def folder(path, limit=2**30, data='noise 1'):
  return decoded.Folder(path, limit, data)


def split_of(source, at, **options):
  """A split of one of several runs."""
  return records.Records(source, room=options.pop('room', 2**30), threads=2, folder=at, split='train')


def assert_right(split):
  """The images are those that the records of `make_source` have."""
  plain = records.Records(make_source(), room=0)
  for i in range(len(plain)):
    found, expected = split[i], plain[i]
    assert found['id'] == expected['id']
    np.testing.assert_array_equal(found['inputs']['rgb'], expected['inputs']['rgb'])
    np.testing.assert_array_equal(found['labels']['semantic'], expected['labels']['semantic'])


def test_the_second_run_maps_the_file_of_the_first(tmp_path):
  first, second = make_source(), make_source()
  assert_right(split_of(first, folder(tmp_path)))
  (path,) = tmp_path.iterdir()
  split = split_of(second, folder(tmp_path))
  assert_right(split)
  assert not second.reads and split.ids()[3] == 'image_3' and split.is_decoded
  assert list(tmp_path.iterdir()) == [path]
  with pytest.raises(ValueError, match='read-only'):
    split[0]['inputs']['rgb'][0] = 0


def test_runs_that_start_together_decode_once(tmp_path):
  sources = [make_source() for _ in range(4)]
  threads = [threading.Thread(target=assert_right, args=[split_of(x, folder(tmp_path))]) for x in sources]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert sorted(sum(source.reads.values()) for source in sources) == [0, 0, 0, 2 * len(sources[0])]
  assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize('kept', [0, 10, -1], ids=['empty', 'head', 'almost_whole'])
def test_a_damaged_file_is_written_again(tmp_path, kept):
  assert_right(split_of(make_source(), folder(tmp_path)))
  (path,) = tmp_path.iterdir()
  whole = path.read_bytes()
  path.write_bytes(whole[:kept])
  assert_right(split_of(make_source(), folder(tmp_path)))
  assert path.read_bytes() == whole


def test_other_data_and_another_room_have_other_images(tmp_path):
  """A file is for one data set. A run with less room uses a part of it, and does not write it again."""
  split_of(make_source(count=3), folder(tmp_path, data='noise 2'))[0]
  assert_right(split_of(make_source(), folder(tmp_path)))
  assert len(list(tmp_path.iterdir())) == 2
  source = make_source()
  split = split_of(source, folder(tmp_path), room=20000)
  assert_right(split)
  assert_right(split)
  assert source.reads[0] == 0 < source.reads[22] and not split.is_decoded
  assert len(list(tmp_path.iterdir())) == 2


def test_files_of_other_data_are_removed_if_all_would_be_too_large(tmp_path):
  """The one that was not used for longest goes first; a run that has mapped it goes on."""
  splits, mine = {}, tmp_path / 'mine.images'
  mine.touch()
  for number in range(3):
    splits[number] = split_of(make_source(), folder(tmp_path, data=f'noise {number}'))
    splits[number][0]
    path = folder(tmp_path, data=f'noise {number}').file('train')
    os.utime(path, (number, number))
  size = path.stat().st_size
  split_of(make_source(), folder(tmp_path, data='noise 0'))[0]  # is used now
  split_of(make_source(), folder(tmp_path, 3.5 * size, data='noise 3'))[0]
  left = {number: folder(tmp_path, data=f'noise {number}').file('train').exists() for number in range(4)}
  assert left == {0: True, 1: False, 2: True, 3: True}
  assert_right(splits[1])
  assert mine.exists()


def logged(caplog) -> str:
  return ' '.join(entry.getMessage() for entry in caplog.records if entry.name.startswith('fcn_jax'))


def test_a_folder_that_cannot_be_written_is_named_and_replaced_by_memory(tmp_path, caplog):
  tmp_path.chmod(0o555)
  with caplog.at_level(logging.INFO, logger='fcn_jax'), without_root():
    assert_right(split_of(make_source(), folder(tmp_path / 'decoded')))
  assert f'cannot write {tmp_path}/decoded: Permission denied; set data.cache_dir' in logged(caplog)


def test_the_file_of_another_user_is_mapped(tmp_path):
  assert_right(split_of(make_source(), folder(tmp_path)))
  (path,) = tmp_path.iterdir()
  os.chown(path, 12345, 12345)
  path.chmod(0o444)
  tmp_path.chmod(0o555)
  second = make_source()
  with without_root():
    assert_right(split_of(second, folder(tmp_path)))
  assert not second.reads


def test_on_a_disk_without_locks_images_stay_in_memory(tmp_path, caplog, monkeypatch):
  """Another machine may map the same file, and a run there would end if it were replaced or removed."""

  def refused(*_):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', refused)
  with caplog.at_level(logging.INFO, logger='fcn_jax'):
    assert_right(split_of(make_source(), folder(tmp_path)))
  assert 'No locks available; set data.cache_dir' in logged(caplog) and not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_file(tmp_path, caplog, monkeypatch):
  def full(_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', full)
  with caplog.at_level(logging.INFO, logger='fcn_jax'):
    assert_right(split_of(make_source(), folder(tmp_path)))
  assert 'No space left on device' in logged(caplog) and not list(tmp_path.iterdir())
