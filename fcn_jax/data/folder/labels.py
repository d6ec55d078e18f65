"""Masks of any kind as classes: numbers of any depth, palettes and colors; and what classes they seem to have."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Sequence
from concurrent import futures

import numpy as np

from fcn_jax.data import palettes
from fcn_jax.data.dataset import IGNORE, Classes
from fcn_jax.data.folder import mask_files
from fcn_jax.data.folder.description import LABELS, Description
from fcn_jax.errors import UserError

_UNKNOWN = -1  # a label without a class
_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class Survey:
  """The labels of some masks.

  Attributes:
    values: in how many masks each label occurs; labels are colors (red * 65536 + green * 256 + blue) if `has_colors`.
    has_colors: whether the labels are colors.
    palette: of the first mask.
  """

  values: dict[int, int]
  has_colors: bool
  palette: tuple[tuple[int, int, int], ...]


def packed(colors: np.ndarray) -> np.ndarray:
  """Colors uint8 [..., 3] as numbers."""
  red, green, blue = np.moveaxis(colors.astype(np.int32), -1, 0)
  return (red << 16) | (green << 8) | blue


def survey(root: pathlib.Path, masks: Sequence[str], threads: int = 8, colors: Sequence[Sequence[int]] = ()) -> Survey:
  """The labels of these masks. Grays are numbers, unless all of them are among `colors`, those of the classes.

  Raises:
    UserError: a mask cannot be read, or some have colors and others numbers.
  """

  def unique(mask: str) -> tuple[bool, np.ndarray]:
    raw = mask_files.read_raw(root / mask)
    return raw.ndim == 3, np.unique(packed(raw) if raw.ndim == 3 else raw)

  with futures.ThreadPoolExecutor(threads) as pool:
    found = list(pool.map(unique, masks))
  kinds = {of_colors: mask for mask, (of_colors, _) in zip(masks, found, strict=True)}
  if len(kinds) > 1:
    raise UserError(
      f'{root / kinds[True]} has colors, and {root / kinds[False]} has numbers; expected masks of one kind'
    )
  return surveyed([values for _, values in found], True in kinds, root / masks[0], colors)


def surveyed(
  labels: Iterable[Iterable[int]], has_colors: bool, first: os.PathLike, colors: Sequence[Sequence[int]] = ()
) -> Survey:
  """The survey of masks with these labels each, packed colors if `has_colors`; `first` is one of the masks."""
  values = collections.Counter(int(value) for of_mask in labels for value in of_mask)
  is_gray = all(value % 256 * 0x010101 == value for value in values)
  if has_colors and is_gray and not values.keys() <= {_packed(color) for color in colors}:
    has_colors, values = False, collections.Counter({value % 256: count for value, count in values.items()})
  return Survey(dict(sorted(values.items())), has_colors, mask_files.palette_of(first))


def _packed(color: Sequence[int]) -> int:
  return int(packed(np.array(color, np.uint8)))


@dataclasses.dataclass(frozen=True)
class Labels:
  """How the pixels of masks become classes.

  Attributes:
    classes: of the labels.
    numbers: the class of each label, by its number: int16 [65536], -1 if it has none.
    colors: the same for masks with colors, by packed color; None if labels are numbers.
    guesses: what was guessed, a sentence each.
    table: the color of each label, if a table gives colors and labels are numbers.
  """

  classes: Classes
  numbers: np.ndarray
  colors: dict[int, int] | None
  guesses: tuple[str, ...]
  table: tuple[tuple[int, int, int], ...] = ()

  def decode(self, raw: np.ndarray, path: os.PathLike) -> np.ndarray:
    """The classes of a mask that `read_raw` read: uint8 [H, W], 255 for pixels that count nowhere.

    Raises:
      UserError: a pixel has a label without a class, or the mask has colors and others have none.
    """
    if (raw.ndim == 3) != bool(self.colors) and not (raw.ndim == 3 and (raw == raw[..., :1]).all()):
      kinds = ('numbers', 'colors') if self.colors else ('colors', 'numbers')
      raise UserError(f'{path} has {kinds[0]}; expected {kinds[1]}, as in the other masks')
    self._check_palette(raw, path)
    classes, values = self.lookup(raw)
    if (unknown := classes == _UNKNOWN).any():
      found, count = np.unique(values[unknown], return_counts=True)
      listed = ', '.join(f'{self.name(v)} ({c} pixels)' for v, c in zip(found[:_SHOWN], count, strict=False))
      expected = list(self.colors or np.flatnonzero(self.numbers != _UNKNOWN))
      allowed = ', '.join(map(self.name, expected[:_SHOWN])) + (', ...' if len(expected) > _SHOWN else '')
      raise UserError(
        f'{path} has the labels {listed}, which have no class; expected {allowed}: correct the mask, or say in '
        'dataset.toml what these labels are, in classes, map or ignore '
        '(python -m fcn_jax.data init FOLDER writes that file)'
      )
    return classes.astype(np.uint8)

  def _check_palette(self, raw: np.ndarray, path: os.PathLike) -> None:
    """Raises `UserError` if the palette of a mask has the colors of the table in another order: which one is right?"""
    palette = mask_files.palette_of(path) if self.table and raw.ndim == 2 else ()
    for label in np.unique(raw) if palette else ():
      color = palette[label] if label < min(len(palette), len(self.table)) else ()
      if color in self.table and color != self.table[label]:
        raise UserError(
          f'{path} has the color {color} for the label {label}, which the table of the folder gives to the label '
          f'{self.table.index(color)}; export the masks with colors and no palette, or with one palette for all'
        )

  def lookup(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class of each pixel, int16 [H, W], -1 where its label has none; and the labels as numbers."""
    if raw.ndim == 3:
      if self.colors:
        values, keys = packed(raw), np.array(sorted(self.colors))
        place = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
        by_place = np.array([self.colors[key] for key in keys.tolist()], np.int16)
        return np.where(keys[place] == values, by_place[place], np.int16(_UNKNOWN)), values
      raw = raw[..., 0]
    if raw.dtype == np.uint8:
      return self.numbers[raw], raw
    values = raw.astype(np.int64)
    inside = (values >= 0) & (values < LABELS)
    classes = np.where(inside, self.numbers[np.where(inside, values, 0)], np.int16(_UNKNOWN))
    return np.where(values == -1, np.int16(IGNORE), classes), values  # LabelMe's arrays have -1 for pixels to ignore

  def class_of(self, value: int) -> int:
    """The class of a label; -1 if it has none."""
    if self.colors:
      return self.colors.get(value, _UNKNOWN)
    return IGNORE if value == -1 else int(self.numbers[value]) if 0 <= value < LABELS else _UNKNOWN

  def name(self, value: int) -> str:
    """A label, for people."""
    return rgb(value) if self.colors else str(value)


