"""Images and masks are found in the layouts of data sets and annotation tools; what is ambiguous is an error."""

import os
import pathlib
import unicodedata

import folders
import numpy as np
import pytest
from folders import ids, load, make, save

from fcn_jax.data import folder
from fcn_jax.errors import UserError

TWO, THREE = {'train': ['a'], 'validation': ['b']}, {'train': ['a'], 'validation': ['b'], 'test': ['c']}

# Images, masks, other files, and the ids by split; without splits of the folder, all ids under ''.
LAYOUTS = {
  'images_masks': ('images/a.jpg images/b.jpg', 'masks/a.png masks/b.png', '', {'': ['a', 'b']}),
  'labels': ('Images/a.JPG Images/b.Jpeg', 'Labels/a.PNG Labels/b.PNG', '', {'': ['a', 'b']}),
  'annotations': ('img/a.bmp img/b.webp', 'annotations/a.png annotations/b.png', '', {'': ['a', 'b']}),
  'split_above': (
    'train/images/a.png val/images/b.png test/images/c.png',
    'train/masks/a.png val/masks/b.png test/masks/c.png',
    '',
    THREE,
  ),
  'split_below': (
    'images/training/a.png images/validation/b.png',
    'annotations/training/a.png annotations/validation/b.png',
    '',
    TWO,
  ),
  'mmsegmentation': ('img_dir/train/a.jpg img_dir/val/b.jpg', 'ann_dir/train/a.png ann_dir/val/b.png', '', TWO),
  'camvid': ('train/a.png val/b.png test/c.png', 'trainannot/a.png valannot/b.png testannot/c.png', '', THREE),
  'split_and_labels': (
    'train/a.png val/b.png test/c.png',
    'train_labels/a.png val_labels/b.png test-masks/c.png',
    '',
    THREE,
  ),
  'split_and_images': ('train_images/a.png val_images/b.png', 'train_masks/a.png val_masks/b.png', '', TWO),
  'same_names_in_splits': (
    'train/images/a.png val/images/a.png',
    'train/masks/a.png val/masks/a.png',
    '',
    {'train': ['a'], 'validation': ['a']},
  ),
  'nested': (
    'x/images/1/a.png y/images/1/a.png',
    'x/masks/1/a.png y/masks/1/a.png',
    '',
    {'': ['x__1__a', 'y__1__a']},
  ),
  'suffix_beside': ('a.jpg b.jpg', 'a_mask.png b_mask.png', '', {'': ['a', 'b']}),
  'suffix_beside_in_images': (
    'images/a.jpg images/b.jpg',
    'images/a-label.png images/b-LABEL.png',
    '',
    {'': ['a', 'b']},
  ),
  'suffix_in_masks': ('images/a.jpg images/b_img.jpg', 'masks/a_label.png masks/b_mask.png', '', {'': ['a', 'b']}),
  'suffix_of_some': ('images/a.png images/a_rgb.png', 'masks/a.png masks/a_rgb.png', '', {'': ['a', 'a_rgb']}),
  'dotted_I': ('İİ.png b.png', 'İİ_mask.png b_mask.png', '', {'': ['b', 'İİ']}),
  'voc': (
    'JPEGImages/a.jpg JPEGImages/b.jpg JPEGImages/c.jpg JPEGImages/d.jpg',
    'SegmentationClass/a.png SegmentationClass/b.png SegmentationObject/a.png SegmentationObject/b.png',
    'ImageSets/Segmentation/train.txt=a ImageSets/Segmentation/val.txt=b ImageSets/Segmentation/trainval.txt=a\nb '
    'ImageSets/Segmentation/test.txt=d ImageSets/Main/train.txt=c\nd ImageSets/Main/val.txt=d '
    'ImageSets/Main/cat_train.txt=a Annotations/a.xml=<xml/>',
    TWO,
  ),
  'cityscapes': (
    'leftImg8bit/train/aa/aa_000_leftImg8bit.png leftImg8bit/val/bb/bb_000_leftImg8bit.png',
    ' '.join(
      f'gtFine/{x}_000_gtFine_{kind}.png'
      for x in ('train/aa/aa', 'val/bb/bb')
      for kind in ('labelIds', 'color', 'instanceIds', 'labelTrainIds')
    ),
    'gtFine/train/aa/aa_000_gtFine_polygons.json={} dataset.toml=classes=["x","y","z"]',
    {'train': ['aa__aa_000'], 'validation': ['bb__bb_000']},
  ),
  'nnunet': (
    'imagesTr/a_0000.png imagesTr/b_0000.png imagesTs/c_0000.png',
    'labelsTr/a.png labelsTr/b.png labelsTs/c.png',
    'dataset.json={"labels":{"background":0,"x":1,"y":2}}',
    {'train': ['a', 'b'], 'test': ['c']},
  ),
  'labelme': (
    'JPEGImages/a.jpg JPEGImages/b.jpg',
    'SegmentationClass/a.png SegmentationClass/b.png SegmentationClassVisualization/a.jpg SegmentationObject/a.png '
    'SegmentationObjectVisualization/b.jpg',
    'class_names.txt=_background_\nx\ny',
    {'': ['a', 'b']},
  ),
  'rubbish': (
    'images/a.png images/b.png images/.hidden.png __MACOSX/images/._a.png .cache/images/c.png',
    'masks/a.png masks/b.png __MACOSX/masks/a.png',
    'images/Thumbs.db=x images/.DS_Store=x README.txt=test masks/notes.xml=x',
    {'': ['a', 'b']},
  ),
}


