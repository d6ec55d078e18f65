"""`init` writes a dataset.toml that the folder loads with."""

import json
import tomllib

import numpy as np
import pytest
from bad_folders import COLORS, changed
from command_line import flags_of
from made_folder import SIZE, image, label, make, save

from fcn_jax import config
from fcn_jax.data import __main__ as command
from fcn_jax.data import dataset, names
from fcn_jax.data.folder import description
from fcn_jax.errors import UserError


@pytest.fixture
def init():
  with flags_of(command):
    yield lambda folder: command.main(['init', str(folder)])


def loaded(folder):
  data = config.default('folder').data
  data.folder, data.cache_gib = str(folder), 0.0
  data.range = names.measured(data)['data.range']
  return dataset.load(data)


def deep(folder) -> None:
  """Images of three channels of 16 bits."""
  for path in folder.glob('*/images/*.png'):
    seed = int(path.stem[-1])
    save(path.with_suffix('.npy'), np.random.default_rng(seed).integers(100, 900, (*SIZE, 5), np.uint16))
    path.unlink()


# What the masks hold -> how a folder becomes so, the classes, and the labels of the first image.
CASES = {
  'numbers': (lambda _: None, ['class_0', 'class_1', 'class_2'], label(0)),
  'sparse numbers': (changed(np.uint8([0, 50, 100])), ['label_0', 'label_50', 'label_100'], label(0)),
  'two values': (changed(np.uint8([0, 255, 255])), ['background', 'foreground'], np.minimum(label(0), 1)),
  'pixels to ignore': (changed(np.uint8([0, 1, 255])), ['class_0', 'class_1'], np.uint8([0, 1, 255])[label(0)]),
  'colors': (changed(COLORS), ['color_0_0_0', 'color_0_128_0', 'color_128_0_0'], np.uint8([0, 2, 1])[label(0)]),
  'grays as colors': (
    changed(np.repeat(np.uint8([[0], [7], [70]]), 3, 1)),
    ['label_0', 'label_7', 'label_70'],
    label(0),
  ),
  'deep images': (deep, ['class_0', 'class_1', 'class_2'], label(0)),
}


@pytest.mark.parametrize('case', CASES)
def test_a_folder_loads_with_the_file_that_was_written(init, tmp_path, case):
  change, classes, expected = CASES[case]
  change(make(tmp_path))
  init(tmp_path)
  found, text = loaded(tmp_path), (tmp_path / 'dataset.toml').read_text()
  assert list(found.heads['semantic'].names) == classes
  assert (found.splits['train'][0]['labels']['semantic'] == expected).all()
  assert description.read(tmp_path).source == 'dataset.toml'
  assert all(f'"{name}",  # in 9 of 9 masks' in text for name in classes)
  assert ('range' in tomllib.loads(text)) == (case == 'deep images')


def test_what_the_folder_says_is_kept(init, tmp_path):
  make(tmp_path)
  given = {'classes': ['ä "b"', 'c', 'd'], 'ignore': [2], 'exclude': ['**/*5.png'], 'splits': {}}
  given |= {'colors': [[1, 2, 3], [4, 5, 6], [7, 8, 9]], 'map': {'1': 'd'}}
  given['splits'] = {'train': 'train/*.png', 'validation': ['val/images/val0.png', 'val/images/val1.png']}
  tables = {name: given.pop(name) for name in ('map', 'splits')}
  lines = [f'{name} = {json.dumps(value)}' for name, value in given.items()]
  for name, table in tables.items():
    lines += [f'[{name}]', *(f'{key} = {json.dumps(value)}' for key, value in table.items())]
  (tmp_path / 'dataset.toml').write_text('\n'.join(lines))
  before = description.read(tmp_path)
  with pytest.raises(UserError, match=r'dataset\.toml exists; pass --overwrite'):
    init(tmp_path)
  command.flags.FLAGS.overwrite = True
  init(tmp_path)
  assert description.read(tmp_path) == before


def test_masks_with_too_many_colors_are_refused(init, tmp_path):
  save(make(tmp_path) / 'train/masks/train0.png', image(0))
  changed(COLORS, lambda folder: [x for x in folder.glob('*/masks/*') if x.stem != 'train0'])(tmp_path)
  with pytest.raises(UserError, match=r'colors such as .*expected at most 255: .*inspect'):
    init(tmp_path)
  assert not (tmp_path / 'dataset.toml').exists()
