"""VOC and SBD: small archives in the official layouts are read exactly; errors name the faulty file."""

import functools
import io
import sys
import tarfile

import numpy as np
import pytest
import scipy.io
import tiny
from image_contents import png
from PIL import Image

from fcn_jax import config as config_lib
from fcn_jax import train
from fcn_jax.data import dataset
from fcn_jax.data.builders import voc, voc2011_sbd
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError

# Small lists that overlap like the real ones: two images of VOC 2011 val are in SBD train.
LISTS = {
  2011: {'train': ['a1', 'a2', 'a3'], 'val': ['b1', 'b2', 'b3', 'b4']},
  2012: {'train': ['a1', 'a2', 'a3', 'c1'], 'val': ['b1', 'b2']},
  'sbd': {'train': ['a1', 'b1', 'b2', 'd1', 'd2'], 'val': ['a2', 'd3']},
}
URLS = {2011: 'VOCtrainval_25-May-2011.tar', 2012: 'VOCtrainval_11-May-2012.tar', 'sbd': 'benchmark.tgz'}


@pytest.fixture(autouse=True)
def small(monkeypatch):
  counts = {kind: {name: len(ids) for name, ids in lists.items()} for kind, lists in LISTS.items()}
  monkeypatch.setattr(voc, 'COUNTS', counts)
  monkeypatch.setattr(voc2011_sbd, 'VALIDATION', 2)


@functools.cache
def drawn(name: str, kind) -> tuple[np.ndarray, np.ndarray]:
  """Image and label of an id; VOC's labels have a border, SBD's have none."""
  rng = np.random.default_rng([ord(letter) for letter in name] + [kind == 'sbd'])
  height, width = rng.integers(20, 40, 2)
  label = np.kron(rng.integers(0, 21, (5, 5), np.uint8), np.ones((8, 8), np.uint8))[:height, :width]
  if kind != 'sbd':
    label = label.copy()
    label[3] = IGNORE
  return rng.integers(0, 256, (height, width, 3), np.uint8), label


def jpeg(image):
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'JPEG', quality=95)
  return buffer.getvalue()


def palette_png(label):
  opened, buffer = Image.fromarray(label), io.BytesIO()
  opened.putpalette([x for color in voc.CLASSES.palette for x in color])
  opened.save(buffer, 'PNG')
  return buffer.getvalue()


def mat(label):
  """Like a file of Matlab: a struct with further fields."""
  buffer = io.BytesIO()
  scipy.io.savemat(buffer, {'GTcls': {'Boundaries': np.zeros((2, 2)), 'Segmentation': label, 'CategoriesPresent': [1]}})
  return buffer.getvalue()


def contents(kind) -> dict[str, bytes]:
  """The members of an archive, in the order of the original: lists between other files."""
  ids = sorted({name for names in LISTS[kind].values() for name in names})
  if kind == 'sbd':
    root = 'benchmark_RELEASE/dataset'
    files = {f'{root}/cls/{name}.mat': mat(drawn(name, kind)[1]) for name in ids}
    files |= {f'{root}/img/{name}.jpg': jpeg(drawn(name, kind)[0]) for name in [*ids, 'unused']}
    return files | {f'{root}/{name}.txt': '\n'.join(names).encode() for name, names in LISTS[kind].items()}
  root = f'{"TrainVal/" if kind == 2011 else ""}VOCdevkit/VOC{kind}'
  files = {f'{root}/Annotations/a1.xml': b'<annotation/>'}
  for name, names in LISTS[kind].items():
    files[f'{root}/ImageSets/Segmentation/{name}.txt'] = '\n'.join([*names, '']).encode()
    files[f'{root}/ImageSets/Main/{name}.txt'] = b'other tasks have more'
  files |= {f'{root}/JPEGImages/{name}.jpg': jpeg(drawn(name, kind)[0]) for name in [*ids, 'unused']}
  return files | {f'{root}/SegmentationClass/{name}.png': palette_png(drawn(name, kind)[1]) for name in ids}


