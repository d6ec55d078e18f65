"""The archive is read exactly, refused where it is not whole or not safe; nothing stays of a try that failed."""

import contextlib
import functools
import gzip
import http.server
import io
import pathlib
import re
import socket
import tarfile
import threading
import time
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fcn_jax import config
from fcn_jax.data import archives
from fcn_jax.data.builders import scenes, stanford_background
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError

COUNT = 15  # pictures of the small archives, three a fold
FOLDER = 'iccv09Data'
REAL = pathlib.Path(__file__).parents[4] / 'shared' / 'data' / 'iccv09Data.tar.gz'
KINDS = {'regions': 8, 'surfaces': 3}


def encode(pixels, file_format='JPEG'):
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, file_format)
  return buffer.getvalue()


def text(label):
  return ''.join(' '.join(map(str, row)) + '\n' for row in label).encode()


@functools.cache
def contents():
  """A small archive in the official layout: the bytes of each member, and the labels by kind and id."""
  rng, members, labels = np.random.default_rng(0), {f'{FOLDER}/README': b'hello'}, {kind: {} for kind in KINDS}
  for number in range(COUNT):
    name, (height, width) = f'{1000 * number:07d}', rng.integers(4, 20, 2)
    members[f'{FOLDER}/images/{name}.jpg'] = encode(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    members[f'{FOLDER}/labels/{name}.layers.txt'] = b'not looked at'
    for kind, classes in KINDS.items():
      labels[kind][name] = label = rng.integers(-1, classes, (height, width))
      members[f'{FOLDER}/labels/{name}.{kind}.txt'] = text(label)
  return members, labels


PICTURE, REGIONS = f'{FOLDER}/images/0004000.jpg', f'{FOLDER}/labels/0004000.regions.txt'


def pack(path, changes=None, *, extra=(), mode='w:gz', prefix=''):
  """Writes the small archive: `changes` replaces members, or leaves them out (None); `extra` adds TarInfos."""
  with tarfile.open(path, mode) as archive:
    for name, data in (contents()[0] | (changes or {})).items():
      if data is not None:
        member = tarfile.TarInfo(prefix + name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    for member in extra:
      archive.addfile(member)
  return path


def build(folder, archive='', kind='regions'):
  """The builder, prepared in a folder."""
  tfds.disable_progress_bar()
  builder = stanford_background.StanfordBackground(
    archive=str(archive), config=kind, data_dir=folder, file_format='array_record'
  )
  builder.download_and_prepare()
  return builder


@pytest.fixture
def prepare(tmp_path, monkeypatch):
  """Prepares a small archive in tmp_path/data and returns the builder."""
  monkeypatch.setattr(stanford_background, 'IMAGES', COUNT)
  return functools.partial(build, tmp_path / 'data')


def read(builder, split):
  """The undecoded records of a split by id."""
  raw = {name: tfds.decode.SkipDecoding() for name in ('image', 'label')}
  source = builder.as_data_source(split, decoders=raw)
  return {source[i]['id'].decode(): source[i] for i in range(len(source))}


def pixels(record):
  return np.asarray(Image.open(io.BytesIO(record['label'])))


def left_behind(folder):
  """All but empty folders and the file in which TFDS notes which config is the default."""
  paths = [path for path in folder.rglob('*') if path.is_file() or 'incomplete' in path.name or '.tmp.' in path.name]
  return [path for path in paths if path.parent.name != '.config']


@pytest.fixture
def refused(prepare, tmp_path):
  """Prepares what cannot be prepared: the message, which must be a sentence; nothing stays, and another try works."""

  def refused(archive='', kind='regions'):
    with pytest.raises(UserError) as caught:
      prepare(archive, kind)
    message = str(caught.value)
    assert '\n' not in message and 'Error' not in message and len(message) < 600, message
    assert not left_behind(tmp_path / 'data')
    assert prepare(pack(tmp_path / 'good.tar.gz'), kind).is_prepared()
    return message

  return refused


def assert_in_order(message, *parts):
  assert re.search('.*'.join(map(re.escape, parts)), message), message


@pytest.mark.parametrize('kind', KINDS)
def test_folds_labels_and_images_are_those_of_the_archive(prepare, tmp_path, kind):
  builder = prepare(pack(tmp_path / 'good.tar.gz'), kind)
  members, labels = contents()
  for fold in range(5):
    records = read(builder, f'fold{fold}')
    assert sorted(records) == sorted(labels[kind])[fold::5]
    for name, record in records.items():
      assert record['image'] == members[f'{FOLDER}/images/{name}.jpg']
      expected = labels[kind][name]
      assert np.array_equal(pixels(record), np.where(expected < 0, IGNORE, expected))
  decoded = builder.as_data_source('fold1')[0]
  assert decoded['image'].shape[:2] == decoded['label'].shape[:2] and decoded['label'].shape[2] == 1


@pytest.mark.parametrize('kind', KINDS)
def test_each_config_has_names_and_colours_of_its_own(tmp_path, kind):
  builder = stanford_background.StanfordBackground(config=kind, data_dir=tmp_path)
  assert len(builder.CLASSES) == len(set(builder.PALETTE)) == len(builder.PALETTE) == KINDS[kind]
  assert builder.CLASSES[0] == 'sky'
  if kind == 'regions':
    assert builder.PALETTE == scenes.Scenes.PALETTE
    assert stanford_background.StanfordBackground(data_dir=tmp_path).builder_config.name == kind, 'the default'


@pytest.mark.parametrize('packing', [{'prefix': './'}, {'mode': 'w'}, {'mode': 'w:bz2'}])
def test_an_archive_may_be_packed_in_other_ways(prepare, tmp_path, packing):
  assert len(read(prepare(pack(tmp_path / 'archive', **packing)), 'fold0')) == 3


BAD_LABELS = {
  'letter': ({0: '1 2 x 4'}, 'row 1 has ', "'x'", 'integers from -1 to 7'),
  'too large': ({2: '1 8 3 4'}, 'row 3 has ', "'8'", 'integers from -1 to 7'),
  'too small': ({2: '-2 1 3 4'}, 'row 3 has ', "'-2'", 'integers from -1 to 7'),
  'not whole': ({1: '1 2.0 3 4'}, 'row 2 has ', "'2.0'", 'integers from -1 to 7'),
  'binary': ({1: '1 \0\xff 3 4'}, 'row 2 has ', 'integers from -1 to 7'),
  'short row': ({1: '1 2 3'}, 'row 2 has 3 numbers', 'expected 4'),
  'long row': ({1: '1 2 3 4 5'}, 'row 2 has 5 numbers', 'expected 4'),
  'empty row': ({1: ''}, 'row 2 has 0 numbers', 'expected 4'),
  'one row too many': ({3: '1 2 3 4'}, 'has 4 rows', 'expected 3'),
}


def label_of_4x3(changes, last=3):
  rows = dict.fromkeys(range(last), '1 2 3 4') | changes
  picture = encode(np.zeros((3, 4, 3), np.uint8))
  return {PICTURE: picture, REGIONS: '\n'.join(rows.values()).encode('latin1') + b'\n'}


@pytest.mark.parametrize(('changes', *'abc'), [(*case, '')[:4] for case in BAD_LABELS.values()], ids=BAD_LABELS)
def test_a_bad_label_is_refused_by_member_and_row(refused, tmp_path, changes, a, b, c):
  archive = pack(tmp_path / 'bad.tar.gz', label_of_4x3(changes))
  assert_in_order(refused(archive), str(archive), REGIONS, a, b, c)


@pytest.mark.parametrize('last', [0, 2])
def test_a_label_with_rows_missing_is_refused(refused, tmp_path, last):
  changes = label_of_4x3({}, last=last)
  changes[REGIONS] = changes[REGIONS].lstrip()
  archive = pack(tmp_path / 'bad.tar.gz', changes)
  assert_in_order(refused(archive), str(archive), REGIONS, f'has {last} rows', 'expected 3')


def test_surfaces_have_three_classes_and_do_not_look_at_regions(refused, prepare, tmp_path):
  member = REGIONS.replace('regions', 'surfaces')
  archive = pack(tmp_path / 'bad.tar.gz', label_of_4x3({}) | {member: b'1 2 3 -1\n' * 3})
  assert_in_order(refused(archive, 'surfaces'), member, 'row 1', "'3'", 'integers from -1 to 2')
  prepare(pack(tmp_path / 'good.tar.gz', {REGIONS: b'nonsense'}), 'surfaces')


SIZED = np.zeros((3, 4, 3), np.uint8)
BAD_PICTURES = {
  'empty': (b'', '0 bytes that do not decode', 'JPEG'),
  'truncated': (encode(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))[:-200], 'do not decode'),
  'PNG': (encode(SIZED, 'PNG'), 'do not decode', 'JPEG'),
  'grey': (encode(SIZED[..., 0]), 'colours L', 'RGB'),
}


@pytest.mark.parametrize(('picture', *'ab'), [(*case, '')[:3] for case in BAD_PICTURES.values()], ids=BAD_PICTURES)
def test_a_bad_picture_is_refused_by_member(refused, tmp_path, picture, a, b):
  archive = pack(tmp_path / 'bad.tar.gz', label_of_4x3({}) | {PICTURE: picture})
  assert_in_order(refused(archive), str(archive), PICTURE, a, b)


def test_a_huge_member_is_refused_before_it_is_read(refused, tmp_path, monkeypatch):
  monkeypatch.setattr(archives, 'LARGEST', 2000)
  archive = pack(tmp_path / 'bad.tar.gz', {REGIONS: b'1 ' * 5000})
  assert_in_order(refused(archive), REGIONS, '10000 bytes', 'at most 2000')


@pytest.mark.parametrize('member', [PICTURE, REGIONS])
def test_what_is_missing_is_named(refused, tmp_path, member):
  archive = pack(tmp_path / 'bad.tar.gz', {member: None})
  assert_in_order(refused(archive), str(archive), f'has no {member}', f'expected {COUNT} pictures')


def test_another_number_of_pictures_is_refused(refused, tmp_path):
  archive = pack(tmp_path / 'bad.tar.gz', {PICTURE: None, REGIONS: None})
  assert_in_order(refused(archive), str(archive), f'has {COUNT - 1} pictures', f'expected {COUNT} pictures')


def test_another_layout_is_refused(refused, tmp_path):
  archive = pack(tmp_path / 'bad.tar.gz', prefix='data/')
  assert_in_order(refused(archive), str(archive), 'has 0 pictures', 'iccv09Data/images/ID.jpg')


def test_a_missing_archive_is_named(refused, tmp_path):
  assert_in_order(refused(tmp_path / 'none.tar.gz'), 'there is no archive', 'none.tar.gz', stanford_background.URL)


def cut(share):
  return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def without_the_last_block(path):
  """Whole for gzip, but the tar in it ends within a member."""
  data = gzip.decompress(path.read_bytes())
  path.write_bytes(gzip.compress(data[: len(data) // 1024 * 512 + 100]))


def damaged(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 255
  path.write_bytes(data)


SPOILT = {
  'empty': lambda path: path.write_bytes(b''),
  'text': lambda path: path.write_text('<html>Please log in</html>' * 100),
  'folder': lambda path: (path.unlink(), path.mkdir()),
  'cut early': lambda path: path.write_bytes(path.read_bytes()[:15]),
  'cut in the middle': cut(0.5),
  'cut at the checksum': lambda path: path.write_bytes(path.read_bytes()[:-4]),
  'tar cut': without_the_last_block,
  'damaged': damaged,
}


@pytest.mark.parametrize('spoil', SPOILT.values(), ids=SPOILT)
def test_an_archive_that_is_not_whole_is_refused(refused, tmp_path, spoil):
  archive = pack(tmp_path / 'bad.tar.gz')
  spoil(archive)
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
  'hard link': (special(f'{FOLDER}/evil', tarfile.LNKTYPE, PICTURE), 'is a link'),
  'device': (special(f'{FOLDER}/evil', tarfile.CHRTYPE), 'is a device'),
  'pipe': (special(f'{FOLDER}/evil', tarfile.FIFOTYPE), 'or a pipe'),
}


@pytest.mark.parametrize(('member', 'found'), ESCAPES.values(), ids=ESCAPES)
def test_a_member_that_would_leave_its_folder_is_refused(refused, tmp_path, member, found):
  archive = pack(tmp_path / 'bad.tar.gz', extra=[member])
  assert_in_order(refused(archive), str(archive), repr(member.name), found, 'expected plain files')


def test_the_manual_directory_is_looked_in(prepare, tmp_path, monkeypatch):
  monkeypatch.setattr(stanford_background, 'URL', 'http://127.0.0.1:1/iccv09Data.tar.gz')
  folder = tmp_path / 'data' / 'downloads' / 'manual'
  folder.mkdir(parents=True)
  pack(folder / 'iccv09Data.tar.gz')
  assert len(read(prepare(), 'fold4')) == 3


@pytest.fixture
def serve(tmp_path, monkeypatch):
  """A server at `stanford.URL`: serve(status, body, length) says what it answers; its attribute `asked`, what came."""
  answer = {}

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      self.do_HEAD()
      self.wfile.write(answer['body'])

    def do_HEAD(self):
      serve.asked.append(self.command)
      self.send_response(answer['status'])
      self.send_header('Content-Length', answer['length'])
      self.end_headers()

    def log_message(self, *_):
      pass

  def serve(status=200, body=b'', length=None):
    answer.update(status=status, body=body, length=str(len(body) if length is None else length))

  serve.asked = []
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    monkeypatch.setattr(stanford_background, 'URL', f'http://127.0.0.1:{server.server_port}/data/iccv09Data.tar.gz')
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05})
    thread.start()
    yield serve
    server.shutdown()
    thread.join()


def test_the_archive_is_downloaded_once_for_both_configs(prepare, serve, tmp_path):
  other = tmp_path / 'data' / 'downloads' / 'manual' / 'of_another_data_set.zip'
  other.parent.mkdir(parents=True)
  other.touch()
  serve(body=pack(tmp_path / 'served').read_bytes())
  for kind in KINDS:
    assert len(read(prepare(kind=kind), 'fold2')) == 3
  assert serve.asked == ['HEAD', 'GET'], 'what was downloaded is enough for the second, even offline'


def test_a_download_that_fails_leaves_nothing_and_is_tried_again(prepare, serve, tmp_path):
  good = pack(tmp_path / 'served').read_bytes()
  tries = {
    'HTTP code: 404': {'status': 404},
    'bytes read': {'body': good[:100], 'length': len(good)},
    'is removed': {'body': b'<html>Please log in</html>'},
    'has no iccv09Data/images/0004000.jpg': {'body': pack(tmp_path / 'bad', {PICTURE: None}).read_bytes()},
  }
  for found, answer in tries.items():
    serve(**answer)
    with pytest.raises(UserError, match=found) as caught:
      prepare()
    assert stanford_background.URL in str(caught.value)
    assert not left_behind(tmp_path / 'data')
  serve(body=good)
  assert len(read(prepare(), 'fold2')) == 3


def test_offline_the_way_out_is_said_at_once(refused, monkeypatch):
  with contextlib.closing(socket.socket()) as taken:  # bound, but nobody listens
    taken.bind(('127.0.0.1', 0))
    monkeypatch.setattr(stanford_background, 'URL', f'http://127.0.0.1:{taken.getsockname()[1]}/iccv09Data.tar.gz')
    start = time.monotonic()
    message = refused()
    assert time.monotonic() - start < 20, 'TFDS alone tries for more than three minutes'
  assert_in_order(
    message, f'cannot download {stanford_background.URL}', 'refused', '--config.data.archive=/path/iccv09Data.tar.gz'
  )


def splits(fold, val_fraction):
  return stanford_background.splits(types.SimpleNamespace(fold=fold, val_fraction=val_fraction))


@pytest.mark.parametrize('val_fraction', [0.0, 0.01, 0.3, 0.5, 0.99])
def test_the_parts_of_a_fold_are_disjoint_and_complete(prepare, tmp_path, val_fraction):
  builder = prepare(pack(tmp_path / 'good.tar.gz'))
  everything = sorted(contents()[1]['regions'])
  for fold in range(5):
    parts = {name: set(read(builder, split)) for name, split in splits(fold, val_fraction).items()}
    assert sorted(parts) == sorted(['train', 'test', 'validation'][: 3 if val_fraction else 2])
    assert sorted(name for part in parts.values() for name in part) == everything
    assert sorted(parts['test']) == everything[fold::5]
    assert all(parts.values())
    if val_fraction:  # of three a fold, at least one and never all
      assert len(parts['validation']) == 4 * max(1, min(2, round(3 * val_fraction)))


def test_real_sizes_are_split_as_said():
  assert splits(1, 0.1)['validation'] == 'fold0[:14]+fold2[:14]+fold3[:14]+fold4[:14]'
  assert splits(1, 0.1)['train'] == 'fold0[14:]+fold2[14:]+fold3[14:]+fold4[14:]'


@pytest.mark.parametrize('setting', [{'data.fold': 5}, {'data.fold': -1}, {'data.val_fraction': 1.0}])
def test_a_fold_or_a_share_that_is_none_is_refused(setting):
  settings = config.default('stanford_background')
  settings.update_from_flattened_dict(setting)
  (field,) = setting
  with pytest.raises(UserError, match=f'{field} is '):
    config.validate(settings)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason=f'there is no {REAL}')
def test_the_real_archive_has_the_published_numbers(tmp_path):
  """Where these numbers move, the labels are read wrongly, or the archive is not Gould's."""
  builder, counts, sizes, ids = build(tmp_path, REAL), np.zeros(256, np.int64), [], set()
  for fold in range(5):
    records = read(builder, f'fold{fold}')
    assert len(records) == 143
    ids |= set(records)
    for record in records.values():
      label = pixels(record)
      sizes.append(label.shape)
      counts += np.bincount(label.ravel(), minlength=256)
  assert len(ids) == 715 and len(set(sizes)) == 51 and sizes.count((240, 320)) == 531
  shares = 100 * counts / counts.sum()
  expected = np.array([14.48, 14.02, 22.52, 6.85, 4.00, 22.61, 1.34, 13.66])
  assert np.all(abs(shares[:8] - expected) < 0.006) and abs(shares[IGNORE] - 0.51) < 0.006, shares[[*range(8), IGNORE]]
