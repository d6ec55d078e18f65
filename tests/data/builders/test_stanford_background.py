"""Stanford Background is read exactly from an archive; faulty labels and images are refused by name."""

import pathlib
import types

import numpy as np
import pytest
from small_stanford import (
  COUNT,
  FOLDER,
  IMAGE,
  KINDS,
  REGIONS,
  assert_in_order,
  build,
  contents,
  encode,
  pack,
  pixels,
  read,
)

from fcn_jax import config
from fcn_jax.data import dataset
from fcn_jax.data.builders import scenes, stanford_background
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError

REAL = pathlib.Path(__file__).parents[4] / 'shared' / 'data' / 'iccv09Data.tar.gz'


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
def test_each_kind_of_label_has_other_classes(kind):
  settings = config.default('stanford_background')
  settings.data.label = kind
  classes = dataset.describe(settings.data)[1]['semantic']
  assert len(classes) == len(set(classes.palette)) == KINDS[kind]
  assert classes.names[0] == 'sky'
  assert (classes == scenes.CLASSES) == (kind == 'regions')


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
  image = encode(np.zeros((3, 4, 3), np.uint8))
  return {IMAGE: image, REGIONS: '\n'.join(rows.values()).encode('latin1') + b'\n'}


@pytest.mark.parametrize(('changes', *'abc'), [(*case, '')[:4] for case in BAD_LABELS.values()], ids=BAD_LABELS)
def test_a_bad_label_is_refused_by_member_and_row(refused, tmp_path, changes, a, b, c):
  archive = pack(tmp_path / 'bad.tar.gz', label_of_4x3(changes))
  assert_in_order(refused(archive), str(archive), REGIONS, a, b, c)


@pytest.mark.parametrize('last', [0, 2])
def test_a_label_with_missing_rows_is_refused(refused, tmp_path, last):
  changes = label_of_4x3({}, last=last)
  changes[REGIONS] = changes[REGIONS].lstrip()
  archive = pack(tmp_path / 'bad.tar.gz', changes)
  assert_in_order(refused(archive), str(archive), REGIONS, f'has {last} rows', 'expected 3')


def test_surfaces_have_three_classes_and_ignore_the_files_of_regions(refused, prepare, tmp_path):
  member = REGIONS.replace('regions', 'surfaces')
  archive = pack(tmp_path / 'bad.tar.gz', label_of_4x3({}) | {member: b'1 2 3 -1\n' * 3})
  assert_in_order(refused(archive, 'surfaces'), member, 'row 1', "'3'", 'integers from -1 to 2')
  prepare(pack(tmp_path / 'good.tar.gz', {REGIONS: b'nonsense'}), 'surfaces')


SIZED = np.zeros((3, 4, 3), np.uint8)
BAD_IMAGES = {
  'empty': (b'', 'it is empty'),
  'truncated': (encode(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))[:-200], 'truncated'),
  'PNG': (encode(SIZED, 'PNG'), 'content is PNG', 'expected JPEG'),
  'gray': (encode(SIZED[..., 0]), 'color mode is L', 'RGB'),
}


@pytest.mark.parametrize(('image', *'ab'), [(*case, '')[:3] for case in BAD_IMAGES.values()], ids=BAD_IMAGES)
def test_a_bad_image_is_refused_by_member(refused, tmp_path, image, a, b):
  archive = pack(tmp_path / 'bad.tar.gz', label_of_4x3({}) | {IMAGE: image})
  assert_in_order(refused(archive), str(archive), IMAGE, a, b)


@pytest.mark.parametrize('member', [IMAGE, REGIONS])
def test_a_missing_member_is_named(refused, tmp_path, member):
  archive = pack(tmp_path / 'bad.tar.gz', {member: None})
  assert_in_order(refused(archive), str(archive), f'has no {member}', f'expected {COUNT} images')


def test_another_number_of_images_is_refused(refused, tmp_path):
  archive = pack(tmp_path / 'bad.tar.gz', {IMAGE: None, REGIONS: None})
  assert_in_order(refused(archive), str(archive), f'has {COUNT - 1} images', f'expected {COUNT} images')


def test_another_layout_is_refused(refused, tmp_path):
  archive = pack(tmp_path / 'bad.tar.gz', prefix='data/')
  assert_in_order(refused(archive), str(archive), 'has 0 images', 'iccv09Data/images/ID.jpg')


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
    if val_fraction:  # of three per fold, at least one and never all
      assert len(parts['validation']) == 4 * max(1, min(2, round(3 * val_fraction)))


def test_a_tenth_of_143_images_is_14():
  assert splits(1, 0.1)['validation'] == 'fold0[:14]+fold2[:14]+fold3[:14]+fold4[:14]'
  assert splits(1, 0.1)['train'] == 'fold0[14:]+fold2[14:]+fold3[14:]+fold4[14:]'


@pytest.mark.parametrize('setting', [{'data.fold': 5}, {'data.fold': -1}, {'data.val_fraction': 1.0}])
def test_a_fold_or_fraction_out_of_range_is_refused(setting):
  settings = config.default('stanford_background')
  settings.update_from_flattened_dict(setting)
  (field,) = setting
  with pytest.raises(UserError, match=f'{field} is '):
    config.validate(settings)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason=f'there is no {REAL}')
def test_the_real_archive_has_the_published_numbers(tmp_path):
  """If these numbers change, the labels are read wrongly, or the archive is not the original."""
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
