"""Decoded images in one array, one after another: in a file that all processes of a machine map, or else in memory.

An image of C channels takes C bytes per pixel, then 1 byte per pixel for its label. A file holds the ids and sizes of
the images of a split, then as many decoded images, from the first on, as there is room for.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import itertools
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures

import numpy as np
import PIL
from etils import epath

from fcn_jax import files
from fcn_jax.errors import UserError

logger = logging.getLogger(__name__)

_ENDING = '.images'
_DIGITS = 16
_TOGETHER = 64  # images that are decoded before they are written


def data_dir(data) -> epath.Path:
  """The folder of prepared data; `data` is the section `data` of a config. Raises: UserError: it is in a bucket."""
  given = data.dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  if given.startswith('gs://'):
    raise UserError(f'data.dir is {given}; expected a folder on a disk, because records cannot be read from a bucket')
  return files.path(given)


def location(data) -> pathlib.Path:
  """The folder of decoded images; `data` is the section `data` of a config. Raises: UserError: it is in a bucket."""
  if data.cache_dir.startswith('gs://'):
    raise UserError(
      f'data.cache_dir is {data.cache_dir}; expected a folder on a disk, because files in a bucket cannot be mapped'
    )
  return pathlib.Path(files.path(data.cache_dir) if data.cache_dir else data_dir(data) / 'decoded')


@contextlib.contextmanager
def alone(folder: os.PathLike, doing: str) -> Iterator[bool]:
  """A context that one process of this machine enters at a time; yields false if the disk has no locks.

  Args:
    folder: made if it is missing.
    doing: what the processes do in the folder, for a message of those that wait: 'prepares data in'.
  """
  pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
  lock, locked = os.open(folder, os.O_RDONLY), True
  try:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      logger.info('waiting for another process that %s %s', doing, folder)
      fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
      locked = False
    yield locked
  finally:
    os.close(lock)


@dataclasses.dataclass(frozen=True)
class Folder:
  """Where decoded images are stored.

  Attributes:
    path: of the folder, which may be missing. The files in it that have not been used for longest are removed when all
      together would be larger than `limit`.
    limit: in bytes.
    data: of which data set the images are, and of which preparation of it.
  """

  path: pathlib.Path
  limit: float
  data: str

  def file(self, split: str) -> pathlib.Path:
    """The file of a split. Another version of pillow may decode a JPEG differently."""
    return self.path / f'{self._prefix()}{split}{_ENDING}'

  def _prefix(self) -> str:
    return hashlib.sha256(f'2 {PIL.__version__} {self.data}'.encode()).hexdigest()[:_DIGITS] + '-'

  def make_room(self, size: int) -> None:
    """Removes files of other data sets, the least recently used first, until `size` bytes more are within the limit."""
    pattern = f'{"[0-9a-f]" * _DIGITS}-*{_ENDING}'  # and no file of the user
    found = sorted((x.stat().st_mtime, x.stat().st_size, x) for x in self.path.glob(pattern))
    total = sum(old for _, old, _ in found) + size
    for _, old, path in found:
      if total > self.limit and not path.name.startswith(self._prefix()):
        path.unlink(missing_ok=True)  # processes that have mapped it keep their mapping
        total -= old


@dataclasses.dataclass(frozen=True)
class Index:
  """The ids and sizes of the images of a split, or of the first of them.

  Attributes:
    ids: UTF-8, [N].
    sizes: heights and widths, int [N, 2].
    channels: of all images, C.
  """

  ids: np.ndarray
  sizes: np.ndarray
  channels: int = 3

  def fitting(self, room: float) -> int:
    """How many images, from the first on, fit into `room` bytes."""
    return int(np.searchsorted(self.ends(), room, side='right'))

  def ends(self) -> np.ndarray:
    """The number of bytes up to the end of each image, int64 [N]."""
    return np.cumsum((self.channels + 1) * self.sizes.astype(np.int64).prod(1))


class Images:
  """Decoded images, by number."""

  def __init__(self, index: Index, pixels: np.ndarray, count: int):
    """Args: pixels: uint8, of the first `count` images."""
    self._sizes, self._channels, self._pixels, self._count = index.sizes[:count], index.channels, pixels, count
    self._starts = np.concatenate(([0], index.ends()[:count]))
    pixels.flags.writeable = False

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image, uint8 [H, W, C], and its label, uint8 [H, W], both read-only."""
    height, width = self._sizes[number].tolist()
    start, end = self._starts[number : number + 2].tolist()
    middle = end - height * width
    image = self._pixels[start:middle].reshape(height, width, self._channels)
    return image, self._pixels[middle:end].reshape(height, width)