def build(root, layout) -> pathlib.Path:
  images, masks, others, _ = LAYOUTS[layout]
  make(root, images, masks)
  for other in others.split(' ') if others else ():
    name, _, content = other.partition('=')
    save(root / name, content)
  return root


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_layout_is_recognized_and_each_image_is_with_its_mask(tmp_path, layout):
  root = build(tmp_path / 'd', layout)
  expected = LAYOUTS[layout][-1]
  found = ids(root)
  if '' in expected:
    assert [*found] == ['train', 'validation']
    assert sorted(name for names in found.values() for name in names) == expected['']
  else:
    assert found == expected
  for image, label in folders.examples(load(root)).values():
    assert image.shape == (*folders.SIZE, 3) and label.shape == folders.SIZE


def test_an_image_has_the_pixels_of_its_file_and_not_of_another_with_its_name(tmp_path):
  root = make(tmp_path / 'd', '', 'train/masks/a.png val/masks/a.png')
  for seed, split in enumerate(('train', 'val')):
    save(root / split / 'images' / 'a.png', folders.image(seed))
  splits = load(root).splits
  for seed, split in enumerate(('train', 'validation')):
    np.testing.assert_array_equal(splits[split][0]['inputs']['rgb'], folders.image(seed))


@pytest.mark.parametrize(
  'name', ['a b', 'Straße (1)', 'ü' * 60, 'é', '日本語', 'x.y.z', "it's", '#1', '50%', 'a,b', '-x']
)
def test_names_may_have_any_characters(tmp_path, name):
  root = make(tmp_path / 'a folder', [f'images/{name}.png', 'images/b.png'], [f'masks/{name}.png', 'masks/b.png'])
  save(root / 'train.txt', f'\ufeff{name}.png\n' if name[0] != '#' else f'./{name}.png')
  save(root / 'val.txt', 'b')
  assert ids(root) == {'train': [name], 'validation': ['b']}


def test_letters_of_a_mac_are_those_of_lists(tmp_path):
  """An archive of macOS has ü as two characters."""
  name = unicodedata.normalize('NFD', 'ü')
  root = make(tmp_path / 'd', [f'images/{name}.png', 'images/b.png'], ['masks/ü.png', 'masks/b.png'])
  save(root / 'train.txt', 'ü.png')
  save(root / 'val.txt', 'b.png')
  assert ids(root) == {'train': ['ü'], 'validation': ['b']}


def test_a_folder_is_given_in_any_way(tmp_path, monkeypatch):
  root = folders.pairs(tmp_path / 'd')
  expected = load(root).fingerprint
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path))
  for given in ('d', './d', 'd/', '~/d', 'd/../d', f'{root}/', f'file://{root}'):
    assert load(given, dir=str(tmp_path / 'prepared')).fingerprint == expected, given
  monkeypatch.chdir(root)
  assert load('.', dir=str(tmp_path / 'prepared')).fingerprint == expected


