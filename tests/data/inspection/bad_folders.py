"""What makes a good folder (`made_folder.make`) bad: for each check, a folder that triggers it and no other one."""

import functools
import pathlib
import shutil

import numpy as np
from made_folder import SIZE, image, label, save
from photos import rotated
from PIL import Image

IMAGE, MASK = 'train/images/train0.png', 'train/masks/train0.png'
MASK_TIFF = 'train/masks/train0.tif'
HELD_OUT = 'val/images/val0.png'
COLORS = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)], np.uint8)
TABLE = 'name,red,green,blue\na,0,0,0\nb,128,0,0\nc,0,128,0\n'
RAINBOW = np.arange(256, dtype=np.uint8)


def masks(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(folder.glob('*/masks/*.png'))


def changed(table, paths=masks):
  """Replaces each class number of the masks by its entry in the table."""
  return lambda folder: [save(path, np.asarray(table)[np.asarray(Image.open(path))]) for path in paths(folder)]


def replaced(path, content, **options):
  return lambda folder: save(folder / path, content, **options)


def written(name, text):
  return lambda folder: (folder / name).write_text(text)


def resized(values, resampling, folder) -> None:
  """Masks that were drawn at a quarter of their size, with these labels."""
  for path in masks(folder):
    small = np.array(values, np.uint8)[np.asarray(Image.open(path))[::4, ::4]]
    save(path, Image.fromarray(small).resize(SIZE[::-1], resampling))


def pair_of_size(height, width):
  return lambda folder: [
    save(folder / IMAGE, image(0, (height, width))),
    save(folder / MASK, label(0, (height, width))),
  ]


def together(*spoilers):
  return lambda folder: [spoil(folder) for spoil in spoilers]


def same_names(folder) -> None:
  for path in masks(folder)[:2]:
    save(folder / path.parent.parent / 'images' / f'{path.stem}.jpg', image(5))


def copied(source, target):
  return lambda folder: shutil.copy(folder / source, folder / target)


def without(pattern):
  return lambda folder: [shutil.rmtree(path) for path in folder.glob(pattern)]


WITH_SEVEN = np.where(np.arange(SIZE[1]) < 20, 7, label(0)).astype(np.uint8)
BLUE = COLORS[label(0)] + np.where(np.arange(SIZE[1]) < 20, 9, 0)[:, None].astype(np.uint8)

# Name of the check (and what tells two cases of it apart) -> what spoils the folder, the files that are listed (None:
# several), and the level.
CASES = {
  'unreadable image': (written(IMAGE, 'text'), [IMAGE], 'error'),
  'unreadable mask': (written(MASK, ''), [MASK], 'error'),
  'unreadable mask of fractions': (
    together(lambda folder: (folder / MASK).unlink(), replaced(MASK_TIFF, label(0) + np.float32(0.5))),
    [MASK_TIFF],
    'error',
  ),
  'size': (replaced(MASK, label(0, (SIZE[0], 60))), [IMAGE, MASK], 'error'),
  'exif': (replaced(IMAGE, image(0), exif=rotated(6)), [IMAGE, MASK], 'error'),
  'orientation': (replaced(IMAGE, image(0), exif=rotated(3)), [IMAGE, MASK], 'warning'),
  'mask_format': (replaced(MASK, label(0), format='JPEG'), [MASK], 'error'),
  'labels': (
    together(written('dataset.toml', 'classes = ["a", "b", "c"]'), replaced(MASK, WITH_SEVEN)),
    [MASK],
    'error',
  ),
  'labels colors': (
    together(changed(COLORS), written('classes.csv', TABLE), replaced(MASK, BLUE)),
    [MASK],
    'error',
  ),
  'classes numbers': (changed(np.uint8([0, 50, 100])), None, 'error'),
  'classes colors': (changed(COLORS), None, 'error'),
  'mask_kinds': (replaced(MASK, image(0)), [MASK], 'error'),
  'channels': (replaced(IMAGE, np.full(SIZE, 500, np.uint16)), [IMAGE], 'error'),
  'modes': (replaced(IMAGE, image(0).convert('L')), [IMAGE], 'warning'),
  'ids': (same_names, None, 'error'),
  'layout': (without('*/masks'), [], 'error'),
  'splits': (without('train'), [], 'error'),
  'description': (written('dataset.toml', 'classes = 3'), [], 'error'),
  'without_mask': (replaced('train/images/more.png', image(77)), ['train/images/more.png'], 'warning'),
  'without_image': (replaced('train/masks/more.png', label(0)), ['train/masks/more.png'], 'warning'),
  'unlabeled mask': (replaced(MASK, np.full(SIZE, 255, np.uint8)), [MASK], 'warning'),
  'unlabeled split': (changed(RAINBOW | 255, lambda folder: folder.glob('val/masks/*')), None, 'error'),
  'interpolated': (functools.partial(resized, [0, 1, 4], Image.Resampling.BILINEAR), None, 'warning'),
  'interpolated binary': (functools.partial(resized, [0, 0, 255], Image.Resampling.BILINEAR), None, 'error'),
  'unused_class': (written('dataset.toml', 'classes = ["a", "b", "c", "d"]'), [], 'warning'),
  'held_out_class': (changed(np.uint8([0, 1, 1]), lambda folder: folder.glob('train/masks/*')), None, 'warning'),
  'large': (pair_of_size(32, 2100), [IMAGE], 'warning'),
  'small': (pair_of_size(20, 40), [IMAGE], 'warning'),
  'duplicates': (copied('train/images/train1.png', IMAGE), [IMAGE, 'train/images/train1.png'], 'warning'),
  'leakage exact': (copied(IMAGE, HELD_OUT), [IMAGE, HELD_OUT], 'warning'),
  'leakage near': (replaced(HELD_OUT, image(0), format='JPEG', quality=70), [IMAGE, HELD_OUT], 'warning'),
}
