"""What is kept of an image and its mask: a few numbers, so that those of any number of images fit the memory."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence

import imagehash
import numpy as np
from PIL import Image

from fcn_jax import files, image_files, images
from fcn_jax.data.folder import arrays, labels, mask_files
from fcn_jax.data.folder.images import Kind, kind_of_files, read_values
from fcn_jax.data.folder.layout import Pair
from fcn_jax.errors import UserError

GRAY, COLOR = '8-bit gray', '8-bit color'
_MOST_LABELS = 300  # of a mask that are kept, the most frequent ones
_RARE = 0.05  # share of the pixels of a mask that a label between two others has at most
_BETWEEN = 0.9  # share of the pixels of such a label that are between two others
_STEPS = 1, 2, 4  # pixels, to either side
_TONES = 1.0, 1.37, 1.91  # weights of red, green and blue, such that few colors are equal


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
  """An image and its mask.

  Attributes:
    split: its split.
    id: its id in the split.
    files: of the image, then of the mask, relative to the folder; (id,) if the data set is not a folder.
    image_fault: why the image cannot be read, or ''.
    mask_fault: why the mask cannot be read, or ''.
    mask_format: the format of a mask that cannot be read because its format is one of photographs, or ''.
    size: height and width of the image, upright; () if it cannot be read.
    kind: how the image is read.
    form: channels and depth of the image, for people.
    orientation: EXIF orientation of the image; 1 is upright.
    digest: of the bytes of the image.
    hash: perceptual hash of the image, 64 bits.
    mask_size: height and width of the mask; () if it cannot be read.
    mask_form: type of the labels, for people.
    has_colors: whether the labels are packed colors (`labels.packed`).
    values: the labels in the mask, sorted.
    counts: the number of pixels of each.
    between: those of the labels that seem to come from interpolation (`between_others`).
  """

  split: str
  id: str
  files: tuple[str, ...]
  image_fault: str = ''
  mask_fault: str = ''
  mask_format: str = ''
  size: tuple[int, ...] = ()
  kind: Kind | None = None
  form: str = ''
  orientation: int = 1
  digest: bytes = b''
  hash: int = 0
  mask_size: tuple[int, ...] = ()
  mask_form: str = ''
  has_colors: bool = False
  values: Sequence[int] | np.ndarray = ()
  counts: Sequence[int] | np.ndarray = ()
  between: tuple[int, ...] = ()


def of_pair(root: pathlib.Path, split: str, pair: Pair) -> Record:
  """Reads an image and its mask completely; faults are part of the record."""
  record = Record(split, pair.id, (*pair.images, pair.mask))
  try:
    record = dataclasses.replace(record, **_image([root / path for path in pair.images]))
  except UserError as error:
    record = dataclasses.replace(record, image_fault=str(error))
  try:
    return dataclasses.replace(record, **mask_numbers(mask_files.read_raw(root / pair.mask)))
  except UserError as error:
    found = _format(root / pair.mask)
    return dataclasses.replace(record, mask_fault=str(error), mask_format='' if found in mask_files.FORMATS else found)


def _image(paths: Sequence[pathlib.Path]) -> dict:
  kind, orientation = kind_of_files(paths), 1
  if kind.is_plain:
    form = GRAY if arrays.shape_of(paths[0])[-1] == 1 else COLOR
    if not arrays.is_array_file(paths[0]):
      with image_files.opened(paths[0]) as image:
        orientation = image_files.orientation(image)
        form = COLOR if image.mode == 'P' else form
  else:
    form = str(kind)
  digest = hashlib.sha256()
  for path in paths:
    digest.update(files.read(files.path(path)))
  shown = preview(kind, paths)
  return {
    'size': shown.shape[:2],
    'kind': kind,
    'form': form,
    'orientation': orientation,
    'digest': digest.digest(),
    'hash': perceptual_hash(shown),
  }


def preview(kind: Kind, paths: Sequence[pathlib.Path]) -> np.ndarray:
  """An image for people, and for its hash: uint8 [H, W, 3]; values that are not of 8 bits fill the range."""
  if kind.is_plain:
    return image_files.read(paths[0])
  values = read_values(paths)
  values = np.nan_to_num(values if values.shape[-1] == 3 else values[..., :1]).astype(np.float32)
  low, high = np.percentile(values, (1, 99), axis=(0, 1))
  scaled = (np.clip((values - low) / np.maximum(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
  return images.viewable({'': scaled})


def perceptual_hash(shown: np.ndarray) -> int:
  """64 bits of an image uint8 [H, W, 3], of which few differ between an image and a copy of other size or quality."""
  bits = imagehash.phash(Image.fromarray(shown)).hash
  return int.from_bytes(np.packbits(bits).tobytes(), 'big')


def mask_numbers(raw: np.ndarray) -> dict:
  """The fields of a record that describe a mask: whole numbers [H, W], or colors uint8 [H, W, 3]."""
  has_colors = raw.ndim == 3
  packed = labels.packed(raw) if has_colors else raw
  if packed.dtype == np.uint8:  # without sorting
    counts = np.bincount(packed.ravel(), minlength=256)
    values = np.flatnonzero(counts)
    places, counts = (np.cumsum(counts > 0) - 1)[packed], counts[values]
  else:
    values, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
  tones = np.stack([values >> 16, values >> 8 & 255, values & 255], -1) @ _TONES if has_colors else values
  places = places.reshape(packed.shape).astype(np.uint16 if len(values) <= 2**16 else np.uint32)
  between = between_others(places, tones, counts)
  kept = np.sort(np.argsort(-counts, kind='stable')[:_MOST_LABELS])
  return {
    'mask_size': raw.shape[:2],
    'mask_form': 'colors' if has_colors else str(raw.dtype),
    'has_colors': has_colors,
    'values': values[kept].astype(np.int64),
    'counts': counts[kept],
    'between': tuple(int(value) for value in values[between]),
  }


def between_others(places: np.ndarray, tones: np.ndarray, counts: np.ndarray) -> np.ndarray:
  """Labels of few pixels, next to almost all of which a smaller label is on one side and a larger one on the other.

  Interpolation makes such labels along the edges of classes.

  Args:
    places: of each pixel [H, W], which of the labels it has.
    tones: a number for each label [N], for colors one that interpolation leaves between those of its neighbors.
    counts: the pixels of each label [N].

  Returns:
    For each label, whether it is such a one: bool [N].
  """
  rare = counts <= _RARE * places.size
  if len(counts) < 3 or not rare.any():
    return np.zeros(len(counts), bool)
  ranks = np.unique(tones, return_inverse=True)[1].astype(places.dtype)  # of large masks, tones would take much memory
  values, found = ranks[places], np.zeros(places.shape, bool)
  for step in _STEPS:
    for turned, into in ((values, found), (values.T, found.T)):
      first, middle, last = turned[: -2 * step], turned[step:-step], turned[2 * step :]
      if len(middle):
        into[step:-step] |= ((first < middle) & (middle < last)) | ((last < middle) & (middle < first))
  between = np.bincount(places[found], minlength=len(counts))
  return rare & (between >= _BETWEEN * counts)


def _format(path: pathlib.Path) -> str:
  if arrays.is_array_file(path):  # which keep labels
    return mask_files.FORMATS[0]
  try:
    with image_files.opened(path) as image:
      return image.format
  except UserError:
    return mask_files.FORMATS[0]  # not even an image
