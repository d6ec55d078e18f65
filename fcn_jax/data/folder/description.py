"""`dataset.toml`, which describes what cannot be guessed about a folder; and tables of classes of other programs."""

import collections
import csv
import dataclasses
import json
import math
import pathlib
import tomllib
from collections.abc import Sequence

from fcn_jax import files
from fcn_jax.data import palettes
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError, nearest

NAME = 'dataset.toml'
LABELS = 2**16  # labels of masks are smaller
_FIELDS = {'classes': list, 'colors': list, 'ignore': list, 'exclude': list, 'range': list, 'map': dict, 'splits': dict}
_SPLITS = ('train', 'validation', 'test')


@dataclasses.dataclass(frozen=True)
class Description:
  """The description of a folder; fields that are empty are guessed.

  Attributes:
    source: the file that the classes are from, for people; '' if there is none.
    classes: names.
    colors: RGB in 0..255: of masks with colors, and of the classes in images for people.
    ignore: labels of the masks that count nowhere.
    map: the class name of labels of the masks that are not the number of their class.
    exclude: patterns of files to leave out.
    range: for each channel, the values that become 0 and 255 (images that are not of 8 bits).
    splits: see `layout.find`.
  """

  source: str = ''
  classes: tuple[str, ...] = ()
  colors: tuple[tuple[int, int, int], ...] = ()
  ignore: tuple[int, ...] = ()
  map: dict[int, str] = dataclasses.field(default_factory=dict)
  exclude: tuple[str, ...] = ()
  range: tuple[tuple[float, float], ...] = ()
  splits: dict[str, str | list[str]] = dataclasses.field(default_factory=dict)


def read(root: pathlib.Path) -> Description:
  """The description in a folder: dataset.toml, with classes from the table of another program if it has none.

  Raises:
    UserError: a file cannot be read, or has something that is not possible.
  """
  given = _read_toml(root / NAME)
  described = given if given.classes else dataclasses.replace(_read_table(root), **stated(given))
  repeated = [name for name, count in collections.Counter(described.classes).items() if count > 1]
  if repeated or len(described.classes) > IGNORE:
    found = f'the class {repeated[0]!r} twice' if repeated else f'{len(described.classes)} classes'
    raise UserError(f'{root / described.source} has {found}; expected 1 to {IGNORE} unique names')
  return described


def stated(given: Description) -> dict:
  """The fields of a description that are not empty."""
  return {x.name: value for x in dataclasses.fields(given) if (value := getattr(given, x.name))}


def _read_toml(path: pathlib.Path) -> Description:
  if not files.exists(files.path(path)):
    return Description()
  try:
    found = tomllib.loads(files.read(files.path(path)).decode())
  except ValueError as error:  # not TOML, or not UTF-8
    raise UserError(f'{path} is not valid TOML: {error}') from error
  for field, value in found.items():
    if field not in _FIELDS:
      raise UserError(f'{path} has {field!r}{nearest(field, _FIELDS)}')
    if not isinstance(value, _FIELDS[field]):
      raise UserError(f'{path}: {field} is {value!r}; expected a {"table" if _FIELDS[field] is dict else "list"}')
  classes = _strings(path, 'classes', found.get('classes', []))
  described = Description(
    source=NAME if classes else '',
    classes=classes,
    colors=tuple(_color(path, x) for x in found.get('colors', [])),
    ignore=tuple(_whole(path, 'ignore', x) for x in found.get('ignore', [])),
    map={_label(path, x): name for x, name in found.get('map', {}).items()},
    exclude=_strings(path, 'exclude', found.get('exclude', [])),
    range=_ranges(path, found.get('range', [])),
    splits=found.get('splits', {}),
  )
  _check(path, described)
  return described


def _check(path: pathlib.Path, described: Description) -> None:
  classes = described.classes
  if (described.map or described.colors) and not classes:
    raise UserError(f'{path} has {"map" if described.map else "colors"}, but no classes; add classes = [...]')
  if described.colors and len(described.colors) != len(classes):
    raise UserError(f'{path} has {len(classes)} classes and {len(described.colors)} colors; expected one per class')
  for label, name in described.map.items():
    if name not in classes:
      raise UserError(f'{path}: map gives the label {label} the class {name!r}{nearest(name, classes)}')
    if label in described.ignore:
      raise UserError(f'{path}: the label {label} is in ignore and in map; expected one of them')
  for split, rules in described.splits.items():
    if split not in _SPLITS:
      raise UserError(f'{path}: splits has {split!r}{nearest(split, _SPLITS)}')
    if not isinstance(rules, str):
      _strings(path, f'splits.{split}', rules)


