"""A folder is only read: its decoded images are stored elsewhere, and never those of an earlier state of a file."""

import os

import folders
import numpy as np
import pytest
from folders import examples, load, measured, pairs, save
from ordinary_user import without_root

from fcn_jax.data import folder
from fcn_jax.data.folder import images
from fcn_jax.errors import UserError


def listing(root):
  return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in (root, *root.rglob('*')))


@pytest.mark.parametrize('cache_gib', [0.0, 1.0])
def test_nothing_is_written_into_the_folder(tmp_path, cache_gib):
  root = pairs(tmp_path / 'd')
  before = listing(root)
  data, _ = measured(root, cache_gib=cache_gib)
  data.dir = ''
  data.cache_dir = str(tmp_path / 'cache')
  examples(folder.load(data))
  folder.describe(data)
  assert listing(root) == before
  assert [*(tmp_path / 'cache').glob('*.images')] == [] if not cache_gib else (tmp_path / 'cache').exists()


def test_a_folder_that_may_only_be_read(tmp_path):
  root = pairs(tmp_path / 'd')
  paths = [root, *root.rglob('*')]
  for path in paths:
    path.chmod(0o555 if path.is_dir() else 0o444)
  try:
    with without_root():
      data, _ = measured(root)
      assert len(examples(folder.load(data))) == 4
  finally:
    for path in paths:
      path.chmod(0o755)


@pytest.mark.parametrize('kind', ['images', 'masks', 'images/0.png', 'masks/0.png'])
def test_what_may_not_be_read_is_named(tmp_path, kind):
  root = pairs(tmp_path / 'd')
  (root / kind).chmod(0)
  try:
    with without_root(), pytest.raises(UserError, match=f'{kind}: Permission denied'):
      load(root)
  finally:
    (root / kind).chmod(0o755)


def test_runs_share_decoded_images(tmp_path, monkeypatch):
  root = pairs(tmp_path / 'd')
  expected = examples(load(root))
  monkeypatch.setattr(images.Kind, 'read', lambda *_: pytest.fail('decoded again'))
  found = examples(load(root))
  for name in expected:
    for a, b in zip(expected[name], found[name], strict=True):
      np.testing.assert_array_equal(a, b)
  assert load(root).splits['train'].is_decoded


@pytest.mark.parametrize('kind', ['images', 'masks'])
@pytest.mark.parametrize('split', ['train', 'validation'])
def test_a_changed_file_of_the_same_size_is_decoded_again(tmp_path, kind, split):
  root = tmp_path / 'd'
  for number in range(4):
    save(root / f'images/{number}.npy', folders.image(number))
    save(root / f'masks/{number}.npy', folders.mask())
  data = load(root)
  before, name = examples(data), sorted(data.splits[split].ids())[0]
  path = root / kind / f'{name}.npy'
  size, times = path.stat().st_size, path.stat().st_mtime_ns
  np.save(path, np.load(path)[::-1].copy())
  os.utime(path, ns=(times + 10**9,) * 2)
  assert path.stat().st_size == size
  after = examples(load(root))
  place = ('images', 'masks').index(kind)
  np.testing.assert_array_equal(after[name][place], before[name][place][::-1])


@pytest.mark.parametrize('kept', [0, 1, 3])
def test_images_that_do_not_fit_are_decoded_when_they_are_read(tmp_path, kept):
  root = pairs(tmp_path / 'd', 8)
  expected = examples(load(root, cache_gib=1.0))
  height, width = folders.SIZE
  gib = (kept + 0.5) * 8 / 5 * 4 * height * width / 2**30  # room is shared by number of images
  data = load(root, cache_gib=gib, dir=str(tmp_path / 'other'))
  assert not data.splits['train'].is_decoded
  found = examples(data)
  for name in expected:
    np.testing.assert_array_equal(found[name][0], expected[name][0])


CONTENT = folders.image(size=(40, 40))
DAMAGES = {
  'deleted': lambda path: path.unlink(),
  'truncated': lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
  'emptied': lambda path: path.write_bytes(b''),
  'replaced': lambda path: (path.unlink(), path.mkdir()),
}
FILES = [
  ('images', '.png'),
  ('images', '.tif'),
  ('images', '.jpg'),
  ('masks', '.png'),
  ('masks', '.tif'),
  ('masks', '.npy'),
]


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('kind, ending', FILES)
def test_a_file_that_is_damaged_after_the_start_is_named(tmp_path, kind, ending, damage):
  root = tmp_path / 'd'
  for number in range(2):
    save(root / f'images/{number}{ending if kind == "images" else ".png"}', CONTENT)
    save(root / f'masks/{number}{ending if kind == "masks" else ".png"}', folders.mask(size=(40, 40)))
  data = load(root)
  path = root / kind / f'{data.splits["train"].ids()[0]}{ending}'
  DAMAGES[damage](path)
  with pytest.raises(UserError) as caught:
    data.splits['train'][0]
  message = str(caught.value)
  assert str(path) in message and '\n' not in message and len(message) < 400, message


def test_another_size_after_the_start_is_found(tmp_path):
  root = pairs(tmp_path / 'd')
  data = load(root)
  name = data.splits['train'].ids()[0]
  save(root / f'masks/{name}.png', folders.mask(size=(3, 4)))
  with pytest.raises(UserError, match=f'images/{name}.png has 8x6 pixels and its mask masks/{name}.png 4x3'):
    data.splits['train'][0]