def open_images(
  make_index: Callable[[], Index],
  decode: Callable[[int], tuple[np.ndarray, np.ndarray]],
  *,
  room: float,
  threads: int,
  folder: Folder | None,
  split: str,
) -> tuple[Index, Images]:
  """The index of a split and its decoded images, from a file if there is one; otherwise the file is written.

  Processes of one machine write one after another, so that the second finds the file of the first.

  Args:
    make_index: reads the ids and sizes of the images, at least of those that fit into `room`.
    decode: returns an image, uint8 [H, W, C], and its label, uint8 [H, W].
    room: the bytes that the decoded images may take.
    threads: number of threads that decode.
    folder: where the file is; None for memory. Memory also replaces a folder that cannot be used.
    split: name of the split.

  Raises:
    UserError: an image cannot be decoded.
  """
  if folder is None or room < 1:
    return _in_memory(make_index(), decode, room, threads)
  path = folder.file(split)
  if found := _mapped(path, room):
    return found
  try:
    with alone(folder.path, 'decodes images into') as locked:
      if not locked:
        # Another machine may share the disk, and replacing or removing a file would end a run there that maps it.
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
      files.remove_leftovers(folder.path)
      if not _mapped(path, room):
        _write(folder, split, make_index(), decode, room, threads)
  except OSError as error:
    logger.info(
      f'decoded images of {split} stay in the memory of this process: cannot write {folder.path}: '
      f'{files.reason(error)}; set data.cache_dir to a folder that several runs can share'
    )
  return _mapped(path, room) or _in_memory(make_index(), decode, room, threads)


def _write(folder: Folder, split: str, index: Index, decode: Callable, room: float, threads: int) -> None:
  """Writes the file of a split, unless there is no room for an image."""
  if count := index.fitting(room):
    path, size = folder.file(split), int(index.ends()[count - 1])
    folder.make_room(size - (path.stat().st_size if path.exists() else 0))
    logger.info(f'decoding {count} of {len(index.ids)} images of {split} into {path} ({size / 2**30:.2f} GiB)')
    with files.replacing(path) as file:
      np.save(file, index.ids)
      np.save(file, index.sizes)
      np.save(file, index.channels)
      file.writelines(itertools.chain.from_iterable(_decoded(decode, count, threads)))
      file.flush()
      os.fsync(file.fileno())  # otherwise a file of zeros could be left by a machine that loses its power


def _mapped(path: pathlib.Path, room: float) -> tuple[Index, Images] | None:
  """The contents of a file; None if there is no file with as many images as fit into `room` bytes."""
  try:
    with path.open('rb') as file:
      index = Index(np.load(file), np.load(file), int(np.load(file)))
      start, count = file.tell(), index.fitting(room)
      size = int(index.ends()[count - 1]) if count else 0
      if not size or os.fstat(file.fileno()).st_size < start + size:  # a run with more room may have written it
        return None
      pixels = np.memmap(file, np.uint8, 'r', offset=start, shape=(size,))
      with contextlib.suppress(OSError):  # the file of another user
        os.utime(file.fileno())  # `Folder.make_room` removes what was not used for longest
  except (OSError, ValueError, EOFError):  # there is no such file, or another program has written it
    return None
  return index, Images(index, pixels.view(np.ndarray), count)


def _in_memory(index: Index, decode: Callable, room: float, threads: int) -> tuple[Index, Images]:
  count = index.fitting(room)
  pixels = np.empty(int(index.ends()[count - 1]) if count else 0, np.uint8)
  start = 0
  for part in itertools.chain.from_iterable(_decoded(decode, count, threads)):
    pixels[start : start + part.size] = part.ravel()
    start += part.size
  return index, Images(index, pixels, count)


def _decoded(decode: Callable, count: int, threads: int) -> Iterator[Iterable[np.ndarray]]:
  """The image and the label of each of the first `count` images, C-contiguous."""
  with futures.ThreadPoolExecutor(threads) as pool:
    for start in range(0, count, _TOGETHER):
      for pair in pool.map(decode, range(start, min(start + _TOGETHER, count))):
        yield map(np.ascontiguousarray, pair)