def pack(folder, kind, **changes) -> str:
  """Writes an archive; `changes` replaces members, by file name with _ for the dot, or leaves them out (None)."""
  path = folder / URLS[kind]
  with tarfile.open(path, 'w:gz' if kind == 'sbd' else 'w') as archive:
    for name, content in contents(kind).items():
      short = name.rpartition('/')[2].replace('.', '_')
      content = changes.get(short, content)
      if content is not None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
  return str(path)


def settings(name: str, folder, **archives):
  config = config_lib.default(name)
  config.data.dir = str(folder / 'data')
  for field, path in archives.items():
    config.data[field] = path
  return config


def assert_images(split, names, kind):
  assert sorted(split.ids()) == sorted(names)
  for found in (split[i] for i in range(len(split))):
    image, label = drawn(found['id'], kind)
    assert np.array_equal(found['labels']['semantic'], label)
    assert np.array_equal(found['inputs']['rgb'], np.asarray(Image.open(io.BytesIO(jpeg(image)))))


@pytest.mark.parametrize('year', [2011, 2012])
def test_voc_is_read_exactly(tmp_path, year):
  config = settings(f'voc{year}', tmp_path, archive=pack(tmp_path, year))
  data = dataset.load(config.data)
  assert (data.inputs, data.heads) == dataset.describe(config.data) == ({'rgb': 3}, {'semantic': voc.CLASSES})
  assert len(voc.CLASSES) == 21
  assert (data.held_out, data.watched) == ('validation', 'validation')
  assert_images(data.splits['train'], LISTS[year]['train'], year)
  assert_images(data.splits['validation'], LISTS[year]['val'], year)


def test_sbd_is_read_exactly(tmp_path):
  data = dataset.load(settings('sbd', tmp_path, sbd_archive=pack(tmp_path, 'sbd')).data)
  assert_images(data.splits['train'], LISTS['sbd']['train'], 'sbd')
  assert_images(data.splits['validation'], LISTS['sbd']['val'], 'sbd')


def both(folder, **changes):
  return settings('voc2011_sbd', folder, archive=pack(folder, 2011, **changes), sbd_archive=pack(folder, 'sbd'))


def test_the_papers_split_trains_on_sbd_and_validates_on_the_rest_of_voc(tmp_path):
  data = dataset.load(both(tmp_path).data)
  assert_images(data.splits['train'], LISTS['sbd']['train'], 'sbd')
  assert_images(data.splits['validation'], ['b3', 'b4'], 2011)  # b1 and b2 are training images


def test_another_number_of_validation_images_is_an_error(tmp_path, monkeypatch):
  monkeypatch.setattr(voc2011_sbd, 'VALIDATION', 3)
  with pytest.raises(UserError, match='2 images of VOC 2011 val are not in SBD train; expected 3'):
    dataset.load(both(tmp_path).data)
  assert not list((tmp_path / 'data').rglob('*.array_record*'))


def test_classes_have_the_official_order_and_colors():
  palette = voc.CLASSES.palette
  assert palette[:3] == ((0, 0, 0), (128, 0, 0), (0, 128, 0)) and palette[15] == (192, 128, 128)
  assert voc.CLASSES.names[15] == 'person'


