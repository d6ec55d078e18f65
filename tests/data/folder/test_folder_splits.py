"""Splits come from dataset.toml, lists, folders, or a hash of the names that nothing but the names changes."""

import itertools
import pathlib
import shutil

import folders
import numpy as np
import pytest
from folders import ids, load, make, save

from fcn_jax.errors import UserError

NAMES = [f'{split}/images/{name}.png' for split in ('train', 'val') for name in ('a', 'b c')]


@pytest.fixture
def nested(tmp_path):
  """The names a and 'b c' twice, in folders that tell no split."""
  names = [name.replace('train', 'one').replace('val', 'two') for name in NAMES]
  return make(tmp_path / 'd', names, [name.replace('images', 'masks') for name in names])


@pytest.mark.parametrize(
  'lines',
  [
    'one/images/a.png\none/images/b c.png',
    'one/images/a\none/images/b c',
    '# a comment\n\n  one/images/a.png  \r\n/SegNet/one/images/b c.png\n\n',
    './one/images/a.png one/masks/a.png\none/images/b c.png\tone/masks/b c.png',
    'one/images/a.png,one/masks/a.png\n"one/images/b c.png";x',
    'one__a\none__b c',
    'one/a.png\none/images/b c.jpg',
  ],
)
def test_lists_have_ids_or_paths(nested, lines):
  save(nested / 'train.txt', lines)
  save(nested / 'val.txt', 'two/images/a.png')
  assert ids(nested) == {'train': ['one__a', 'one__b c'], 'validation': ['two__a']}


def test_a_list_in_the_folder_of_a_split_names_images_of_this_split(tmp_path):
  root = make(tmp_path / 'd', NAMES, [name.replace('images', 'masks') for name in NAMES])
  save(root / 'train/train.txt', 'a.png\nb c.png')
  save(root / 'val/val.txt', 'a.png')
  assert ids(root) == {'train': ['a', 'b c'], 'validation': ['a']}


@pytest.mark.parametrize(
  'lists, parts',
  [
    ({'train.txt': 'one__a\ngone.png', 'val.txt': 'two__a'}, ["train.txt has 'gone.png'", 'no image in']),
    ({'train.txt': 'a', 'val.txt': 'two__a'}, ["train.txt has 'a', which may be one/images/a.png, two/images/a.png"]),
    ({'train.txt': 'one__a', 'val.txt': 'one__a'}, ['one/images/a.png is in the splits train and validation']),
    ({'x/train.txt': 'one__a', 'y/train.txt': 'two__a'}, ['x/train.txt and y/train.txt', 'splits.train', 'exclude']),
    ({'val.txt': 'one__a'}, ['has the splits validation, but no training images']),
  ],
)
def test_a_wrong_list_is_one_sentence(nested, lists, parts):
  for name, content in lists.items():
    save(nested / name, content)
  with pytest.raises(UserError) as caught:
    load(nested)
  assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize(
  'rules, expected',
  [
    ('train = "x/first.txt"\nvalidation = "x/second.txt"', {'train': ['0', '1'], 'validation': ['2']}),
    ('train = "images/[01].png"\ntest = ["images/2.png", "**/3.png"]', {'train': ['0', '1'], 'test': ['2', '3']}),
    ('train = ["images/0.png", "x/second.txt"]\nvalidation = "images/3*"', {'train': ['0', '2'], 'validation': ['3']}),
  ],
)
def test_dataset_toml_wins_over_lists(tmp_path, rules, expected):
  root = folders.pairs(tmp_path / 'd')
  save(root / 'train.txt', 'gone')
  save(root / 'x/first.txt', '0\n1')
  save(root / 'x/second.txt', '2')
  save(root / 'dataset.toml', f'[splits]\n{rules}')
  assert ids(root) == expected


@pytest.mark.parametrize(
  'rules, part',
  [
    ('train = "images/0.png"\nvalidation = ["images/1.png", "imagse/*"]', "'imagse/*'"),
    ('train = "images/*"\nvalidation = "gone.txt"', 'gone.txt'),
    ('train = "*"\nvalidation = "images/1.png"', 'in the splits train and validation'),
  ],
)
def test_rules_that_choose_nothing_or_twice(tmp_path, rules, part):
  root = folders.pairs(tmp_path / 'd')
  save(root / 'dataset.toml', f'[splits]\n{rules}')
  with pytest.raises(UserError) as caught:
    load(root)
  assert part in str(caught.value)


def test_neither_the_seed_nor_more_images_move_an_image(tmp_path):
  root = folders.pairs(tmp_path / 'd', 10)
  before = ids(root, val_fraction=0.4)
  assert all(len(names) > 1 for names in before.values())
  assert ids(root, val_fraction=0.4, split_seed=1) != before
  for number in range(10, 60):
    for kind in ('images', 'masks'):
      shutil.copy(root / kind / '0.png', root / kind / f'{number}.png')
  after = ids(root, val_fraction=0.4)
  assert all({*before[split]} == {*after[split]} & {*map(str, range(10))} for split in before)
  assert 10 < len(after['validation']) < 40
  assert {*ids(root, val_fraction=0.2)['validation']} < {*after['validation']}