def resolve(root: pathlib.Path, given: Description, found: Survey, count: int = 0) -> Labels:
  """How masks become classes, from the description of the folder, else from the labels of some masks.

  Args:
    root: the folder.
    given: its description.
    found: the labels of some masks.
    count: the number of classes, if the description has none; 0 is guessed.

  Raises:
    UserError: the masks have colors and no table, or the labels leave open what the classes are.
  """
  guesses = []
  names, ignored, mapped = given.classes, set(given.ignore), dict(given.map)
  if found.has_colors and not given.colors:
    raise UserError(
      f'the masks in {root} have colors, such as {", ".join(map(rgb, list(found.values)[:5]))}; list them with the '
      f'names of their classes: classes and colors in {root / "dataset.toml"}, labelmap.txt, or classes.csv with the '
      'columns name,red,green,blue'
    )
  values = set(found.values) - ignored
  only = {} if found.has_colors or mapped else _only(values, given, count)
  if only:
    names = names or ('background', 'foreground')
    mapped = {label: names[number] for label, number in only.items()}
    listed = ', '.join(map(str, sorted(values)))
    guesses.append(f'masks hold only {listed}, which are taken for the classes {", ".join(mapped.values())}')
  if not names:
    total = _total(count, ignored) if count else _guessed_count(root, values)
    names = tuple(f'class_{number}' for number in range(total))
    guesses.append(f'{total} classes without names, labels 0 to {total - 1} of the masks')
  kept = [number for number, name in enumerate(names) if number not in ignored or name in mapped.values()]
  colors = given.colors or _usable(found.palette, len(names)) or tuple(map(palettes.voc_color, range(len(names))))
  classes = Classes(tuple(names[n] for n in kept), tuple(colors[n] for n in kept))
  numbers = np.full(LABELS, _UNKNOWN, np.int16)
  numbers[IGNORE] = IGNORE
  if not only:
    numbers[kept] = range(len(kept))
  for number in ignored:
    if 0 <= number < LABELS:
      numbers[number] = IGNORE
  for label, name in mapped.items():
    numbers[label] = classes.names.index(name) if name in classes.names else IGNORE
  by_color = {_packed(color): int(numbers[i]) for i, color in enumerate(colors)} if found.has_colors else None
  by_number = () if by_color or mapped else given.colors
  table = Labels(classes, numbers, by_color, tuple(guesses), by_number)
  _check(root, given, found, table)
  return table


