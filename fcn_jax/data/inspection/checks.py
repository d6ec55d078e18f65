"""Checks of the records of a data set. Each returns findings; showing them is up to others."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from fcn_jax.data.dataset import IGNORE, Classes
from fcn_jax.data.folder import labels, split
from fcn_jax.data.folder.images import Kind
from fcn_jax.data.folder.layout import Pair
from fcn_jax.data.inspection.records import Record

LARGE = 2048  # pixels of the longest side, from which on images are worth resizing
_SMALL = 32  # pixels of the shortest side; five poolings leave one feature
_SHOWN = 3  # examples in a sentence
_READ_AS_RGB = 'gray images are read as RGB with equal channels'
_TURNED = 5  # EXIF orientations from here on exchange height and width


@dataclasses.dataclass(frozen=True)
class Finding:
  """Something that is wrong or suspicious.

  Attributes:
    check: name of the check.
    message: a sentence.
    files: all files concerned, relative to the folder.
    level: an error stops training; a warning does not.
  """

  check: str
  message: str
  files: tuple[str, ...] = ()
  level: Literal['error', 'warning'] = 'error'


def of_files(records: Sequence[Record]) -> list[Finding]:
  """Images and masks that cannot be read, or do not fit together."""
  faults = [(fault, file) for r in records for fault, file in _faults(r)]
  result = _found('unreadable', 'files that cannot be read', faults)
  lossy = [(f'{r.files[-1]} is {r.mask_format}', r.files[-1]) for r in records if r.mask_format]
  remedy = 'expected PNG, BMP, TIFF or NPY, because other formats change labels: export the masks as PNG'
  result += _found('mask_format', 'masks in a format of photographs', lossy, remedy)
  both = [r for r in records if r.size and r.mask_size]
  exif = {r for r in both if r.size != r.mask_size == r.size[::-1] and r.orientation >= _TURNED}
  what = 'images that their EXIF orientation turns, while their masks are not turned'
  result += _found('exif', what, [(_sizes(r), *r.files) for r in both if r in exif], 'turn these masks')
  other = [(_sizes(r), *r.files) for r in both if r.size != r.mask_size and r not in exif]
  result += _found('size', 'images and masks of different sizes', other, 'expected masks of the size of their images')
  turned = [(f'{r.files[0]} has orientation {r.orientation}', *r.files) for r in both if _is_open(r)]
  what = 'images with an EXIF orientation, whose masks fit whether or not they are turned'
  return result + _found('orientation', what, turned, 'make sure that the masks are upright', 'warning')


def _faults(record: Record) -> Iterable[tuple[str, str]]:
  if record.image_fault:
    yield record.image_fault, record.files[0]
  if record.mask_fault and not record.mask_format:
    yield record.mask_fault, record.files[-1]


def _is_open(record: Record) -> bool:
  """Whether the size of the mask leaves open if it is turned like its image."""
  is_same = record.size == record.mask_size
  return is_same and record.orientation > 1 and (record.orientation < _TURNED or len(set(record.size)) == 1)


def _sizes(record: Record) -> str:
  return split.different(Pair(record.id, record.files[:-1], record.files[-1]), record.size, record.mask_size)


def of_kinds(records: Sequence[Record]) -> tuple[list[Finding], Kind | None]:
  """Images of other channels or depths than most, and the kind of most."""
  read = [r for r in records if r.kind]
  if not read:
    return [], None
  kind = collections.Counter(r.kind for r in read).most_common(1)[0][0]
  same = [r for r in read if r.kind == kind]
  forms = collections.Counter(r.form for r in same).most_common()
  other = [(f'{r.files[0]} has {r.form}', *r.files[:-1]) for r in read if r.kind != kind]
  expected = f'expected {forms[0][0]} as in other images: one number of channels, and one depth'
  result = _found('channels', 'images of other channels or another depth', other, expected)
  if len(forms) > 1:
    few = [(r.files[0], r.files[0]) for r in same if r.form == forms[-1][0]]
    result += _found('modes', f'images in {forms[-1][0]} among others in {forms[0][0]}', few, _READ_AS_RGB, 'warning')
  return result, kind


def of_sizes(records: Sequence[Record], resize: int | None) -> list[Finding]:
  """Images that are too large to evaluate during training, or too small for a network.

  Args:
    records: of all images.
    resize: `data.resize`, or None if the data set has no such setting.
  """
  read = [(f'{r.files[0]} has {r.size[1]}x{r.size[0]}', r.files[0], r.size) for r in records if r.size]
  large = [case[:2] for case in read if max(case[2]) > LARGE and not 0 < (resize or 0) <= LARGE]
  remedy = 'they take much memory and time' + ('' if resize is None else '; data.resize makes them smaller')
  result = _found('large', f'images with a side of more than {LARGE} pixels', large, remedy, 'warning')
  small = [case[:2] for case in read if min(case[2]) < _SMALL]
  remedy = 'the coarsest features of a network see mostly padding there'
  return result + _found('small', f'images with a side of less than {_SMALL} pixels', small, remedy, 'warning')


def of_mask_kinds(records: Sequence[Record]) -> tuple[list[Finding], list[Record]]:
  """Masks with colors if most have numbers, or the other way round; and the others."""
  read = [r for r in records if r.mask_size]
  usual = 2 * sum(r.has_colors for r in read) > len(read)
  other = [(r.files[-1], r.files[-1]) for r in read if r.has_colors != usual]
  kinds = ('numbers', 'colors') if usual else ('colors', 'numbers')
  what = f'masks with {kinds[0]} among masks with {kinds[1]}'
  return _found('mask_kinds', what, other, 'expected masks of one kind'), [r for r in read if r.has_colors == usual]


def interpolated(records: Sequence[Record]) -> set[Record]:
  """Masks that were resized with interpolation.

  They have labels between others along edges (`Record.between`): labels that no mask has elsewhere, or several.
  """
  solid = {value for r in records for value in np.asarray(r.values).tolist() if value not in r.between}
  return {r for r in records if len(r.between) > 1 or any(value not in solid for value in r.between)}


def of_labels(records: Sequence[Record], table: labels.Labels | None, resized: set[Record]) -> list[Finding]:
  """Labels without a class, and masks that were resized with interpolation.

  Args:
    records: with masks of one kind.
    table: how labels become classes, if that could be found out.
    resized: what `interpolated` returned for them.
  """
  unknown = []
  for r in records if table else ():
    wrong = classes_of(r, table) < 0
    if wrong.any():
      named = zip(_named(r, r.values[wrong]), r.counts[wrong], strict=True)
      listed = [f'{name} ({count} pixels)' for name, count in named]
      unknown.append((f'{r.files[-1]} has {_few(listed)}', r))
  what, remedy = 'masks with labels that have no class', ''
  if table:
    expected = f'one of {len(table.classes)} colors' if table.colors else f'0 to {len(table.classes) - 1}'
    remedy = (
      f'expected {expected}, or {IGNORE} for pixels to ignore: correct the masks, or say in dataset.toml what these '
      'labels are, in classes, map or ignore (python -m fcn_jax.data init FOLDER writes that file)'
    )
  result = _found('labels', what, [(text, r.files[-1]) for text, r in unknown if r not in resized], remedy)
  masks = [(f'{r.files[-1]} has {_few(_named(r, r.between))}', r.files[-1]) for r in records if r in resized]
  what = 'masks with labels along edges that lie between the labels on either side, as interpolation makes them'
  stops = not table or any(r in resized for _, r in unknown)
  remedy = 'resize masks with the nearest pixel'
  return result + _found('interpolated', what, masks, remedy, 'error' if stops else 'warning')


def _named(record: Record, values: Iterable[int]) -> list[str]:
  return [labels.rgb(int(value)) if record.has_colors else str(value) for value in values]


def _few(texts: Iterable[str]) -> str:
  listed = list(texts)
  return ', '.join(listed[:_SHOWN]) + (', ...' if len(listed) > _SHOWN else '')


def classes_of(record: Record, table: labels.Labels) -> np.ndarray:
  """The classes of the labels of a mask, int16 [N]; -1 for labels without one."""
  values = np.asarray(record.values, np.int64)
  if record.has_colors:
    values = np.stack([values >> 16, values >> 8 & 255, values & 255], -1).astype(np.uint8)[:, None]
  return table.lookup(values)[0].ravel()


def class_counts(records: Sequence[Record], table: labels.Labels) -> np.ndarray:
  """The pixels of each class in each mask: int64 [N, C]."""
  result = np.zeros((len(records), len(table.classes)), np.int64)
  for row, record in zip(result, records, strict=True):
    found = classes_of(record, table)
    is_class = (found >= 0) & (found < len(row))
    np.add.at(row, found[is_class], np.asarray(record.counts)[is_class])
  return result


def of_classes(records: Sequence[Record], counts: np.ndarray, classes: Classes) -> list[Finding]:
  """Classes that no mask has, or none of the training split; masks without a labeled pixel."""
  trained = counts[np.array([r.split == 'train' for r in records], bool)].sum(0) > 0
  used = counts.sum(0) > 0
  unused = [(name,) for name, x in zip(classes.names, used, strict=True) if not x]
  result = _found('unused_class', 'classes that no mask has', unused, level='warning')
  held = [number for number in range(len(classes)) if used[number] and not trained[number]]
  files = [r.files[-1] for r, row in zip(records, counts, strict=True) if row[held].any()]
  what = 'classes that are in no mask of the training split, only in other splits'
  result += _found('held_out_class', what, [(classes.names[number], *files) for number in held], level='warning')
  empty = {r for r, row in zip(records, counts, strict=True) if not row.any()}
  for name in dict.fromkeys(r.split for r in records):
    of_split = [r for r in records if r.split == name]
    if empty.issuperset(of_split):
      files = tuple(r.files[-1] for r in of_split)
      result.append(Finding('unlabeled', f'no pixel of the split {name} has a class; expected labeled pixels', files))
      empty -= set(of_split)
  some = [(r.files[-1], r.files[-1]) for r in records if r in empty]
  return result + _found('unlabeled', 'masks without a labeled pixel', some, level='warning')


def of_partners(missing: Mapping[str, tuple[str, list[str]]]) -> list[Finding]:
  """Images and masks without a partner (`folder.load.missing`)."""
  return [Finding(check, message, tuple(files), 'warning') for check, (message, files) in missing.items()]


def _found(check: str, what: str, cases: Sequence[tuple[str, ...]], remedy: str = '', level='error') -> list[Finding]:
  """A finding about cases, each with its description and its files; none if there are no cases."""
  if not cases:
    return []
  described = '; '.join(case[0] for case in cases[:_SHOWN])
  more = f'; and {len(cases) - _SHOWN} more' if len(cases) > _SHOWN else ''
  message = f'{what} ({len(cases)}): {described}{more}{remedy and f"; {remedy}"}'
  return [Finding(check, message, tuple(dict.fromkeys(file for case in cases for file in case[1:])), level)]
