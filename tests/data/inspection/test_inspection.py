"""What `inspect` finds: each check has a folder that triggers it and no other check."""

import dataclasses
import itertools
import json
import re
import sys

import numpy as np
import pytest
from bad_folders import CASES, IMAGE, MASK
from made_folder import SIZE, image, label, make, save

from fcn_jax import config
from fcn_jax.data.dataset import Classes
from fcn_jax.data.inspection import duplicates, html, inspection, records, suggestions, summary


def inspect(name, folder='', **settings):
  found = config.default(name)
  found.data.update({'folder': str(folder)} if folder else {}, **settings)
  return inspection.inspect(found.data, lambda _: lambda: None)


@pytest.mark.parametrize('case', CASES)
def test_a_bad_folder_triggers_exactly_its_check(tmp_path, case):
  spoil, files, level = CASES[case]
  spoil(make(tmp_path))
  found = inspect('folder', tmp_path).findings
  assert [(x.check, x.level) for x in found] == [(case.split()[0], level)], found
  assert '\n' not in found[0].message and 'Error' not in found[0].message
  if files is None:
    assert len(found[0].files) > 1 and all((tmp_path / file).is_file() for file in found[0].files)
  else:
    assert list(found[0].files) == files


def test_a_good_folder_has_no_findings(tmp_path):
  found = inspect('folder', make(tmp_path))
  assert found.findings == [] and found.splits == {'train': 6, 'validation': 3} and found.channels == {'rgb': 3}
  assert (found.counts[0] == np.bincount(label(0).ravel())).all()


def test_all_files_with_faults_are_found_at_once(tmp_path):
  make(tmp_path)
  for number in range(4):
    (tmp_path / f'train/images/train{number}.png').write_bytes(b'x')
    save(tmp_path / f'train/masks/train{number}.png', label(number), format='JPEG')
  found = {x.check: x for x in inspect('folder', tmp_path).findings}
  assert found.keys() == {'unreadable', 'mask_format'}
  assert all(len(x.files) == 4 and 'and 1 more' in x.message for x in found.values())


def test_labels_between_others_count_only_in_few_pixels_along_edges():
  wide, thin = np.zeros((2, 40, 40), np.uint8)
  wide[:, 10:], wide[:, 20:] = 3, 5
  thin[:, 10:], thin[:, 11:] = 3, 5
  assert [records.mask_numbers(x)['between'] for x in (wide, thin)] == [(), (3,)]
  assert records.mask_numbers(thin[::-1, ::-1].T)['between'] == (3,)
  surrounded = np.zeros((40, 40), np.uint8)
  surrounded[:, 10] = 3  # a pole in front of the sky
  assert records.mask_numbers(surrounded)['between'] == ()


def test_near_duplicates_are_those_of_a_search_among_all_pairs():
  rng = np.random.default_rng(0)
  hashes = rng.integers(0, 2**63, 60).tolist()
  hashes += [x ^ 0b1111 for x in hashes[:5]] + [x ^ 0b11111 for x in hashes[5:10]]
  made = [
    records.Record('train', str(i), (str(i),), digest=str(i).encode(), hash=value) for i, value in enumerate(hashes)
  ]
  expected = {(a, b) for a, b in itertools.combinations(range(70), 2) if (hashes[a] ^ hashes[b]).bit_count() <= 4}
  assert {tuple(int(r.id) for r in group) for group in duplicates.alike(made)} == expected
  assert len(expected) == 5


def test_an_image_that_has_a_copy_is_still_compared_with_other_splits():
  hashes = {'a': ('train', 0), 'b': ('train', 0b1111), 'c': ('validation', 0b11111111)}
  made = [records.Record(split, name, (name,), digest=name, hash=x) for name, (split, x) in hashes.items()]
  assert [[r.id for r in group] for group in duplicates.alike(made)] == [['a', 'b'], ['b', 'c']]


