"""Masks with colors and a table of classes; and the classes of Cityscapes and nnU-Net."""

import folders
import numpy as np
import pytest
from folders import LABELS, RGB, VOC, examples, labels_of, load, make, save, with_mask

from fcn_jax.errors import UserError

TABLES = {
  'labelmap.txt': '# label:color_rgb:parts:actions\nroad:128,64,128::\nsky:0,0,0::\ncar:0,0,142:a,b:run\n',
  'classes.csv': 'name,red,green,blue\nroad,128,64,128\nsky,0,0,0\ncar,0,0,142\n',
  'dataset.toml': 'classes = ["road", "sky", "car"]\ncolors = [[128,64,128], [0,0,0], [0,0,142]]\n',
}


@pytest.mark.parametrize('ending', ['.png', '.tif', '.npy'])
@pytest.mark.parametrize('table', TABLES)
def test_colors_are_classes_with_a_table(tmp_path, table, ending):
  root = with_mask(tmp_path / 'd', ending, RGB[LABELS])
  save(root / table, TABLES[table])
  label, classes = labels_of(root)
  np.testing.assert_array_equal(label, LABELS)
  assert classes.names == ('road', 'sky', 'car') and classes.palette == tuple(map(tuple, RGB.tolist()))


def test_a_table_of_excel_and_an_ignored_color(tmp_path):
  root = with_mask(tmp_path / 'd', '.png', RGB[LABELS])
  save(root / 'classes.csv', '\ufeffname, red, green, blue\r\nroad, 128, 64, 128\r\nsky,0,0,0\r\ncar,0,0,142\r\n')
  save(root / 'dataset.toml', 'ignore = [1]')
  label, classes = labels_of(root)
  np.testing.assert_array_equal(label, np.array([0, 255, 1])[LABELS])
  assert classes.names == ('road', 'car') and classes.palette == ((128, 64, 128), (0, 0, 142))


def test_the_colors_that_datumaro_leaves_out_are_those_of_voc(tmp_path):
  root = with_mask(tmp_path / 'd', '.png', VOC[LABELS])
  save(root / 'labelmap.txt', '# label:color_rgb:parts:actions\nbackground:::\ncat:::\ndog:::\n')
  label, classes = labels_of(root)
  np.testing.assert_array_equal(label, LABELS)
  assert classes.names == ('background', 'cat', 'dog')


def test_black_masks_have_the_color_black(tmp_path):
  """Without any other color, too, black is the second class of the table."""
  root = with_mask(tmp_path / 'd', '.png', np.zeros((*folders.SIZE, 3), np.uint8))
  save(root / 'labelmap.txt', TABLES['labelmap.txt'])
  assert (labels_of(root)[0] == 1).all()


def test_unknown_colors_are_named(tmp_path):
  root = with_mask(tmp_path / 'd', '.png', RGB[LABELS])
  save(root / 'labelmap.txt', TABLES['labelmap.txt'])
  values = RGB[LABELS]
  values[0, 0] = 224, 224, 192
  save(root / 'masks/1.png', values)
  with pytest.raises(
    UserError, match=r'1.png has the labels \(224, 224, 192\) \(1 pixels\).*\(128, 64, 128\), \(0, 0, 0\)'
  ):
    examples(load(root))


@pytest.mark.parametrize('first', ['colors', 'numbers'])
@pytest.mark.parametrize('sampled', [True, False])
def test_masks_of_two_kinds_are_refused(tmp_path, monkeypatch, first, sampled):
  root = with_mask(tmp_path / 'd', '.png', RGB[LABELS] if first == 'colors' else LABELS)
  save(root / 'labelmap.txt', TABLES['labelmap.txt'])
  other = '1' if sampled else folders.unsampled(root, monkeypatch)
  save(root / f'masks/{other}.png', LABELS if first == 'colors' else RGB[LABELS])
  found, expected = ('numbers', 'colors') if first == 'colors' else ('colors', 'numbers')
  expected = 'colors.*numbers' if sampled else f'masks/{other}.png has {found}; expected {expected}'
  with pytest.raises(UserError, match=expected):
    examples(load(root))


CITY = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def test_cityscapes_has_its_19_classes(tmp_path):
  values = np.arange(48, dtype=np.uint8).reshape(folders.SIZE) % 34
  root = make(tmp_path / 'd', [f'leftImg8bit/{x}/c/{x}_leftImg8bit.png' for x in ('train', 'val')])
  for split in ('train', 'val'):
    save(root / f'gtFine/{split}/c/{split}_gtFine_labelIds.png', values)
  label, classes = labels_of(root)
  assert len(classes) == 19 and classes.names[::18] == ('road', 'bicycle')
  expected = np.array([CITY.index(x) if x in CITY else 255 for x in values.ravel()])
  np.testing.assert_array_equal(label.ravel(), expected)


def test_other_classes_in_files_named_like_cityscapes(tmp_path):
  root = make(tmp_path / 'd', 'leftImg8bit/a_leftImg8bit.png leftImg8bit/b_leftImg8bit.png')
  make(root, '', 'gtFine/a_gtFine_labelIds.png gtFine/b_gtFine_labelIds.png')
  with pytest.raises(UserError, match=r'hold only 0, 1, 2, which count nowhere \(Cityscapes\)'):
    load(root)
  save(root / 'dataset.toml', 'classes = ["x", "y", "z"]')
  np.testing.assert_array_equal(labels_of(root)[0], LABELS)


def test_labels_of_nnu_net(tmp_path):
  root = make(tmp_path / 'd', 'imagesTr/a_0000.png imagesTr/b_0000.png', '')
  for name in 'ab':
    save(root / f'labelsTr/{name}.png', LABELS)
  for labels in ('{"background": 0, "x": 1, "ignore": 2}', '{"0": "background", "1": "x", "2": "ignore"}'):
    save(root / 'dataset.json', f'{{"labels": {labels}}}')
    label, classes = labels_of(root)
    np.testing.assert_array_equal(label, np.array([0, 1, 255])[LABELS])
    assert classes.names == ('background', 'x')