def _check(root: pathlib.Path, given: Description, found: Survey, table: Labels) -> None:
  """Raises a UserError if two classes have one color, or no pixel of the masks has a class."""
  if table.colors and len(table.colors) < len(given.colors):
    raise UserError(f'{root / given.source} gives two classes the same color; expected a different color per class')
  if all(table.class_of(value) == IGNORE for value in found.values):
    raise UserError(
      f'the masks in {root} hold only {", ".join(map(table.name, list(found.values)[:_SHOWN]))}, which count nowhere'
      f'{given.source and f" ({given.source})"}; expected labels of classes: say in {root / "dataset.toml"} which'
    )


def rgb(value: int) -> str:
  """A packed color, for people."""
  return f'({value >> 16}, {value >> 8 & 255}, {value & 255})'


def _only(values: set[int], given: Description, count: int) -> dict[int, int]:
  """The class of each label of masks that hold the grays of a table of colors, or only 0 and 255; {} for others."""
  grays = {color[0]: number for number, color in enumerate(given.colors) if len(set(color)) == 1}
  if values <= grays.keys() and max(values, default=0) >= len(grays) == len(given.classes):
    return grays
  is_binary = values <= {0, IGNORE} and IGNORE in values and len(given.classes) in (0, 2) and count in (0, 2)
  return {0: 0, IGNORE: 1} if is_binary else {}


def _total(count: int, ignored: set[int]) -> int:
  """How many labels there are from 0 on, if `count` of them are not ignored."""
  return next(total for total in range(count, LABELS) if total - len(ignored & set(range(total))) == count)


def _usable(palette: tuple, count: int) -> tuple:
  """The first colors of a palette, if there are as many different ones."""
  return palette[:count] if len(set(palette[:count])) == count else ()


def _guessed_count(root: pathlib.Path, values: Iterable[int]) -> int:
  """The number of classes of masks with these labels."""
  values = sorted(x for x in values if x not in (IGNORE, -1))
  if not values:
    raise UserError(f'all pixels of the masks in {root} are {IGNORE}, which counts nowhere; expected labels from 0 on')
  count = values[-1] + 1
  if values[0] < 0 or count > IGNORE or count > 2 * len(values) + 2:
    listed = ', '.join(map(str, values[:_SHOWN])) + (', ...' if len(values) > _SHOWN else '')
    raise UserError(
      f'the masks in {root} have the labels {listed}; expected 0, 1, 2 and so on: say in {root / "dataset.toml"} what '
      f'they are, with classes and map (python -m fcn_jax.data init {root} writes a file to start from)'
    )
  return count