def test_settings_follow_from_the_data():
  sizes = [(1000, 3000)] * 19 + [(3000, 3000)]
  made = [records.Record('train', str(i), (str(i),), size=size) for i, size in enumerate(sizes)]
  classes = Classes(('sky', 'road', 'sign', 'none'), ((0, 0, 0),) * 4)
  counts = np.array([[60, 39, 1, 0]] * 20)
  found = inspection.Inspection('photos', [], made, {'train': 20}, {'rgb': 3}, classes, counts)
  suggested = {x.setting: x for x in suggestions.suggest(found, config.default('folder'))}
  assert {name: x.flag for name, x in suggested.items()} == {
    'data.resize': '--config.data.resize=1024',
    'data.train_size': '--config.data.train_size=352,512',  # of 341x1024
    'loss.balance': '--config.loss.balance=inverse',
  }
  assert 'sign has 1 %' in suggested['loss.balance'].reason and '3000 pixels' in suggested['data.resize'].reason
  many = dataclasses.replace(found, records=made * 20, counts=np.tile(counts, (20, 1)))
  steps = {x.setting: x for x in suggestions.suggest(many, config.default('folder'))}['train.steps']
  assert (steps.value, steps.reason) == (2000, '40 epochs of 400 images in batches of 8')


def test_json_has_the_documented_fields(tmp_path):
  make(tmp_path)
  (tmp_path / IMAGE).write_bytes(b'')
  found = inspect('folder', tmp_path)
  made = json.loads(
    json.dumps(summary.as_json(found, {32: 0.5, 8: 0.75}, suggestions.suggest(found, config.default('folder'))))
  )
  (error,) = made.pop('errors')
  assert error.keys() == {'check', 'message', 'files'} and error['files'] == [IMAGE]
  suggested = {x['setting']: x['value'] for x in made.pop('suggested')}
  assert suggested == {'data.train_size': [48, 64]}
  assert made == {
    'splits': {'train': 6, 'validation': 3},
    'classes': ['class_0', 'class_1', 'class_2'],
    'channels': 3,
    'warnings': [],
    'upper_bounds': {'32': 0.5, '8': 0.75},
  }
  assert summary.skips_gain({32: 0.5, 8: 0.75}).startswith('skips can gain at most 25.0 points')


def test_the_page_has_thumbnails_in_itself_and_the_worst_images_first(tmp_path):
  make(tmp_path)
  save(tmp_path / 'train/images/train1.png', image(1, (20, 30)))  # an error, and a warning
  save(tmp_path / 'train/images/train2.png', image(2).convert('L'))  # a warning
  (tmp_path / MASK).write_bytes(b'')
  found = inspect('folder', tmp_path)
  page = html.page(found, {32: 0.5, 8: 0.75}, suggestions.suggest(found, config.default('folder')))
  figures = re.findall('<figcaption>train: train/images/train(.).png.*?</figcaption>', page)
  assert figures[:3] == ['1', '0', '2'] and len(figures) == 6
  assert not re.findall('(?:src|href)="(?!data:image/jpeg;base64,)', page) and page.count('<img') >= 9


def test_other_data_sets_are_checked_too(tmp_path, monkeypatch):
  (tmp_path / 'small_fields.py').write_text("""
import numpy as np
from made_folder import image, label
from fcn_jax.data import Classes, Data

class Fields(list):
  def ids(self):
    return [example['id'] for example in self]
  def sizes(self):
    return np.array([example['inputs']['rgb'].shape[:2] for example in self])

def example(seed, top=0):
  return {'inputs': {'rgb': np.asarray(image(seed))}, 'labels': {'crop': label(seed) + np.uint8(top)}, 'id': str(seed)}

def load(data):
  classes = Classes(('soil', 'wheat', 'oats'), ((0, 0, 0), (9, 9, 9), (99, 99, 99)))
  splits = {'train': Fields(map(example, range(4))), 'test': Fields([example(3), example(9, top=1)])}
  return Data({'rgb': 3}, {'crop': classes}, splits, 'small_fields/1')
""")
  monkeypatch.syspath_prepend(tmp_path)
  found = inspect('small_fields')
  sys.modules.pop('small_fields')
  assert [(x.check, x.files) for x in found.findings] == [('unreadable', ('9',)), ('leakage', ('3', '3'))]
  assert found.splits == {'train': 4, 'test': 2} and found.classes.names == ('soil', 'wheat', 'oats')
  assert found.counts[0].sum() == SIZE[0] * SIZE[1] and not found.counts[-1].any()
