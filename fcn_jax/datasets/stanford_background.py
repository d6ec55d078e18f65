"""stanford_background: 715 outdoor photographs, with eight semantic or three geometric classes for each pixel.

Gould, Fulton, Koller: Decomposing a Scene into Geometric and Semantically Consistent Regions, ICCV 2009. The archive
is not trusted: it is read where it lies, without extracting it, and checked as a whole before anything is written.
"""

import contextlib
import io
import pathlib
import re
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from fcn_jax.datasets import IGNORE
from fcn_jax.datasets.scenes import Scenes, encoded, features
from fcn_jax.errors import UserError

URL = 'http://dags.stanford.edu/data/iccv09Data.tar.gz'
IMAGES = 715
FOLDS = 5
LARGEST = 2**24  # bytes that a picture or a label may have; the real ones stay below a quarter of a million

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
    """`read` of the archive that was named, or lies in the manual directory, or is downloaded, in this order."""
    path, kind = epath.Path(self._archive).expanduser(), self.builder_config.name
    if not self._archive:
      with contextlib.suppress(AssertionError):  # TFDS's way to say that there is no such folder, or nothing in it
        path = dl_manager.manual_dir / 'iccv09Data.tar.gz'
    if self._archive or path.is_file():
      return read(path, kind)
    path = _download(dl_manager, dl_manager.download_dir / self.name)
    try:
      return read(path, kind)
    except UserError as error:
      for file in (path, path.with_name(f'{path.name}.INFO')):  # else TFDS would take them for good the next time
        file.unlink(missing_ok=True)
      raise UserError(f'{error}. This is what {URL} sent; it is removed, so that it can be tried again') from error


def _download(dl_manager, folder: epath.Path) -> epath.Path:
  """Path of the archive from `URL`, in `folder`, where TFDS also finds what it downloaded before."""
  others = set(folder.glob('*.tmp.*'))  # perhaps of a process that is downloading just now
  try:
    if not any(folder.glob('*.INFO')):
      # Offline, TFDS alone would try for minutes. An HTTP error is an answer too, which it deals with.
      with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(URL, method='HEAD'), timeout=30).close()
    return dl_manager.download(URL)
  except Exception as error:  # TFDS, requests and urllib3 have each their own, but there is one thing to say
    for partial in set(folder.glob('*.tmp.*')) - others:
      partial.rmtree()
    cause = error
    while inner := cause.__cause__ or cause.__context__:
      cause = inner  # 'Connection refused', without the layers around it
    raise UserError(
      f'cannot download {URL}: {cause}. If you have the file, give its place: '
      '--config.data.archive=/path/iccv09Data.tar.gz'
    ) from error


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
  files = _read_members(path, re.compile(rf'iccv09Data/(images/\w+\.jpg|labels/\w+\.{kind}\.txt)', re.ASCII))
  layout = f'{IMAGES} pictures iccv09Data/images/ID.jpg, and for each iccv09Data/labels/ID.{kind}.txt'
  examples, names = [], sorted({pathlib.PurePath(name).name.split('.')[0] for name in files})
  for name in names:
    pair = f'iccv09Data/images/{name}.jpg', f'iccv09Data/labels/{name}.{kind}.txt'
    for member in pair:
      if member not in files:
        raise UserError(f'{path} has no {member}; expected {layout}')
    image, label = (files[member] for member in pair)
    size = _size(image, where=f'{path}: {pair[0]}')
    label = _parse(label, size=size, classes=len(CLASSES[kind]), where=f'{path}: {pair[1]}')
    examples.append({'image': image, 'label': encoded(label, 'PNG'), 'id': name})
  if len(examples) != IMAGES:
    raise UserError(f'{path} has {len(examples)} pictures; expected {layout}')
  return examples


def _read_members(path: epath.Path, wanted: re.Pattern) -> dict[str, bytes]:
  """The files of a tar archive whose names are wanted, in one pass, since going back means unpacking anew."""
  files = {}
  try:
    with path.open('rb') as file, tarfile.open(fileobj=file) as archive:
      for member in archive:
        name = _safe_name(member, path)
        if wanted.fullmatch(name) and member.isfile():
          if member.size > LARGEST:
            raise UserError(f'{path}: {name} has {member.size} bytes; expected at most {LARGEST}')
          files[name] = archive.extractfile(member).read()
      while archive.fileobj.read(2**20):
        pass  # up to the checksum at the end, which tarfile does not reach
  except FileNotFoundError as error:
    raise UserError(f'there is no archive {path}; expected a copy of {URL}') from error
  except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
    reason = str(error).split('\n')[0].rstrip(':')  # the other lines tell of each compression that it is not
    raise UserError(f'cannot read {path} as a tar archive: {reason}; expected a copy of {URL}') from error
  return files


def _safe_name(member: tarfile.TarInfo, path: epath.Path) -> str:
  """The name of a file or folder; one that would not stay in its folder if it were extracted is refused."""
  name = pathlib.PurePosixPath(member.name)
  if name.is_absolute() or '..' in name.parts:
    found = 'would leave the folder'
  elif not (member.isfile() or member.isdir()):
    found = f'is a link to {member.linkname!r}' if member.issym() or member.islnk() else 'is a device or a pipe'
  else:
    return str(name)
  raise UserError(f'{path}: the member {member.name!r} {found}; expected plain files, as in {URL}')


def _size(image: bytes, where: str) -> tuple[int, int]:
  """Width and height of a JPEG picture, which is decoded to see that it can be."""
  try:
    with Image.open(io.BytesIO(image), formats=['JPEG']) as opened:
      opened.load()
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    raise UserError(f'{where} holds {len(image)} bytes that do not decode; expected a whole JPEG picture') from error
  if opened.mode != 'RGB':
    raise UserError(f'{where} has the colours {opened.mode}; expected RGB')
  return opened.size


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