def test_symbolic_links_are_followed_and_loops_end(tmp_path):
  real = folders.pairs(tmp_path / 'real')
  root = tmp_path / 'd'
  root.mkdir()
  (root / 'images').symlink_to(real / 'images')
  (root / 'masks').mkdir()
  for path in (real / 'masks').iterdir():
    (root / 'masks' / path.name).symlink_to(path)
  (root / 'masks' / 'again').symlink_to(root)
  assert ids(root) == ids(real)
  (root / 'masks' / '0.png').unlink()
  (root / 'masks' / '0.png').symlink_to(tmp_path / 'gone.png')
  with pytest.raises(UserError, match=r'masks/0\.png: No such file'):
    load(root)


# What is in the folder, and what the message has.
REFUSED = {
  'empty': ([], ['there is no image in', 'expected files that end in .jpg']),
  'one_pair': (['images/a.png', 'masks/a.png'], ['one image with a mask', 'at least 2']),
  'no_masks': (
    ['images/a.png', 'images/b.png'],
    ['2 image files such as images/a.png', 'no masks are recognized', 'images/ and masks/'],
  ),
  'only_masks': (['masks/a.png', 'masks/b.png'], ['no images are recognized']),
  'unknown_folders': (['foo/a.png', 'bar/a.png'], ['no masks are recognized']),
  'other_names': (['images/a.png', 'masks/b.png'], ['same name', 'images/a.png', 'masks/b.png']),
  'two_images': (
    ['images/a.png', 'images/a.jpg', 'masks/a.png'],
    ['images/a.jpg, images/a.png', 'masks/a.png', 'exclude'],
  ),
  'two_masks': (
    ['images/a.png', 'masks/a.png', 'masks/a_mask.png'],
    ['masks/a.png and masks/a_mask.png', 'images/a.png'],
  ),
  'coarse_and_fine': (
    [f'{x}.png' for x in ('leftImg8bit/a_leftImg8bit', 'gtFine/a_gtFine_labelIds', 'gtCoarse/a_gtCoarse_labelIds')],
    ['gtCoarse/a_gtCoarse_labelIds.png and gtFine/a_gtFine_labelIds.png', 'exclude'],
  ),
  'equal_ids': (['a/images/b__c.png', 'a__b/images/c.png', 'a/masks/b__c.png', 'a__b/masks/c.png'], ['the same name']),
  'no_training': (['val/images/a.png', 'val/masks/a.png'], ['has the splits validation', 'expected a split train']),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_is_ambiguous_or_missing_is_one_sentence(tmp_path, case):
  names, parts = REFUSED[case]
  (tmp_path / 'd').mkdir()
  make(tmp_path / 'd', names)
  with pytest.raises(UserError) as caught:
    load(tmp_path / 'd')
  message = str(caught.value)
  assert all(part in message for part in parts) and '\n' not in message and len(message) < 500, message


@pytest.mark.parametrize(
  'given, message',
  [('', 'data.folder is not set'), ('gone', 'there is no folder'), ('file.png', 'there is no folder')],
)
def test_a_folder_that_is_none(tmp_path, monkeypatch, given, message):
  monkeypatch.chdir(tmp_path)
  save(tmp_path / 'file.png', folders.image())
  with pytest.raises(UserError, match=message):
    folder.load(folders.settings(given))


def test_a_name_that_is_not_utf_8(tmp_path):
  root = folders.pairs(tmp_path / 'd')
  for kind in ('images', 'masks'):
    os.link(root / kind / '0.png', os.fsencode(root / kind) + b'/\xff.png')
  with pytest.raises(UserError, match='not UTF-8; rename'):
    load(root)


def test_what_is_left_out_is_told(tmp_path, caplog):
  caplog.set_level('INFO')
  root = folders.pairs(tmp_path / 'd')
  make(root, 'images/x.png images/y.png', 'masks/z.png')
  save(root / 'train.txt', '0\n1\nx')
  save(root / 'val.txt', '2')
  assert ids(root) == {'train': ['0', '1'], 'validation': ['2']}
  for note in ('2 images without a mask, such as images/x.png', '1 masks without an image, such as masks/z.png'):
    assert note in caplog.text
  assert '1 images that are in no split, such as images/3.png' in caplog.text
  assert '2 train, 1 validation, from train.txt, val.txt' in caplog.text
