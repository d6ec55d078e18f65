"""Files are written completely or not at all."""

import errno
import os
import pathlib
import socket
import sys

import pytest
from etils import epath
from ordinary_user import without_root

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


@pytest.mark.parametrize('method', ['open', 'replace'])
def test_a_full_disk_leaves_the_old_file_and_no_other(folder, monkeypatch, method):
  files.write(folder / 'file', 'old')

  def full(path, *_):
    if method == 'open':
      pathlib.Path(path).write_bytes(b'th')  # the part that fits
    raise OSError(errno.ENOSPC, 'No space left on device')

  message = r'cannot write .*/file: No space left on device; the previous file, if any, is intact'
  with monkeypatch.context() as patch, pytest.raises(UserError, match=message):
    patch.setattr(type(folder), method, full)
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


@pytest.mark.parametrize(
  ('content', 'fault'), [('', 'empty'), ('  \n', 'empty'), ('{"a": ', 'damaged'), (b'\xff\xfe', 'damaged')]
)
def test_a_json_file_that_is_empty_or_cut_is_a_user_error_with_a_way_out(folder, content, fault):
  files.write(folder / 'a.json', content)
  with pytest.raises(UserError, match=rf'a\.json is {fault}.*; expected JSON: train again'):
    files.read_json(folder / 'a.json', {}, 'train again')


def test_a_folder_or_a_pipe_in_place_of_a_file_is_a_user_error(folder):
  (folder / 'a.json').mkdir()
  os.mkfifo(folder / 'b.json')
  for name, kind in (('a', 'folder'), ('b', 'device or pipe')):
    with pytest.raises(UserError, match=rf'{name}\.json is a {kind}; expected a file'):
      files.read_json(folder / f'{name}.json', {})


def test_what_may_not_be_read_is_not_missing(folder):
  files.write(folder / 'closed' / 'a.json', '{}')
  os.chmod(folder / 'closed', 0)
  with without_root():
    for use in (files.exists, files.read, lambda path: files.read_json(path, {})):
      with pytest.raises(UserError, match=r'cannot read .*/closed/a\.json: Permission denied'):
        use(folder / 'closed' / 'a.json')
    with pytest.raises(UserError, match=r'cannot write .*/closed/a\.json: Permission denied'):
      files.write(folder / 'closed' / 'a.json', '[]')
  os.chmod(folder / 'closed', 0o700)
  assert files.read_json(folder / 'closed' / 'a.json', None) == {}


def test_a_file_can_have_every_name_that_the_disk_allows(folder):
  for name in ('n' * 255, '\u5b57' * 85, 'a b', 'a\nb', '[1]', "it's", '%s', 'a?b*'):
    files.write(folder / name, name)
    assert files.read(folder / name).decode() == name
  assert len(names(folder)) == 8


def test_temporary_files_of_a_killed_process_are_removed_and_no_others(folder, monkeypatch):
  """A kill between writing and renaming leaves a temporary file."""
  with monkeypatch.context() as patch:
    patch.setattr(type(folder), 'replace', lambda *_: sys.exit('killed'))
    for name in ('status.json', 'eval/deep/a.png'):
      with pytest.raises(SystemExit):
        files.write(folder / name, 'half')
  mine = ['.vim.tmp', '.notes.123.tmp', 'eval/.a.png.123.tmp', '.1-zzzzzzzz.fcn_jax.tmp']
  for name in mine:
    (folder / name).write_text("a user's")
  (folder / '.12-01234567.fcn_jax.tmp').mkdir()
  before = [str(path) for path in pathlib.Path(folder).rglob('*')]
  files.remove_leftovers(folder)
  files.remove_leftovers(folder / 'eval', below=True)
  left = [str(path) for path in pathlib.Path(folder).rglob('*')]
  assert len(before) - len(left) == 2 and all((folder / name).exists() for name in mine)


def test_addresses_that_cannot_be_used_are_refused_at_once(monkeypatch):
  for address in ('s3://bucket/run', 'S3://b/run', 'http://host/run', 'file://host/run', 'gs:/b/run', 'file:/run'):
    with pytest.raises(UserError, match=rf'{address} is an address that cannot be used; expected a path on a disk, or'):
      files.path(address)
  with monkeypatch.context() as patch:
    patch.setitem(sys.modules, 'gcsfs', None)
    for address in ('gs://bucket/run', 'GS://bucket/run'):
      with pytest.raises(UserError, match=r"requires gcsfs, which is not installed; pip install 'fcn_jax\[gcs\]'"):
        files.path(address)


def test_no_network_is_reported_as_no_network(monkeypatch):
  def refused(address, timeout):
    assert address == ('storage.googleapis.com', 443)
    raise socket.gaierror(-3, 'Temporary failure in name resolution')

  for name in ('HTTPS_PROXY', 'https_proxy', 'STORAGE_EMULATOR_HOST'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(socket, 'create_connection', refused)
  with pytest.raises(UserError, match=r'gs://b/run cannot be reached: there is no network connection to storage'):
    files.path('gs://b/run')


def test_paths_on_a_disk_are_taken_as_they_are(tmp_path):
  for given in (tmp_path, str(tmp_path), f'file://{tmp_path}', epath.Path(tmp_path)):
    assert files.path(given) == epath.Path(tmp_path)
  assert files.path('file:///a%20b') == epath.Path('/a b')
  assert files.path('~/a') == epath.Path('~/a').expanduser() != epath.Path('~/a')
  assert os.fspath(files.path('odd:/name')) == 'odd:/name'


def test_an_empty_path_is_not_the_current_folder():
  with pytest.raises(UserError, match="the path '' is empty"):
    files.path('')


def test_a_bucket_is_remote_and_a_disk_is_not(folder):
  assert files.is_remote('gs://bucket/run') and files.is_remote(epath.Path('gs://bucket/run'))
  assert not files.is_remote(folder) and not files.is_remote('runs/fcn8s')
