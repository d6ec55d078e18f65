"""stanford_background: 715 outdoor photographs, with eight semantic or three geometric classes for each pixel.

Gould, Fulton, Koller: Decomposing a Scene into Geometric and Semantically Consistent Regions, ICCV 2009. The archive
is not trusted: it is read where it lies, without extracting it, and checked as a whole before anything is written.
"""

import pathlib
import re
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from fcn_jax.data import archives
from fcn_jax.data.builders.scenes import Scenes, encoded, features
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError

URL = 'http://dags.stanford.edu/data/iccv09Data.tar.gz'
IMAGES = 715
FOLDS = 5

CLASSES = {'regions': Scenes.CLASSES, 'surfaces': ('sky', 'horizontal', 'vertical')}
# The surfaces have the colours of what they mostly are: sky, road and building.
PALETTES = {'regions': Scenes.PALETTE, 'surfaces': tuple(Scenes.PALETTE[i] for i in (0, 2, 5))}


def make(data) -> 'StanfordBackground':
  """The builder for a config's section `data`."""
  return StanfordBackground(
    archive=data.archive, config=data.label, data_dir=data.dir or None, file_format='array_record'
  )


def splits(data) -> dict[str, str]:
  """What TFDS calls the parts of one fold of the cross-validation.

  Args:
    data: `fold`, 0 to 4, is the one to test on; the other four are trained on. `val_fraction` is the share of these
      four, 0 to below 1, that is kept back for validation. It is taken from the front of each, at least one picture and
      never all; TFDS has shuffled them, so it is a sample, and always the same one.

  Returns:
    TFDS split expressions: train, test, and validation where val_fraction is above 0.
  """
  fold, val_fraction = data.fold, data.val_fraction
  others = [f'fold{k}' for k in range(FOLDS) if k != fold]
  if not val_fraction:
    return {'train': '+'.join(others), 'test': f'fold{fold}'}
  size = IMAGES // FOLDS
  kept = min(max(1, round(val_fraction * size)), size - 1)
  return {
    'train': '+'.join(f'{name}[{kept}:]' for name in others),
    'validation': '+'.join(f'{name}[:{kept}]' for name in others),
    'test': f'fold{fold}',
  }


class StanfordBackground(tfds.core.GeneratorBasedBuilder):
  """The Stanford Background Dataset in five fixed folds of 143 pictures: sorted ids, every fifth."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name) for name in CLASSES)  # the first is the default
  MANUAL_DOWNLOAD_INSTRUCTIONS = f'Put iccv09Data.tar.gz there, from {URL}.'  # TFDS wants some to look there

  def __init__(self, *, archive: str = '', **kwargs):
    """Args: archive: path of a local iccv09Data.tar.gz; '' looks in TFDS's manual directory, then downloads."""
    self._archive = archive
    super().__init__(**kwargs)

  @property
  def CLASSES(self) -> tuple[str, ...]:
    return CLASSES[self.builder_config.name]

  @property
  def PALETTE(self) -> tuple[tuple[int, int, int], ...]:
    return PALETTES[self.builder_config.name]

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='715 outdoor photographs of about 320x240 pixels, each pixel with a class, or 255 for unknown.',
      citation='Gould, Fulton, Koller: Decomposing a Scene into Geometric and Semantically Consistent Regions, 2009',
      features=features(),
    )

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    examples = self._read(dl_manager)
    return {f'fold{k}': self._generate_examples(examples[k::FOLDS]) for k in range(FOLDS)}

  def _generate_examples(self, examples: list[dict]) -> Iterator[tuple[str, dict]]:
    for example in examples:
      yield example['id'], example

  def _read(self, dl_manager) -> list[dict]:
    kind = self.builder_config.name
    return archives.with_archive(
      dl_manager,
      self.name,
      given=self._archive,
      url=URL,
      setting='data.archive',
      read=lambda path: read(path, kind),
    )


def read(path: epath.Path, kind: str) -> list[dict]:
  """All examples of an archive, checked.

  Args:
    path: a tar archive, compressed or not, with images/ID.jpg and labels/ID.KIND.txt in iccv09Data/.
    kind: of the labels, regions or surfaces.

  Returns:
    By id: image, the bytes of the JPEG; label, a grayscale PNG with 255 for -1; id.

  Raises:
    UserError: there is no such archive, or it does not hold what it should; names the file and what was expected.
  """
  wanted = re.compile(rf'iccv09Data/(images/\w+\.jpg|labels/\w+\.{kind}\.txt)', re.ASCII)
  files = dict(archives.members(path, wanted, URL))
  layout = f'{IMAGES} pictures iccv09Data/images/ID.jpg, and for each iccv09Data/labels/ID.{kind}.txt'
  examples, names = [], sorted({pathlib.PurePath(name).name.split('.')[0] for name in files})
  for name in names:
    pair = f'iccv09Data/images/{name}.jpg', f'iccv09Data/labels/{name}.{kind}.txt'
    for member in pair:
      if member not in files:
        raise UserError(f'{path} has no {member}; expected {layout}')
    image, label = (files[member] for member in pair)
    size = archives.jpeg_size(image, where=f'{path}: {pair[0]}')
    label = _parse(label, size=size, classes=len(CLASSES[kind]), where=f'{path}: {pair[1]}')
    examples.append({'image': image, 'label': encoded(label, 'PNG'), 'id': name})
  if len(examples) != IMAGES:
    raise UserError(f'{path} has {len(examples)} pictures; expected {layout}')
  return examples


def _parse(text: bytes, *, size: tuple[int, int], classes: int, where: str) -> np.ndarray:
  """A label file as uint8 [H, W], -1 as 255. A dict is both the check and the fastest way through."""
  (width, height), rows = size, text.splitlines()
  values = {b'-1': IGNORE} | {str(number).encode(): number for number in range(classes)}
  if len(rows) != height:
    raise UserError(f'{where} has {len(rows)} rows; expected {height}, the height of its picture')
  label = bytearray()
  for number, row in enumerate(map(bytes.split, rows), start=1):
    if len(row) != width:
      raise UserError(f'{where}, row {number} has {len(row)} numbers; expected {width}, the width of its picture')
    try:
      label += bytes(map(values.__getitem__, row))
    except KeyError as error:
      found = error.args[0][:20].decode('ascii', 'replace')
      raise UserError(f'{where}, row {number} has {found!r}; expected integers from -1 to {classes - 1}') from error
  return np.frombuffer(label, np.uint8).reshape(height, width)
