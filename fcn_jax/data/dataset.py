"""What a data set is, and how one is opened."""

import contextlib
import dataclasses
import hashlib
import importlib
import io
import threading

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from fcn_jax.errors import UserError

IGNORE = 255  # the label of pixels that count neither in the loss nor in the metrics


@dataclasses.dataclass(frozen=True)
class Classes:
  """The classes of a head."""

  names: tuple[str, ...]
  palette: tuple[tuple[int, int, int], ...]
  ignore: int = IGNORE

  def __len__(self) -> int:
    return len(self.names)


@dataclasses.dataclass(frozen=True)
class Data:
  """A data set, ready to be read.

  Attributes:
    classes: their names.
    palette: their colours, RGB in 0..255.
    splits: its pictures by what they are for: train; validation, test or both.
    fingerprint: changes when the prepared pictures do.
  """

  classes: tuple[str, ...]
  palette: tuple[tuple[int, int, int], ...]
  splits: dict[str, 'Pictures']
  fingerprint: str

  @property
  def held_out(self) -> str:
    """The split that results are reported on: test, or validation where there is no test."""
    return 'test' if 'test' in self.splits else 'validation'

  @property
  def watched(self) -> str:
    """The split that a run is scored on while it trains: validation, or test where there is no validation."""
    return 'validation' if 'validation' in self.splits else 'test'

  def split(self, name: str) -> 'Pictures':
    if name not in self.splits:
      raise UserError(f'there is no split {name!r}; this run has {", ".join(self.splits)}')
    return self.splits[name]


class Pictures:
  """The pictures of a split, decoded when asked for and kept in memory while there is room.

  `pictures[i]` is a dict of image uint8 [H, W, 3], label uint8 [H, W] and id, a string.
  """

  def __init__(self, source, *, split: str, classes: int, room: float):
    self._source, self._split, self._classes = source, split, classes
    self._room = room  # bytes
    self._kept, self._sizes = {}, None
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index) -> dict:
    index = int(index)
    if index in self._kept:
      return self._kept[index]
    picture = self._decode(self._source[index])
    size = picture['image'].nbytes + picture['label'].nbytes
    with self._lock:
      if index not in self._kept and size <= self._room:
        self._kept[index] = picture
        self._room -= size
    return picture

  def ids(self) -> list[str]:
    return [self._source[i]['id'].decode() for i in range(len(self))]

  def sizes(self) -> np.ndarray:
    """Heights and widths, int [N, 2], from the files' headers, which are read once."""
    if self._sizes is None:
      headers = (Image.open(io.BytesIO(self._source[i]['label'])).size for i in range(len(self)))
      self._sizes = np.array([(height, width) for width, height in headers]).reshape(-1, 2)
    return self._sizes

  def _decode(self, record: dict) -> dict:
    image = np.asarray(Image.open(io.BytesIO(record['image'])).convert('RGB'))
    label = np.asarray(Image.open(io.BytesIO(record['label'])))
    name = record['id'].decode()
    if label.shape != image.shape[:2]:
      raise UserError(f'{self._split} picture {name}: the label is {label.shape}, the image {image.shape[:2]}')
    if (wrong := label[(label >= self._classes) & (label != IGNORE)]).size:
      raise UserError(
        f'{self._split} picture {name}: {wrong.size} pixels are labelled {wrong[0]}; expected classes '
        f'0 to {self._classes - 1}, or {IGNORE} for pixels to ignore'
      )
    return {'image': image, 'label': label, 'id': name}


def load(data, say=lambda _: None) -> Data:
  """Prepares the data set of a config's section `data` if need be, which `say` is told of, and opens it."""
  tfds.disable_progress_bar()
  builder = _builder(data)
  if not builder.is_prepared():
    say(f'preparing {builder.info.full_name} in {builder.data_path}')
    try:
      with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces it in words of its own
        builder.download_and_prepare()
    except OSError as error:
      builder = _builder(data)
      if not builder.is_prepared():  # else another run has prepared it meanwhile, and TFDS did not overwrite that
        raise UserError(f'cannot prepare {data.name} in {builder.data_path}: {error}') from error
  # Bytes are decoded here, not by TFDS, whose decoder depends on what else is installed.
  skip = {name: tfds.decode.SkipDecoding() for name in ('image', 'label')}

  sources = {name: builder.as_data_source(split, decoders=skip) for name, split in _module(data).splits(data).items()}
  pictures = sum(map(len, sources.values()))
  return Data(
    classes=builder.CLASSES,
    palette=builder.PALETTE,
    splits={
      name: Pictures(
        source, split=name, classes=len(builder.CLASSES), room=data.cache_gib * 2**30 * len(source) / pictures
      )
      for name, source in sources.items()
    },
    fingerprint=_fingerprint(builder.info.full_name, sources),
  )


def _module(data):
  return importlib.import_module(f'fcn_jax.data.builders.{data.name}')


def classes_and_palette(data) -> tuple:
  """Names and colours of a data set's classes, without preparing it."""
  builder = _builder(data)
  return builder.CLASSES, builder.PALETTE


def _builder(data):
  try:
    return _module(data).make(data)
  except OSError as error:
    raise UserError(f'cannot use data.dir {data.dir}: {error}') from error


def _fingerprint(name: str, sources: dict, most: int = 1000) -> str:
  """Of the records, at most `most` a split; the files that hold them differ from one writing to the next."""
  digest = hashlib.sha256()
  for split, source in sorted(sources.items()):
    digest.update(f'{split} {len(source)}'.encode())
    for index in np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).astype(int)):
      record = source[int(index)]
      digest.update(record['id'] + record['image'] + record['label'])
  return f'{name} {digest.hexdigest()[:16]}'


def class_shares(pictures: Pictures, classes: int, most: int = 500) -> np.ndarray:
  """The share of the labelled pixels that each class has, [classes], over the first `most` pictures."""
  counts = np.zeros(256, np.int64)
  for index in range(min(len(pictures), most)):
    counts += np.bincount(pictures[index]['label'].ravel(), minlength=256)
  return counts[:classes] / max(1, counts[:classes].sum())