@pytest.mark.parametrize('fraction', [0.0, 0.01])
def test_validation_is_never_empty(tmp_path, caplog, fraction):
  caplog.set_level('INFO')
  root = folders.pairs(tmp_path / 'd', 5)
  found = ids(root, val_fraction=fraction)
  assert len(found['validation']) == 1 and len(found['train']) == 4
  assert 'no name is in this fraction' in caplog.text
  # It is the first image that a larger fraction holds back.
  assert {*found['validation']} <= {*ids(root, val_fraction=0.5)['validation']}


def test_training_is_never_empty(tmp_path):
  root = folders.pairs(tmp_path / 'd', 2)
  assert all(len(ids(root, val_fraction=0.9, split_seed=seed)['train']) == 1 for seed in range(5))


def test_a_smaller_fraction_is_part_of_a_larger_one(tmp_path):
  root = folders.pairs(tmp_path / 'd', 30)
  data = {fraction: load(root, train_fraction=fraction) for fraction in (0.001, 0.1, 0.2, 0.5, 1.0)}
  chosen = [set(x.splits['train'].ids()) for x in data.values()]
  assert all(a < b for a, b in itertools.pairwise(chosen))
  total = len(chosen[-1])
  assert [len(x) for x in chosen] == [1, round(0.1 * total), round(0.2 * total), int(0.5 * total + 0.5), total]
  assert len({x.fingerprint for x in data.values()}) == 1
  assert len({tuple(x.splits['validation'].ids()) for x in data.values()}) == 1


def test_subsets_of_the_same_size_do_not_share_decoded_images(tmp_path):
  """With splits of folders, another data.split_seed chooses another subset of the same training split."""
  root = make(tmp_path / 'd', '')
  for number in range(8):
    split = 'val' if number == 0 else 'train'
    save(root / split / f'images/{number}.png', folders.image(number))
    save(root / split / f'masks/{number}.png', folders.mask())
  for seed in range(3):
    for name, (image, _) in folders.examples(load(root, train_fraction=0.3, split_seed=seed)).items():
      np.testing.assert_array_equal(image, folders.image(int(name)))


def test_other_ranges_do_not_share_decoded_images(tmp_path):
  for number in range(4):
    save(tmp_path / f'd/images/{number}.npy', folders.image(number).astype(np.uint16))
    save(tmp_path / f'd/masks/{number}.png', folders.mask())
  for high in (255, 510):
    for name, (image, _) in folders.examples(load(tmp_path / 'd', range=(0.0, float(high)))).items():
      np.testing.assert_allclose(image, folders.image(int(name)) * (255 / high), atol=0.51)


CHANGES = {
  'moved': (lambda root: root.rename(root.parent / 'other'), False),
  'touched': (lambda root: save(root / 'val/images/b.png', folders.image(1)), False),
  'image_of_other_size': (
    lambda root: save(root / 'train/images/a.png', folders.image()[:, :, :2].copy()[..., 0]),
    True,
  ),
  'evaluation_mask_of_same_size': (lambda root: save(root / 'val/masks/b.npy', folders.mask()[::-1].copy()), True),
  'training_mask_of_same_size': (lambda root: save(root / 'train/masks/a.npy', folders.mask()[::-1].copy()), False),
  'name_of_a_class': (lambda root: save(root / 'classes.csv', TABLE.replace('x', 'z')), True),
  'color_of_a_class': (lambda root: save(root / 'classes.csv', TABLE.replace('9', '8')), True),
  'ignored_label': (lambda root: save(root / 'dataset.toml', 'ignore = [7]'), True),
  'another_image': (lambda root: make(root, 'train/images/c.png', 'train/masks/c.npy') and None, True),
}
TABLE = 'name,red,green,blue\nx,0,0,0\ny,0,9,0\nz2,1,1,1\n'


@pytest.mark.parametrize('change', CHANGES)
def test_the_fingerprint_is_of_contents(tmp_path, change):
  root = make(tmp_path / 'd', 'train/images/a.png val/images/b.png', 'train/masks/a.npy val/masks/b.npy')
  save(root / 'val/images/b.png', folders.image(1))
  save(root / 'classes.csv', TABLE)
  before = load(root).fingerprint
  do, changes = CHANGES[change]
  moved = do(root)
  after = load(moved if change == 'moved' and isinstance(moved, pathlib.Path) else root).fingerprint
  assert (before != after) == changes


def test_a_list_of_one_split_leaves_the_folders_of_the_others(tmp_path):
  names = [f'{split}/{number}' for split in ('train', 'val') for number in range(2)]
  folders.make(tmp_path / 'data', [f'images/{x}.png' for x in names], [f'masks/{x}.png' for x in names])
  (tmp_path / 'data/train.txt').write_text('0\n')
  data = folders.load(tmp_path / 'data')
  assert {name: len(split) for name, split in data.splits.items()} == {'train': 1, 'validation': 2}