@pytest.mark.parametrize(
  ('kind', 'changes', 'sentence'),
  [
    (2012, {'a2_png': None}, 'has no file for a2 in SegmentationClass, but a2 is in its list train'),
    (2012, {'b1_jpg': None}, 'has no file for b1 in JPEGImages'),
    (2012, {'b1_jpg': b'not a jpeg'}, 'cannot read .*b1.jpg: its content is unknown; expected JPEG'),
    (2012, {'a1_png': b'no mask'}, 'cannot read .*a1.png: its content is unknown; expected PNG'),
    (2012, {'a1_png': jpeg(drawn('a1', 2012)[0])}, 'cannot read .*a1.png: its content is JPEG; expected PNG'),
    (2012, {'a1_png': png(4, 1, 2, 0, b'\0\x1b')}, 'cannot read .*a1.png: it is gray with less than 8 bits'),
    (
      2012,
      {'b1_jpg': palette_png(np.zeros((3, 4), np.uint8))},
      'cannot read .*b1.jpg: its content is PNG; expected JPEG',
    ),
    (2012, {'a1_png': palette_png(np.full((3, 4), 1, np.uint8))}, r'a1.png is \[3, 4\]; expected \['),
    (2012, {'a1_png': palette_png(np.full(drawn('a1', 2012)[1].shape, 21, np.uint8))}, 'has the class 21'),
    (2012, {'a1_png': palette_png(np.zeros((3, 4, 3), np.uint8)[..., 0]).replace(b'PNG', b'GNP')}, 'cannot read'),
    (2012, {'val_txt': b'b1\n'}, 'lists 1 images for val; expected 2'),
    (2012, {'val_txt': b'b1\nb1\n'}, 'lists 1 images for val; expected 2'),
    (2012, {'val_txt': b'b1\n../b2\n'}, "lists the image '../b2' for val"),
    ('sbd', {'d1_mat': b'no matlab'}, 'd1.mat cannot be read as a Matlab file with GTcls.Segmentation'),
    ('sbd', {'d1_mat': None}, 'has no file for d1 in cls'),
    ('sbd', {'train_txt': None}, 'lists 0 images for train; expected 5'),
  ],
  ids=str,
)
def test_an_error_names_the_faulty_file_and_nothing_is_left_behind(tmp_path, kind, changes, sentence):
  name, field = ('sbd', 'sbd_archive') if kind == 'sbd' else (f'voc{kind}', 'archive')
  config = settings(name, tmp_path, **{field: pack(tmp_path, kind, **changes)})
  with pytest.raises(UserError, match=sentence):
    dataset.load(config.data)
  assert not list((tmp_path / 'data').rglob('*.array_record*'))


def test_a_mask_in_rgb_is_refused(tmp_path):
  buffer = io.BytesIO()
  Image.fromarray(drawn('a1', 2012)[0]).save(buffer, 'PNG')
  config = settings('voc2012', tmp_path, archive=pack(tmp_path, 2012, a1_png=buffer.getvalue()))
  with pytest.raises(UserError, match=r'a1.png: its color mode is RGB; expected class numbers'):
    dataset.load(config.data)


def test_offline_the_error_names_the_setting_for_a_local_archive(tmp_path, monkeypatch):
  monkeypatch.setattr(voc, 'URLS', {2011: f'http://127.0.0.1:1/{URLS[2011]}', 2012: ''})
  monkeypatch.setattr(voc, 'SBD_URL', 'http://127.0.0.1:1/benchmark.tgz')
  with pytest.raises(UserError, match=r'--config.data.archive=/path/VOCtrainval_25-May-2011.tar'):
    dataset.load(settings('voc2011', tmp_path).data)
  with pytest.raises(UserError, match=r'--config.data.sbd_archive=/path/benchmark.tgz'):
    dataset.load(settings('sbd', tmp_path).data)


@pytest.mark.slow
def test_a_run_on_the_papers_split_trains_and_scores(tmp_path):
  config = both(tmp_path)
  changed = tiny.SETTINGS | {'train.steps': 2, 'optim.warmup': 0, 'eval.every': 0, 'data.train_size': (32, 32)}
  config.update_from_flattened_dict(changed | {'model.stride': 32})
  config_lib.validate(config)
  assert train.run(config, str(tmp_path / 'run')) == 0
  scores = tmp_path / 'run' / 'eval' / 'validation.json'
  before = scores.read_text()
  scores.unlink()
  done = tiny.run([sys.executable, '-m', 'fcn_jax.evaluate', f'--workdir={tmp_path}/run'])
  assert done.returncode == 0, done.stderr
  assert scores.read_text() == before and '"images": 2' in before
