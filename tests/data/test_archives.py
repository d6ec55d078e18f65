"""Archives are found, downloaded and read; incomplete and unsafe ones are refused, and leave nothing behind."""

import contextlib
import gzip
import socket
import tarfile
import time

import pytest
from small_stanford import FOLDER, IMAGE, KINDS, REGIONS, assert_in_order, left_behind, pack, read

from fcn_jax.data import archives
from fcn_jax.data.builders import stanford_background
from fcn_jax.errors import UserError


@pytest.mark.parametrize('packing', [{'prefix': './'}, {'mode': 'w'}, {'mode': 'w:bz2'}])
def test_an_archive_may_be_packed_in_other_ways(prepare, tmp_path, packing):
  assert len(read(prepare(pack(tmp_path / 'archive', **packing)), 'fold0')) == 3


def test_a_huge_member_is_refused_before_it_is_read(refused, tmp_path, monkeypatch):
  monkeypatch.setattr(archives, 'LARGEST', 2000)
  archive = pack(tmp_path / 'bad.tar.gz', {REGIONS: b'1 ' * 5000})
  assert_in_order(refused(archive), REGIONS, '10000 bytes', 'at most 2000')


def test_a_missing_archive_is_named(refused, tmp_path):
  assert_in_order(refused(tmp_path / 'none.tar.gz'), 'there is no archive', 'none.tar.gz', stanford_background.URL)


def cut(share):
  return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def without_the_last_block(path):
  """Complete for gzip, but the tar in it ends within a member."""
  data = gzip.decompress(path.read_bytes())
  path.write_bytes(gzip.compress(data[: len(data) // 1024 * 512 + 100]))


def damaged(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 255
  path.write_bytes(data)


DAMAGE = {
  'empty': lambda path: path.write_bytes(b''),
  'text': lambda path: path.write_text('<html>Please log in</html>' * 100),
  'folder': lambda path: (path.unlink(), path.mkdir()),
  'cut early': lambda path: path.write_bytes(path.read_bytes()[:15]),
  'cut in the middle': cut(0.5),
  'cut at the checksum': lambda path: path.write_bytes(path.read_bytes()[:-4]),
  'tar cut': without_the_last_block,
  'damaged': damaged,
}


@pytest.mark.parametrize('damage', DAMAGE.values(), ids=DAMAGE)
def test_an_incomplete_or_damaged_archive_is_refused(refused, tmp_path, damage):
  archive = pack(tmp_path / 'bad.tar.gz')
  damage(archive)
  assert_in_order(refused(archive), f'cannot read {archive} as a tar archive', 'expected a copy of')


def special(name, kind=tarfile.REGTYPE, target=''):
  member = tarfile.TarInfo(name)
  member.type, member.linkname = kind, target
  return member


ESCAPES = {
  'absolute': (special('/tmp/evil'), 'would leave'),
  'parent': (special(f'{FOLDER}/images/../../../evil'), 'would leave'),
  'folder': (special('../evil', tarfile.DIRTYPE), 'would leave'),
  'symbolic link': (special(f'{FOLDER}/images/evil.jpg', tarfile.SYMTYPE, '/etc/passwd'), "link to '/etc/passwd'"),
  'hard link': (special(f'{FOLDER}/evil', tarfile.LNKTYPE, IMAGE), 'is a link'),
  'device': (special(f'{FOLDER}/evil', tarfile.CHRTYPE), 'is a device'),
  'pipe': (special(f'{FOLDER}/evil', tarfile.FIFOTYPE), 'or a pipe'),
}


@pytest.mark.parametrize(('member', 'found'), ESCAPES.values(), ids=ESCAPES)
def test_a_member_outside_the_folder_is_refused(refused, tmp_path, member, found):
  archive = pack(tmp_path / 'bad.tar.gz', extra=[member])
  assert_in_order(refused(archive), str(archive), repr(member.name), found, 'expected plain files')


def test_an_archive_in_the_manual_directory_is_found(prepare, tmp_path, monkeypatch):
  monkeypatch.setattr(stanford_background, 'URL', 'http://127.0.0.1:1/iccv09Data.tar.gz')
  folder = tmp_path / 'data' / 'downloads' / 'manual'
  folder.mkdir(parents=True)
  pack(folder / 'iccv09Data.tar.gz')
  assert len(read(prepare(), 'fold4')) == 3


def test_the_archive_is_downloaded_once_for_both_configs(prepare, serve, tmp_path):
  other = tmp_path / 'data' / 'downloads' / 'manual' / 'of_another_data_set.zip'
  other.parent.mkdir(parents=True)
  other.touch()
  serve(body=pack(tmp_path / 'served').read_bytes())
  for kind in KINDS:
    assert len(read(prepare(kind=kind), 'fold2')) == 3
  assert serve.asked == ['HEAD', 'GET'], 'the second uses the download of the first, even offline'


def test_a_failed_download_leaves_nothing_behind_and_is_tried_again(prepare, serve, tmp_path):
  good = pack(tmp_path / 'served').read_bytes()
  tries = {
    'HTTP code: 404': {'status': 404},
    'bytes read': {'body': good[:100], 'length': len(good)},
    'is removed': {'body': b'<html>Please log in</html>'},
    'has no iccv09Data/images/0004000.jpg': {'body': pack(tmp_path / 'bad', {IMAGE: None}).read_bytes()},
  }
  for found, answer in tries.items():
    serve(**answer)
    with pytest.raises(UserError, match=found) as caught:
      prepare()
    assert stanford_background.URL in str(caught.value)
    assert not left_behind(tmp_path / 'data')
  serve(body=good)
  assert len(read(prepare(), 'fold2')) == 3


def test_offline_the_error_comes_at_once_and_says_what_to_do(refused, monkeypatch):
  with contextlib.closing(socket.socket()) as taken:  # bound, but not listening
    taken.bind(('127.0.0.1', 0))
    monkeypatch.setattr(stanford_background, 'URL', f'http://127.0.0.1:{taken.getsockname()[1]}/iccv09Data.tar.gz')
    start = time.monotonic()
    message = refused()
    assert time.monotonic() - start < 20, 'TFDS alone tries for more than three minutes'
  assert_in_order(
    message, f'cannot download {stanford_background.URL}', 'refused', '--config.data.archive=/path/iccv09Data.tar.gz'
  )
