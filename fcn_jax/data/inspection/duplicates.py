"""Images that are copies of each other: byte for byte, or so alike that a network would learn the held-out ones."""

import collections
from collections.abc import Iterator, Sequence

import numpy as np

from fcn_jax.data.inspection.checks import Finding
from fcn_jax.data.inspection.records import Record

_ALIKE = 4  # of the 64 bits of a perceptual hash, that may differ between near duplicates
_SHOWN = 3


def findings(records: Sequence[Record]) -> list[Finding]:
  """Duplicates within a split, and across splits, where they make scores look better than they are."""
  groups: dict[str, list[list[Record]]] = {'leakage': [], 'duplicates': []}
  for group in alike(records):
    by_split = collections.Counter(r.split for r in group)
    if len(by_split) > 1:
      groups['leakage'].append(group)
    groups['duplicates'] += [several for several in _by_split(group) if len(several) > 1]
  what = {
    'leakage': 'images that are in several splits, so that scores look better than they are',
    'duplicates': 'images that are there several times in a split',
  }
  return [_finding(check, what[check], found) for check, found in groups.items() if found]


def alike(records: Sequence[Record]) -> Iterator[list[Record]]:
  """Groups of at least two images: the first one, and later ones that are copies of it or hardly differ from it.

  Each image is compared with all later ones that are in no group yet, in one pass over 8 bytes per image; an image of
  a group, with those of other splits.
  """
  records = [r for r in records if r.digest]
  hashes = np.array([r.hash for r in records], np.uint64)
  free = np.ones(len(records), bool)
  names = {name: number for number, name in enumerate(dict.fromkeys(r.split for r in records))}
  splits = np.array([names[r.split] for r in records], np.int32)
  for number in range(len(records)):
    later = free[number:] if free[number] else free[number:] & (splits[number:] != splits[number])
    near = np.bitwise_count(hashes[number:] ^ hashes[number]) <= _ALIKE
    members = number + np.flatnonzero(near & later)
    free[members] = False
    if members.size and members[0] != number:
      members = np.append(number, members)
    if len(members) > 1:
      yield [records[member] for member in members]


def _by_split(group: Sequence[Record]) -> list[list[Record]]:
  return [[r for r in group if r.split == name] for name in dict.fromkeys(r.split for r in group)]


def _finding(check: str, what: str, groups: Sequence[Sequence[Record]]) -> Finding:
  """Sentence: how many images, how many of them are exact copies, and the first groups."""
  total, exact, listed = 0, 0, []
  for group in groups:
    first = [r for r in group if r.split == group[0].split] if check == 'leakage' else group[:1]
    copies = [r for r in group if r not in first]
    total, exact = total + len(copies), exact + sum(r.digest in {x.digest for x in first} for r in copies)
  for group in groups[:_SHOWN]:
    # For leakage, the first image of each split is enough.
    shown = [several[0] for several in _by_split(group)] if check == 'leakage' else group
    listed.append(' = '.join(f'{r.files[0]} ({r.split})' for r in shown[:_SHOWN]) + ', ...' * (len(shown) > _SHOWN))
  more = f'; and {len(groups) - _SHOWN} more groups' if len(groups) > _SHOWN else ''
  message = (
    f'{what} ({total}: {exact} copies byte for byte, {total - exact} near duplicates): {"; ".join(listed)}{more}'
  )
  return Finding(check, message, tuple(r.files[0] for group in groups for r in group), 'warning')
