"""stanford_background: 715 outdoor photographs, with eight semantic or three geometric classes for each pixel.

Gould, Fulton, Koller: Decomposing a Scene into Geometric and Semantically Consistent Regions, ICCV 2009. The archive
is not trusted: it is read without extracting it, and all of it is checked before anything is written.
"""

import pathlib
import re

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from fcn_jax import images
from fcn_jax.data import archives, records
from fcn_jax.data.builders import scenes
from fcn_jax.data.dataset import IGNORE, Classes
from fcn_jax.errors import UserError

URL = 'http://dags.stanford.edu/data/iccv09Data.tar.gz'
IMAGES = 715
FOLDS = 5

CLASSES = {
  'regions': scenes.CLASSES,
  # The surfaces have the colors of their most frequent classes: sky, road and building.
  'surfaces': Classes(('sky', 'horizontal', 'vertical'), tuple(scenes.CLASSES.palette[i] for i in (0, 2, 5))),
}


def load(data):
  """The data set, prepared in `data.dir` if necessary: see `dataset.load`."""
  return records.load_builder(StanfordBackground, splits(data), data, CLASSES[data.label], config=data.label)


def describe(data):
  """Streams and heads: see `dataset.describe`."""
  return records.INPUTS, {records.HEAD: CLASSES[data.label]}


def splits(data) -> dict[str, str]:
  """The TFDS split expressions of one fold of the cross-validation.

  Args:
    data: the section `data` of a config. `fold`, 0 to 4, is the one to test on; the other four are for training.
      `val_fraction`, 0 to below 1, is the fraction of these four that is held back for validation. It is taken from the
      front of each fold, at least one image and never all. TFDS has shuffled the images, always in the same way, so the
      front is a random sample.

  Returns:
    TFDS split expressions: train, test, and validation if `val_fraction` is above 0.
  """
  fold, val_fraction = data.fold, data.val_fraction
  others = [f'fold{k}' for k in range(FOLDS) if k != fold]
  if not val_fraction:
    return {'train': '+'.join(others), 'test': f'fold{fold}'}
  size = IMAGES // FOLDS
  count = min(max(1, round(val_fraction * size)), size - 1)
  return {
    'train': '+'.join(f'{name}[{count}:]' for name in others),
    'validation': '+'.join(f'{name}[:{count}]' for name in others),
    'test': f'fold{fold}',
  }


class StanfordBackground(archives.Builder):
  """715 outdoor photographs of about 320x240 pixels, with a class for each pixel, or 255 for unlabeled.

  The images are in five fixed folds of 143: every fifth of the sorted ids. Gould, Fulton, Koller: Decomposing a Scene
  into Geometric and Semantically Consistent Regions, 2009.
  """

  BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name) for name in CLASSES)  # the first is the default

  def examples(self, dl_manager) -> dict[str, list[dict]]:
    found = self.read_archive(dl_manager, 'archive', URL, lambda path: read(path, self.builder_config.name))
    return {f'fold{k}': found[k::FOLDS] for k in range(FOLDS)}


def read(path: epath.Path, kind: str) -> list[dict]:
  """All examples of an archive, checked.

  Args:
    path: a tar archive, compressed or not, with images/ID.jpg and labels/ID.KIND.txt in iccv09Data/.
    kind: of the labels: regions or surfaces.

  Returns:
    Sorted by id: image, the bytes of the JPEG; label, a grayscale PNG with 255 for -1; id.

  Raises:
    UserError: there is no such archive, or its contents are wrong. The message names the file and what was expected.
  """
  wanted = re.compile(rf'iccv09Data/(images/\w+\.jpg|labels/\w+\.{kind}\.txt)', re.ASCII)
  files = dict(archives.members(path, wanted, URL))
  layout = f'{IMAGES} images iccv09Data/images/ID.jpg, each with iccv09Data/labels/ID.{kind}.txt'
  examples, names = [], sorted({pathlib.PurePath(name).name.split('.')[0] for name in files})
  for name in names:
    pair = f'iccv09Data/images/{name}.jpg', f'iccv09Data/labels/{name}.{kind}.txt'
    if missing := [member for member in pair if member not in files]:
      raise UserError(f'{path} has no {missing[0]}; expected {layout}')
    image, label = (files[member] for member in pair)
    size = archives.size_of_jpeg(image, where=f'{path}: {pair[0]}')
    label = _parse(label, size=size, classes=len(CLASSES[kind]), where=f'{path}: {pair[1]}')
    examples.append({'image': image, 'label': images.encoded(Image.fromarray(label)), 'id': name})
  if len(examples) != IMAGES:
    raise UserError(f'{path} has {len(examples)} images; expected {layout}')
  return examples


def _parse(text: bytes, *, size: tuple[int, int], classes: int, where: str) -> np.ndarray:
  """A label file as uint8 [H, W], with 255 for -1. Looking values up in a dict checks them, and is fastest."""
  (height, width), rows = size, text.splitlines()
  values = {b'-1': IGNORE} | {str(number).encode(): number for number in range(classes)}
  if len(rows) != height:
    raise UserError(f'{where} has {len(rows)} rows; expected {height}, the height of its image')
  label = bytearray()
  for number, row in enumerate(map(bytes.split, rows), start=1):
    if len(row) != width:
      raise UserError(f'{where}, row {number} has {len(row)} numbers; expected {width}, the width of its image')
    try:
      label += bytes(map(values.__getitem__, row))
    except KeyError as error:
      found = error.args[0][:20].decode('ascii', 'replace')
      raise UserError(f'{where}, row {number} has {found!r}; expected integers from -1 to {classes - 1}') from error
  return np.frombuffer(label, np.uint8).reshape(height, width)
