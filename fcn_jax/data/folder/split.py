"""The images of a split of a folder: read from disk when they are asked for, or decoded once while there is room."""

import os
import pathlib
import threading
from collections.abc import Sequence

import numpy as np

from fcn_jax.data import decoded, resizing
from fcn_jax.data.dataset import Example
from fcn_jax.data.folder import images, labels, mask_files
from fcn_jax.data.folder.layout import Pair
from fcn_jax.errors import UserError

HEAD = 'semantic'
_SHOWN = 5


class FolderSplit:
  """The images of a split (`dataset.Split`). Files are never changed."""

  def __init__(
    self,
    root: pathlib.Path,
    pairs: Sequence[Pair],
    table: labels.Labels,
    kind: images.Kind,
    *,
    name: str,
    resize: int,
    room: float,
    threads: int,
    cache: decoded.Folder,
  ) -> None:
    """Makes a split that decodes its first images when it is first asked for one.

    Args:
      root: the folder.
      pairs: its images and masks.
      table: how masks become classes.
      kind: how images are read.
      name: of the split.
      resize: the longest side of an image, in pixels; larger ones are resized. 0 is no limit.
      room: the bytes that decoded images may take.
      threads: number of threads that decode.
      cache: where decoded images are stored, for all processes of this machine.
    """
    self._root, self._pairs, self._table, self._kind, self._resize = root, list(pairs), table, kind, resize
    self._options = {'room': room, 'threads': threads, 'folder': cache, 'split': name}
    self._images: decoded.Images | None = None
    self._sizes: np.ndarray | None = None
    self._lock = threading.Lock()
    if resize:
      self.full_labels, self.full_sizes = self._full_labels, self._full_sizes  # only then, see `dataset.Split`

  def __len__(self) -> int:
    return len(self._pairs)

  def __getitem__(self, index: int) -> Example:
    found = self._images if self._images is not None else self._opened()
    image, label = found[index] if index < len(found) else self._decode(index)
    return {'inputs': {self._kind.stream: image}, 'labels': {HEAD: label}, 'id': self._pairs[index].id}

  @property
  def is_decoded(self) -> bool:
    """Whether no image has to be decoded when it is read."""
    return len(self._opened()) == len(self)

  def ids(self) -> list[str]:
    return [pair.id for pair in self._pairs]

  def sizes(self) -> np.ndarray:
    """Heights and widths after resizing, int [N, 2]. The header of every file is read once."""
    return resizing.sizes(self._full_sizes(), self._resize)

  def check_headers(self, most: int | None) -> None:
    """Checks that images have the size of their masks.

    Args:
      most: the number of pairs to check, spread over the split; None checks all.

    Raises:
      UserError: one has not, or a file cannot be read.
    """
    chosen = np.unique(np.linspace(0, len(self) - 1, min(len(self), most or len(self))).astype(int))
    wrong, sizes = [], []
    for pair in (self._pairs[i] for i in chosen):
      image, mask = self._kind.size_of(self._paths(pair)), mask_files.header_size(self._root / pair.mask)
      sizes.append(image)
      if image != mask:
        wrong.append(different(pair, image, mask))
    if wrong:
      more = f' (and {len(wrong) - _SHOWN} more)' if len(wrong) > _SHOWN else ''
      raise UserError(f'{self._root}: {"; ".join(wrong[:_SHOWN])}{more}; expected masks of the size of their images')
    if len(sizes) == len(self):
      self._sizes = np.array(sizes)

  def _opened(self) -> decoded.Images:
    with self._lock:
      if self._images is None:
        _, self._images = decoded.open_images(self._index, self._decode, **self._options)
      return self._images

  def _index(self) -> decoded.Index:
    """Ids and sizes of the images that fit into the room, from the first on: others need no header now."""
    sizes, total = [], 0
    for index, pair in enumerate(self._pairs):
      full = self._kind.size_of(self._paths(pair)) if self._sizes is None else self._sizes[index]
      sizes.append(resizing.sizes(np.array(full), self._resize))
      total += (self._kind.channels + 1) * int(sizes[-1].prod())
      if total > self._options['room']:
        break
    ids = np.array([os.fsencode(pair.id) for pair in self._pairs[: len(sizes)]])
    return decoded.Index(ids, np.array(sizes), self._kind.channels)

  def _decode(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    pair = self._pairs[index]
    image, label = self._kind.read(self._paths(pair)), self._label(pair)
    if image.shape[:2] != label.shape:
      raise UserError(f'{self._root}: {different(pair, image.shape[:2], label.shape)}; expected the same size')
    inputs, of_heads = resizing.resized({'': image}, {'': label}, self._resize)
    return inputs[''], of_heads['']

  def _full_sizes(self) -> np.ndarray:
    if self._sizes is None:
      self._sizes = np.array([self._kind.size_of(self._paths(pair)) for pair in self._pairs])
    return self._sizes

  def _full_labels(self, index: int) -> dict[str, np.ndarray]:
    return {HEAD: self._label(self._pairs[index])}

  def _label(self, pair: Pair) -> np.ndarray:
    path = self._root / pair.mask
    return self._table.decode(mask_files.read_raw(path), path)

  def _paths(self, pair: Pair) -> list[pathlib.Path]:
    return [self._root / path for path in pair.images]


def different(pair: Pair, image: Sequence[int], mask: Sequence[int]) -> str:
  """The sentence about an image and a mask of different heights and widths."""
  sizes = [f'{width}x{height}' for height, width in (image, mask)]
  turned = ', as if its EXIF rotation turned only the image' if tuple(image) == tuple(mask)[::-1] else ''
  return f'{pair.images[0]} has {sizes[0]} pixels and its mask {pair.mask} {sizes[1]}{turned}'