def _strings(path: pathlib.Path, field: str, values) -> tuple[str, ...]:
  if not isinstance(values, list) or not all(isinstance(x, str) and x for x in values):
    raise UserError(f'{path}: {field} is {values!r}; expected a list of texts')
  return tuple(values)


def _whole(path: pathlib.Path, field: str, value) -> int:
  if not isinstance(value, int) or isinstance(value, bool):
    raise UserError(f'{path}: {field} has {value!r}; expected whole numbers, the labels in the masks')
  return value


def _label(path: pathlib.Path, text: str) -> int:
  if text.isascii() and text.isdigit() and int(text) < LABELS:
    return int(text)
  raise UserError(f'{path}: map has {text!r}; expected LABEL = "CLASS", for example 7 = "road", with 0 to {LABELS - 1}')


def _color(path: pathlib.Path, value) -> tuple[int, int, int]:
  if isinstance(value, Sequence) and len(value) == 3 and all(type(x) is int and 0 <= x <= 255 for x in value):
    return tuple(value)
  raise UserError(f'{path}: colors has {value!r}; expected [red, green, blue], each 0 to 255')


def _ranges(path: pathlib.Path, values: list) -> tuple[tuple[float, float], ...]:
  ranges = [values] if len(values) == 2 and not any(isinstance(x, list) for x in values) else values
  for pair in ranges:
    is_pair = isinstance(pair, list) and len(pair) == 2 and all(type(x) in (int, float) for x in pair)
    if not is_pair or not -math.inf < pair[0] < pair[1] < math.inf:
      raise UserError(
        f'{path}: range has {pair!r}; expected [low, high] for all channels, or a list of one per channel'
      )
  return tuple((float(low), float(high)) for low, high in ranges)


def _read_table(root: pathlib.Path) -> Description:
  """The classes that a file of another program lists."""
  readers = {'labelmap.txt': _cvat, 'classes.csv': _csv, 'class_names.txt': _names, 'dataset.json': _nnunet}
  for name, reader in readers.items():
    path = root / name
    if files.exists(files.path(path)):
      try:
        described = reader(files.read(files.path(path)).decode('utf-8-sig'))
      except (ValueError, LookupError, AttributeError, TypeError) as error:  # another program's file of this name
        raise UserError(
          f'{path} is not a table of classes ({error}); correct it, or list the classes in {root / NAME}'
        ) from error
      if described.classes:
        return dataclasses.replace(described, source=name)
  return Description()


def _cvat(text: str) -> Description:
  """CVAT: lines `name:red,green,blue:parts:actions`, and comments. datumaro may leave the colors of VOC out."""
  rows = [line.split(':') for line in text.splitlines() if line.strip() and not line.startswith('#')]
  return _table((row[0], row[1].split(',') if row[1] else palettes.voc_color(i)) for i, row in enumerate(rows))


def _csv(text: str) -> Description:
  """Columns name, red, green, blue, in any order."""
  rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
  if missing := {'name', 'red', 'green', 'blue'} - set(rows.fieldnames or ()):
    raise ValueError(f'it has no column {", ".join(sorted(missing))}')
  return _table((row['name'], [row['red'], row['green'], row['blue']]) for row in rows)


def _table(rows) -> Description:
  names, colors = zip(*((name.strip(), tuple(map(int, color))) for name, color in rows), strict=True)
  if not all(len(color) == 3 and all(0 <= x <= 255 for x in color) for color in colors):
    raise ValueError('a color is not three numbers from 0 to 255')
  return Description(classes=names, colors=colors)


def _names(text: str) -> Description:
  """LabelMe: a name per line; __ignore__ is the label -1, which its masks have as 255."""
  return Description(classes=tuple(x for x in map(str.strip, text.splitlines()) if x and x != '__ignore__'))


def _nnunet(text: str) -> Description:
  """nnU-Net: `labels` by name (version 2) or by number (version 1); numbers without a gap from 0 on."""
  labels = json.loads(text).get('labels', {})
  by_number = {int(number): name for name, number in labels.items() if isinstance(number, int)}
  by_number = by_number or {int(number): name for number, name in labels.items()}
  ignore = tuple(number for number, name in by_number.items() if name == 'ignore')
  names = [by_number.get(number, '') for number in range(len(by_number) - len(ignore))]
  if '' in names:
    raise ValueError(f'no label is {names.index("")}')
  return Description(classes=tuple(names), ignore=ignore)


def cityscapes() -> Description:
  """The 19 classes that Cityscapes evaluates, from the label ids in its masks."""
  names, colors, ids = zip(*palettes.CITYSCAPES, strict=True)
  mapped = dict(zip(ids, names, strict=True))
  return Description('Cityscapes', names, colors, tuple({*range(34), 255} - {*ids}), mapped)
