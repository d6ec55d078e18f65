"""Images of a folder as uint8 [H, W, C]: those that viewers show as they do, others by a range of values."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from concurrent import futures

import numpy as np

from fcn_jax import image_files
from fcn_jax.data.folder import arrays
from fcn_jax.data.folder.layout import Pair
from fcn_jax.errors import UserError

RGB, OTHER = 'rgb', 'image'  # the names of the input stream
_PERCENT = 0.1  # of the values of a channel, at either end, that a measured range may cut off
_VALUES = 60_000  # per image, that range, mean and standard deviation are measured on


@dataclasses.dataclass(frozen=True)
class Kind:
  """How the images of a folder are read.

  Attributes:
    channels: C.
    is_plain: whether all images are of 8 bits, gray or with colors, which become RGB.
    dtype: of the others; '' is any.
    range: of each channel, the values that become 0 and 255: (low, high, low, high, ...). () if values are of 8 bits.
  """

  channels: int = 3
  is_plain: bool = True
  dtype: str = 'uint8'
  range: tuple[float, ...] = ()

  def __str__(self) -> str:
    if self.is_plain:
      return '8 bits, gray or with colors'
    return f'{self.channels} channel{"s" * (self.channels > 1)}' + (f' of {self.dtype}' if self.dtype else '')

  @property
  def stream(self) -> str:
    """The name of the input stream."""
    return RGB if self.channels == 3 else OTHER

  def with_range(self, values: Sequence) -> 'Kind':
    """The same with a range: (low, high) pairs, for each channel or one for all; or their numbers in one list."""
    flat = tuple(float(x) for pair in values for x in (pair if isinstance(pair, tuple | list) else (pair,)))
    flat = flat * self.channels if len(flat) == 2 else flat
    if flat and self.is_plain:
      raise UserError(
        'there is a range of values, but the images are of 8 bits; expected images of more bits, or no range'
      )
    if flat and (
      len(flat) != 2 * self.channels
      or not all(-np.inf < a < b < np.inf for a, b in zip(flat[::2], flat[1::2], strict=True))
    ):
      raise UserError(
        f'the range of values is {list(flat)}; expected low and high of each of the {self.channels} channels, or one '
        'low and high for all'
      )
    return dataclasses.replace(self, range=flat)

  def read(self, paths: Sequence[pathlib.Path]) -> np.ndarray:
    """The image in these files: uint8 [H, W, C].

    Raises:
      UserError: a file cannot be read, or has other channels or other values than the images of this kind.
    """
    if self.is_plain and len(paths) == 1 and (plain := arrays.read_plain(paths[0])) is not None:
      return plain
    values = read_values(paths)
    found = Kind(values.shape[-1], False, values.dtype.name if self.dtype else '')
    if found != dataclasses.replace(self, range=()):
      raise UserError(f'{paths[0]} has {found}; expected {self}, as in other images')
    if values.dtype != np.uint8 and not self.range:
      raise UserError(f'{paths[0]} has {found}, and data.range is not set; expected the values that become 0 and 255')
    if values.dtype == np.uint8 and self.range and max(self.range) > 255:
      raise UserError(f'{paths[0]} has 8 bits, but the others values up to {max(self.range):g}; expected the same')
    return self.scaled(values)

  def scaled(self, values: np.ndarray) -> np.ndarray:
    """Values [H, W, C] of the range as uint8."""
    if not self.range:
      return values
    low, high = np.array(self.range, np.float32).reshape(-1, 2).T
    scaled = (values.astype(np.float32) - low) * (255 / (high - low))
    return np.clip(np.round(np.nan_to_num(scaled)), 0, 255).astype(np.uint8)

  def size_of(self, paths: Sequence[pathlib.Path]) -> tuple[int, int]:
    """Height and width of the image in these files, from their headers."""
    return image_files.size_of(paths[0]) if self.is_plain else arrays.size_of(paths[0])


def read_values(paths: Sequence[pathlib.Path]) -> np.ndarray:
  """The values in these files, one after the other along the channels: [H, W, C]. Raises: UserError: sizes differ."""
  found = [arrays.read(path) for path in paths]
  if len({x.shape[:2] for x in found}) > 1:
    sizes = ', '.join(f'{list(x.shape[:2])} in {path}' for x, path in zip(found, paths, strict=True))
    raise UserError(f'the channels of an image have the sizes {sizes}; expected one size')
  return np.concatenate(found, -1) if len(found) > 1 else found[0]


def kind_of(root: pathlib.Path, sample: Sequence[Pair]) -> Kind:
  """How the images are read, from the headers of some.

  Raises:
    UserError: they have different numbers of channels, or different types.
  """
  kinds: dict[Kind, str] = {}
  for pair in sample:
    kinds.setdefault(kind_of_files([root / path for path in pair.images]), pair.images[0])
  if len(kinds) > 1:
    listed = '; '.join(f'{path} has {k}' for k, path in kinds.items())
    raise UserError(f'the images in {root} are of different kinds: {listed}; expected one number of channels and type')
  return next(iter(kinds))


def kind_of_files(paths: Sequence[pathlib.Path]) -> Kind:
  """How an image in these files is read, from their headers."""
  if len(paths) == 1 and arrays.is_plain(paths[0]):
    return Kind()
  # Arrays of 8 bits and of more do not mix; neither do floats and whole numbers.
  shapes = [arrays.shape_of(path) for path in paths]
  return Kind(sum(shape[-1] for shape in shapes), False, arrays.dtype_of(paths[0]).name)


def measured(root: pathlib.Path, sample: Sequence[Pair], kind: Kind, threads: int) -> tuple[Kind, tuple, tuple]:
  """The kind with the range of its values, and mean and standard deviation of each channel after scaling to 0..255.

  Args:
    root: the folder.
    sample: images to measure on.
    kind: of the images; a range that it has is not measured.
    threads: number of threads that read.
  """

  def some(read: Callable[[list[pathlib.Path]], np.ndarray]) -> np.ndarray:
    with futures.ThreadPoolExecutor(threads) as pool:
      files = ([root / path for path in pair.images] for pair in sample)
      return np.concatenate(list(pool.map(lambda paths: _some(read(paths)), files)))

  if not kind.is_plain and kind.dtype != 'uint8' and not kind.range:
    values = some(read_values)
    kind = kind.with_range([_range(channel[np.isfinite(channel)]) for channel in values.astype(np.float64).T])
  pixels = some(kind.read)
  mean = pixels.mean(0, dtype=np.float64)
  std = np.maximum(pixels.std(0, dtype=np.float64), 1.0)  # a channel that never changes is not amplified
  return kind, *(tuple(round(float(x), 3) for x in numbers) for numbers in (mean, std))


def _range(values: np.ndarray) -> tuple[float, float]:
  low, high = np.percentile(values, (_PERCENT, 100 - _PERCENT)) if values.size else (0, 0)
  low, high = float(f'{low:.7g}'), float(f'{high:.7g}')
  return low, high if high > low else low + 1


def _some(values: np.ndarray) -> np.ndarray:
  flat = values.reshape(-1, values.shape[-1])
  count = min(len(flat), max(1, _VALUES // flat.shape[-1]))
  return flat[np.linspace(0, len(flat) - 1, count).astype(int)]
