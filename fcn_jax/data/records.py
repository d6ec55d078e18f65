"""Records that TFDS has prepared, as splits. Every built-in data set is loaded by `load_builder`."""

import abc
import hashlib
import inspect
import pathlib
import re
import threading
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow_datasets as tfds

from fcn_jax import image_files
from fcn_jax.data import decoded, preparation
from fcn_jax.data.dataset import Classes, Data, Example
from fcn_jax.errors import UserError

# TFDS takes the first three for patterns and would not find its files; its writer wants valid UTF-8.
_UNSAFE = re.compile(r'[*?\[\ud800-\udfff]')

# The stream and the head of all records here.
STREAM, HEAD = 'rgb', 'semantic'
INPUTS = {STREAM: 3}


class _Info(tfds.core.DatasetInfo):
  """What TFDS knows of a data set, from this package alone."""

  def initialize_from_bucket(self) -> None:
    """TFDS would ask its server about each data set that is not prepared, and leave a temporary folder behind."""


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """The base of the builders. The docstring of a builder is the description of the data set.

  An example is a dict: image, the bytes of a JPEG; label, the bytes of a grayscale PNG of class numbers; id.
  """

  VERSION = tfds.core.Version('1.0.0')

  def __init__(self, *, data_dir: str | None = None, **options):
    """Raises `UserError` if the folder has a name that TFDS cannot use."""
    if found := _UNSAFE.search(str(data_dir or tfds.core.constants.DATA_DIR)):
      raise UserError(f'data.dir {data_dir}: the path of prepared data cannot have {found[0]!a}; choose another folder')
    super().__init__(data_dir=data_dir, **options)

  @abc.abstractmethod
  def examples(self, dl_manager) -> dict[str, Iterable[dict]]:
    """The examples of each TFDS split; `dl_manager` is TFDS's download manager."""

  def _info(self) -> tfds.core.DatasetInfo:
    image = tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg')
    label = tfds.features.Image(shape=(None, None, 1), encoding_format='png')
    features = tfds.features.FeaturesDict({'image': image, 'label': label, 'id': tfds.features.Text()})
    return _Info(builder=self, description=inspect.getdoc(type(self)), features=features)

  def _split_generators(self, dl_manager) -> dict:
    return {split: self._generate_examples(examples) for split, examples in self.examples(dl_manager).items()}

  def _generate_examples(self, examples: Iterable[dict]) -> Iterator[tuple[str, dict]]:
    for example in examples:
      yield example['id'], example


def load_builder(builder_class: type[Builder], splits: dict[str, str], data, classes: Classes, **options) -> Data:
  """The data set of a TFDS builder, which is prepared first if necessary.

  Args:
    builder_class: of the data set.
    splits: TFDS split expressions by purpose: {'train': 'train', 'validation': 'train[:10%]'}.
    data: the section `data` of a config. `data.dir` is the folder of prepared data; the splits share `data.cache_gib`
      in proportion to their numbers of images. A builder of a data set with the settings `archive` and `sbd_archive`
      gets their values.
    classes: of the labels.
    options: further arguments of the builder class.

  Raises:
    UserError: the folder cannot be used, or the builder cannot prepare the data.
  """
  options |= {setting: data[setting] for setting in ('archive', 'sbd_archive') if setting in data}
  builder = preparation.prepared(builder_class, data, options)
  # Records are decoded here, not by TFDS, whose decoder depends on which other packages are installed.
  skip = {name: tfds.decode.SkipDecoding() for name in ('image', 'label')}
  try:
    sources = {name: builder.as_data_source(split, decoders=skip) for name, split in splits.items()}
    digest = fingerprint(builder.info.full_name, sources)
  except Exception as error:  # TFDS and the reader of records raise different exceptions
    raise UserError(
      f'cannot read the data in {builder.data_path}: {preparation.reason(error)}; if files are missing or damaged, '
      'delete this folder, and they are prepared again'
    ) from error
  limit = data.cache_gib * 2**30
  room = limit / sum(map(len, sources.values()))  # bytes per image
  # The digest covers a sample of the records; the time covers all of them.
  written = pathlib.Path(builder.data_path, 'dataset_info.json').stat().st_mtime_ns
  folder = decoded.Folder(decoded.location(data), limit, f'{digest} {written}')
  images = {
    name: Records(source, room=room * len(source), threads=data.threads, folder=folder, split=name)
    for name, source in sources.items()
  }
  return Data(inputs=INPUTS, heads={HEAD: classes}, splits=images, fingerprint=digest)


def fingerprint(name: str, sources: dict, most: int = 1000) -> str:
  """A digest of at most `most` records per split, not of files, which differ each time the records are written."""
  digest = hashlib.sha256()
  for split, source in sorted(sources.items()):
    digest.update(f'{split} {len(source)}'.encode())
    for index in np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).astype(int)):
      record = source[int(index)]
      digest.update(record['id'] + record['image'] + record['label'])
  return f'{name} {digest.hexdigest()[:16]}'


class Records:
  """The images of a split (`dataset.Split`), decoded once while there is room, and otherwise when they are read."""

  def __init__(self, source, *, room: float, threads: int = 1, folder: decoded.Folder | None = None, split: str = ''):
    """Makes a split that decodes its first images when it is first asked for one.

    Args:
      source: undecoded records by index.
      room: the bytes that decoded images may take.
      threads: number of threads that decode.
      folder: where decoded images are stored, for all processes of this machine; None is the memory of this one.
      split: name of the split.
    """
    self._source, self._room, self._threads, self._folder, self._split = source, room, threads, folder, split
    self._index: decoded.Index | None = None
    self._images: decoded.Images | None = None
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> Example:
    images = self._images if self._images is not None else self._opened()
    image, label = images[index] if index < len(images) else self._decode(index)
    return {'inputs': {STREAM: image}, 'labels': {HEAD: label}, 'id': self._index.ids[index].decode()}

  @property
  def is_decoded(self) -> bool:
    """Whether no image has to be decoded when it is read."""
    return len(self._opened()) == len(self)

  def _opened(self) -> decoded.Images:
    with self._lock:
      if self._images is None:
        self._index, self._images = decoded.open_images(
          self._made_index, self._decode, room=self._room, threads=self._threads, folder=self._folder, split=self._split
        )
      return self._images

  def _decode(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    record = self._source[index]
    name = record['id'].decode()
    with image_files.opened(record['image'], name=name) as opened:
      image = np.asarray(opened.convert('RGB'))
    label = image_files.read_mask(record['label'], name)
    if image.shape[:2] != label.shape:
      raise UserError(
        f'{name} has {list(image.shape[:2])} pixels and its label {list(label.shape)}; expected the same height and '
        'width'
      )
    return image, label

  def _made_index(self) -> decoded.Index:
    """Ids and sizes, from the headers of the files, which are read once."""
    if self._index is None:
      records = map(self._source.__getitem__, range(len(self)))
      found = [(x['id'], image_files.size_of(x['label'], x['id'].decode())) for x in records]
      ids, sizes = zip(*found, strict=True)
      self._index = decoded.Index(np.array(ids), np.array(sizes))
    return self._index

  def ids(self) -> list[str]:
    return [name.decode() for name in self._made_index().ids.tolist()]

  def sizes(self) -> np.ndarray:
    """Heights and widths, int [N, 2]."""
    return self._made_index().sizes
