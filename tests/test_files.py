"""Files are written completely or not at all."""

import errno
import os
import pathlib

import pytest
from etils import epath

from fcn_jax import files
from fcn_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
  """A path of the type that a run directory has, which may also be in a bucket."""
  return epath.Path(tmp_path)


def names(folder):
  return sorted(os.listdir(folder))


@pytest.mark.parametrize('content', ['täglich\n', b'\x00\xff'])
def test_write_makes_folders_and_no_other_file(folder, content):
  files.write(folder / 'a' / 'b' / 'file', content)
  assert (folder / 'a' / 'b' / 'file').read_bytes() == (content if isinstance(content, bytes) else content.encode())
  assert names(folder / 'a' / 'b') == ['file']


@pytest.mark.parametrize('method', ['write_bytes', 'replace'])
def test_a_full_disk_leaves_the_old_file_and_no_other(folder, monkeypatch, method):
  files.write(folder / 'file', 'old')

  def full(path, content):
    if method == 'write_bytes':
      pathlib.Path(path).write_bytes(content[:2])  # the part that fits
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(type(folder), method, full)
  with pytest.raises(
    UserError, match=r'cannot write .*/file: No space left on device; the previous file, if any, is intact'
  ):
    files.write(folder / 'file', 'the new one')
  assert names(folder) == ['file'] and (folder / 'file').read_text() == 'old'


def test_readers_never_see_half_a_file(folder, monkeypatch):
  """A rename replaces the file, from a name in the same folder: a rename across file systems would be a copy."""
  files.write(folder / 'file', 'old')
  replace, seen = type(folder).replace, []

  def watched(source, target):
    seen.append((source.parent == target.parent, target.read_text(), source.read_text()))
    return replace(source, target)

  monkeypatch.setattr(type(folder), 'replace', watched)
  files.write(folder / 'file', 'new')
  assert seen == [(True, 'old', 'new')] and (folder / 'file').read_text() == 'new'


@pytest.mark.parametrize('place', ['file/run', 'file'])
def test_a_folder_that_is_a_file_is_a_user_error(folder, place):
  (folder / 'file').write_text('not a folder')
  with pytest.raises(UserError, match=r'cannot write .*/status\.json: '):
    files.write(folder / place / 'status.json', '{}')
  assert (folder / 'file').read_text() == 'not a folder'


def test_a_folder_that_cannot_be_made_is_a_user_error():
  with pytest.raises(UserError, match=r'cannot write /proc/run/status\.json: '):
    files.write(epath.Path('/proc/run/status.json'), '{}')


def test_read_json_returns_the_default_only_if_there_is_no_file(folder):
  assert files.read_json(folder / 'none.json', {'a': 1}) == {'a': 1}
  files.write_json(folder / 'some.json', [1, None, 'x'])
  assert files.read_json(folder / 'some.json', {}) == [1, None, 'x']


def test_temporary_files_of_a_killed_process_are_removed_and_no_others(folder):
  files.write(folder / 'eval' / 'file', 'whole')
  (folder / 'eval' / '.file.123.tmp').write_text('ha')
  files.remove_leftovers(folder)
  assert names(folder / 'eval') == ['file']


def test_a_bucket_is_remote_and_a_disk_is_not(folder):
  assert files.is_remote('gs://bucket/run') and files.is_remote(epath.Path('gs://bucket/run'))
  assert not files.is_remote(folder) and not files.is_remote('runs/fcn8s')
