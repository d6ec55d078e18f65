"""From prepared data to batches: a pure function of (seed, step, host), with no iterator state to store.

Batches are dicts of numpy arrays: image uint8 [B, H, W, 3] RGB, label uint8 [B, H, W] with 255 = ignore, size int32
[B, 2], the height and width of each picture in the top left of its canvas. They are normalised on the device.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import io
import math
import threading
from collections.abc import Iterator

import grain
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from fcn_jax.data import IGNORE
from fcn_jax.data.augment import augment, on_canvas
from fcn_jax.errors import UserError


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
      name: Pictures(source, split=name, classes=len(builder.CLASSES), room=data.cache * 2**30 * len(source) / pictures)
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


def train_batches(
  pictures: Pictures,
  data,
  *,
  batch_size: int,
  seed: int,
  step: int = 0,
  host: int = 0,
  hosts: int = 1,
) -> Iterator[dict]:
  """This host's part of the batches of step, step + 1, ..., without end.

  Each epoch is a new permutation, unless `data.replacement`. The batch of a step holds the same pictures on any number
  of hosts.

  Args:
    batch_size: of all hosts together.
    data: the section `data` of the config.
  """

  def example(index, rng):
    picture = pictures[rng.integers(len(pictures)) if data.replacement else index]
    return augment(picture['image'], picture['label'], rng, data)

  dataset = grain.MapDataset.range(len(pictures)).seed(seed).shuffle().repeat().random_map(example)
  dataset = dataset[host::hosts].batch(batch_size // hosts, drop_remainder=True)[step:]
  return iter(dataset.to_iter_dataset(_read_options(data)))


def eval_batches(
  pictures: Pictures, data, *, batch_size: int, canvases: int, host: int = 0, hosts: int = 1
) -> Iterator[dict]:
  """Every picture once, at its own size, on one of a few canvases; this host's part.

  A batch also holds index int [B], the place in `pictures`, -1 for a filler, which fills up the last batch of a canvas
  or of a host: a picture of size 1x1, all of it labelled 255. All hosts get equally many batches of each shape.
  """
  plan = eval_plan(pictures.sizes(), batch_size=batch_size, canvases=canvases)

  def filler(canvas):
    blank = np.zeros((1, 1, 3), np.uint8), np.full((1, 1), IGNORE, np.uint8)
    return on_canvas(*blank, canvas) | {'index': np.array(-1)}

  def batch(number):
    canvas, indices = plan[number]
    own = indices[host::hosts]
    examples = [on_canvas(pictures[i]['image'], pictures[i]['label'], canvas) | {'index': np.array(i)} for i in own]
    examples += [filler(canvas)] * (batch_size // hosts - len(own))
    return {name: np.stack([e[name] for e in examples]) for name in examples[0]}

  dataset = grain.MapDataset.range(len(plan)).map(batch)
  return iter(dataset.to_iter_dataset(_read_options(data, ahead=2)))


def own_pictures(pictures: Pictures, *, batch_size: int, canvases: int, host: int, hosts: int) -> list[int]:
  """The places of the pictures that `eval_batches` gives to a host, in order."""
  plan = eval_plan(pictures.sizes(), batch_size=batch_size, canvases=canvases)
  return sorted(int(i) for _, indices in plan for i in indices[host::hosts])


def eval_plan(sizes: np.ndarray, *, batch_size: int, canvases: int) -> list[tuple[tuple, np.ndarray]]:
  """Which pictures share a batch, and its canvas: [((height, width), indices), ...], for all hosts."""
  shapes = sorted(choose_canvases(sizes, canvases), key=math.prod)
  members = {shape: [] for shape in shapes}
  for index, size in enumerate(sizes):
    members[_holding(size, shapes)[0]].append(index)
  plan = []
  for number, shape in enumerate(shapes):
    own = members[shape]
    filled = len(own) - len(own) % batch_size
    own, rest = own[:filled], own[filled:]
    # Pictures that do not fill a batch take places on a larger canvas, where those would be fillers.
    larger = _holding(shape, shapes[number + 1 :])
    if roomy := [other for other in larger if len(rest) <= -len(members[other]) % batch_size]:
      members[roomy[0]] = sorted([*members[roomy[0]], *rest])
    else:
      own = own + rest
    plan += [(shape, np.array(own[i : i + batch_size])) for i in range(0, len(own), batch_size)]
  return plan


def _holding(size, shapes) -> list[tuple[int, int]]:
  """Those of the shapes that a picture of this size fits into."""
  return [shape for shape in shapes if size[0] <= shape[0] and size[1] <= shape[1]]


def choose_canvases(sizes: np.ndarray, limit: int) -> list[tuple[int, int]]:
  """At most `limit` (height, width), multiples of 16, that hold all sizes [N, 2] with little waste.

  Starts with each size rounded up, then merges the two canvases whose union adds the fewest pixels.
  """
  rounded = [tuple(int(-(-n // 16) * 16) for n in size) for size in sizes]
  counts = {canvas: rounded.count(canvas) for canvas in sorted(set(rounded))}
  while len(counts) > limit:
    names = list(counts)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    a, b = min(pairs, key=lambda pair: _waste(*pair, counts))
    union = max(a[0], b[0]), max(a[1], b[1])
    merged = counts.pop(a) + counts.pop(b)
    counts[union] = counts.get(union, 0) + merged
  return list(counts)


def _waste(a, b, counts) -> int:
  union = max(a[0], b[0]) * max(a[1], b[1])
  return sum(counts[canvas] * (union - canvas[0] * canvas[1]) for canvas in (a, b))


def _read_options(data, ahead: int = 16) -> grain.ReadOptions:
  return grain.ReadOptions(num_threads=data.threads, prefetch_buffer_size=max(ahead, data.threads))


def class_shares(pictures: Pictures, classes: int, most: int = 500) -> np.ndarray:
  """The share of the labelled pixels that each class has, [classes], over the first `most` pictures."""
  counts = np.zeros(256, np.int64)
  for index in range(min(len(pictures), most)):
    counts += np.bincount(pictures[index]['label'].ravel(), minlength=256)
  return counts[:classes] / max(1, counts[:classes].sum())
