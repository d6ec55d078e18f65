"""Which split each image of a folder is in: from dataset.toml, lists of names, or the names of folders."""

import collections
import dataclasses
import fnmatch
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Mapping

from fcn_jax import files
from fcn_jax.errors import UserError

SPLITS = {'train': 'train', 'training': 'train', 'trn': 'train', 'tr': 'train', 'val': 'validation'}
SPLITS |= {'valid': 'validation', 'validation': 'validation', 'test': 'test', 'testing': 'test', 'ts': 'test'}
_LISTS = re.compile(r'(?:(.*)/)?(train|val|valid|validation|test)\.txt')
_OF_SEGMENTATION = 'segmentation'  # the folder of VOC whose lists are the right ones
_SHOWN = 5  # files in a message


@dataclasses.dataclass(frozen=True)
class Pair:
  """An image and its mask.

  Attributes:
    id: unique in its split; it names outputs.
    images: the file of the image; several if each holds one of its channels. Relative to the folder, as `mask` is.
    mask: the file of the labels.
    split: train, validation or test; '' if neither folders nor lists have one.
  """

  id: str
  images: tuple[str, ...]
  mask: str
  split: str = ''


def few(paths: Iterable[str]) -> str:
  """The first of several paths, for a message."""
  listed = list(paths)
  return ', '.join(listed[:_SHOWN]) + (', ...' if len(listed) > _SHOWN else '')


def matches(path: str, pattern: str) -> bool:
  """Whether a relative path matches a pattern, in which ** is any number of folders."""
  return fnmatch.fnmatchcase(path, pattern) or (pattern.startswith('**/') and fnmatch.fnmatchcase(path, pattern[3:]))


def with_splits(
  root: pathlib.Path, pairs: list[Pair], without_mask: list[str], found: list[str], rules: Mapping
) -> tuple[list[Pair], str]:
  """The pairs with the splits of dataset.toml, else of lists, else of folders; and which of them it was.

  Args:
    root: the folder.
    pairs: with the splits of folders.
    without_mask: images, which a list may name; they are left out.
    found: all files of the folder.
    rules: of dataset.toml, by split.
  """
  lists = {} if rules else _lists(root, found)
  if not rules and not lists:
    return pairs, 'folders' if any(pair.split for pair in pairs) else ''
  split_of: dict[int, str] = {}
  index = _Index(root, pairs, without_mask)
  for split, several in (rules or lists).items():
    for rule in [several] if isinstance(several, str) else several:
      chosen = index.chosen(rule, split)
      if not chosen and rules:  # VOC has a list of test images, whose masks nobody has
        raise UserError(f'no image with a mask in {root} is of {rule!r}, which dataset.toml has in splits.{split}')
      for number in chosen:
        if split_of.setdefault(number, split) != split:
          raise UserError(
            f'{pairs[number].images[0]} is in the splits {split_of[number]} and {split} of {root}; expected one of them'
          )
  for number, pair in enumerate(pairs):
    if lists and number not in split_of and pair.split and pair.split not in lists:
      split_of[number] = pair.split  # a list of one split does not take away the others
  chosen_pairs = [dataclasses.replace(pairs[number], split=split) for number, split in split_of.items()]
  used = sorted(path for split, path in lists.items() if split in split_of.values())
  return chosen_pairs, 'dataset.toml' if rules else ', '.join(used)


def _lists(root: pathlib.Path, found: list[str]) -> dict[str, str]:
  """The text files that list the images of a split, by split: those of VOC's segmentation, else the outermost ones."""
  lists = [match for match in map(_LISTS.fullmatch, found) if match]
  lists = [x for x in lists if (x[1] or '').lower().endswith(_OF_SEGMENTATION)] or lists
  by_split: dict[str, str] = {}
  for match in sorted(lists, key=lambda match: match[0].count('/')):
    split, path = SPLITS[match[2]], match[0]
    other = by_split.setdefault(split, path)
    if other != path and other.count('/') == path.count('/'):
      raise UserError(
        f'{other} and {path} in {root} are lists of the split {split}; expected one: name it in dataset.toml, as '
        f'splits.{split}, or exclude the other there'
      )
  return by_split


class _Index:
  """Finds pairs by what lists and patterns call their images."""

  def __init__(self, root: pathlib.Path, pairs: list[Pair], without_mask: list[str]):
    self._root, self._pairs = root, pairs
    self._by_name: dict[str, list[int]] = collections.defaultdict(list)
    for number, pair in enumerate(pairs):
      for name in {pair.id, pair.id.rpartition('__')[2]} | {x for path in pair.images for x in _names(path)}:
        self._by_name[name].append(number)
    self._without_mask = {name for path in without_mask for name in _names(path)}

  def chosen(self, rule: str, split: str) -> list[int]:
    """The numbers of the pairs that a rule names: a text file with a name per line, or a pattern of image paths."""
    if not rule.endswith('.txt'):
      return [i for i, pair in enumerate(self._pairs) if any(matches(image, rule) for image in pair.images)]
    lines = files.read(files.path(self._root / rule)).decode('utf-8-sig', 'replace').splitlines()
    listed = [line.strip() for line in lines if line.strip() and not line.strip().startswith('#')]
    return [number for line in listed if (number := self._find(rule, split, line)) is not None]

  def _find(self, rule: str, split: str, line: str) -> int | None:
    """The pair of a line, which may be an id or a path, with or without ending, and go on with a mask; or None."""
    line = unicodedata.normalize('NFC', line)
    several: list[int] = []
    texts = (line, *re.split('[,;\t]', line)[:1], line.split()[0])  # a name may have spaces
    for name in (x.strip().strip('"') for x in texts):
      for last in _names(name):
        numbers = self._by_name.get(last, [])
        if len(numbers) > 1:
          numbers = self._nearest(numbers, name, split)
        if len(numbers) == 1:
          return numbers[0]
        if last in self._without_mask:
          return None
        several = several or numbers
    which = f'may be {few(self._pairs[x].images[0] for x in several)}' if several else 'is the name of no image'
    raise UserError(
      f'{self._root / rule} has {line!r}, which {which} in {self._root}; expected the path of an image per line: '
      'correct the list, or say in dataset.toml, in splits, what the splits are'
    )

  def _nearest(self, numbers: list[int], name: str, split: str) -> list[int]:
    """Those whose paths have most of the folders of a listed path, and the split of the list, if one has."""
    folders = {*name.split('/')[:-1]}

    def rank(number: int) -> tuple[int, bool]:
      pair = self._pairs[number]
      return len(folders & {*pair.images[0].split('/')[:-1]}), pair.split == split

    best = max(map(rank, numbers))
    return [number for number in numbers if rank(number) == best]


def _names(path: str) -> tuple[str, ...]:
  """The last part of a path, with and without ending."""
  name = unicodedata.normalize('NFC', path.rpartition('/')[2])
  return name, os.path.splitext(name)[0]
