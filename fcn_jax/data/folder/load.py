"""The data set of a folder: its splits, its fingerprint, and the settings that are measured on it."""

import dataclasses
import hashlib
import logging
import math
import os
import pathlib
from collections.abc import Sequence

from fcn_jax import files
from fcn_jax.data import decoded
from fcn_jax.data.dataset import Classes, Data
from fcn_jax.data.folder import description, images, labels, layout, mask_files
from fcn_jax.data.folder.layout import Pair
from fcn_jax.data.folder.split import HEAD, FolderSplit
from fcn_jax.errors import UserError

logger = logging.getLogger(__name__)

SAMPLE = 2000  # pairs that are looked at before training; the others are checked when they are read
_FEWEST, _SURVEYED = 100, 10**9  # masks, and pixels, whose labels are read: those of 12 megapixels take 0.2 s each
MEASURED = 200  # images that the range, mean and standard deviation are measured on


@dataclasses.dataclass(frozen=True)
class Folder:
  """A folder whose images and masks were found, and are not read yet.

  Attributes:
    root: the folder.
    layout: the images and masks.
    given: the description of the folder.
    splits: the pairs by split.
    labels: how masks become classes.
    kind: how images are read.
    notes: what was guessed, and what a person should know, a sentence each.
  """

  root: pathlib.Path
  layout: layout.Layout
  given: description.Description
  splits: dict[str, list[Pair]]
  labels: labels.Labels
  kind: images.Kind
  notes: list[str]


def load(data) -> Data:
  """The data set of `data.folder`: see `dataset.load`. Nothing is written into the folder."""
  found = open_folder(data)
  for note in found.notes:
    logger.info('folder   %s', note)
  kind = found.kind.with_range(data.range or found.given.range)
  digest, stamp = _digests(found)
  limit = data.cache_gib * 2**30
  total = sum(map(len, found.splits.values()))
  cache = decoded.Folder(decoded.location(data), limit, f'{digest} {stamp} {data.resize} {kind!r}')
  splits = {}
  for name, pairs in found.splits.items():
    chosen = _subset(pairs, data.train_fraction, data.split_seed) if name == 'train' else pairs
    size = '' if len(chosen) == len(pairs) else f'-{len(chosen)}-{data.split_seed}'
    splits[name] = FolderSplit(
      found.root,
      chosen,
      found.labels,
      kind,
      name=f'{name}{size}',
      resize=data.resize,
      room=limit * len(pairs) / total,
      threads=data.threads,
      cache=cache,
    )
    splits[name].check_headers(None if name != 'train' else SAMPLE)
  return Data(
    inputs={kind.stream: kind.channels}, heads={HEAD: found.labels.classes}, splits=splits, fingerprint=digest
  )


def describe(data) -> tuple[dict[str, int], dict[str, Classes]]:
  """The streams and heads: see `dataset.describe`."""
  found = open_folder(data)
  return {found.kind.stream: found.kind.channels}, {HEAD: found.labels.classes}


def resolve(data) -> dict[str, object]:
  """The settings that are measured at the first start of a run, by dotted name: see `names.py`."""
  found = open_folder(data)
  sample = sampled(found.splits['train'], MEASURED)
  kind, mean, std = images.measured(
    found.root, sample, found.kind.with_range(data.range or found.given.range), data.threads
  )
  return {
    'data.classes': len(found.labels.classes),
    'data.range': kind.range,
    'model.mean': mean,
    'model.std': std,
  }


def open_folder(data) -> Folder:
  """Finds the images and masks, the splits and the classes.

  Args:
    data: the section `data` of a config.

  Raises:
    UserError: `data.folder` is not set, or there is no data set in it.
  """
  root = root_of(data)
  given, found = find(root, description.read(root))
  splits, split_note = split_pairs(found, data)
  sample = sampled(found.pairs, SAMPLE)
  height, width = mask_files.header_size(root / sample[0].mask)
  of_survey = sampled(sample, max(_FEWEST, _SURVEYED // (height * width)))
  survey = labels.survey(root, [pair.mask for pair in of_survey], data.threads, given.colors)
  table = labels.resolve(root, given, survey, data.classes)
  counts = ', '.join(f'{len(pairs)} {name}' for name, pairs in splits.items())
  source = f' ({given.source})' if given.source else ''
  notes = [f'{root}, {found.kind}: {counts}, {split_note}', f'{len(table.classes)} classes{source}: {_names(table)}']
  notes += [f'guessed: {guess}; {description.NAME} can say otherwise' for guess in table.guesses]
  notes += [message for message, _ in missing(found).values()]
  return Folder(root, found, given, splits, table, images.kind_of(root, sample), notes)


def root_of(data) -> pathlib.Path:
  """The folder of the section `data` of a config. Raises: UserError: it is not set, or there is no such folder."""
  if not data.folder:
    raise UserError('data.folder is not set; give the folder of images and masks with --config.data.folder=DIR')
  root = pathlib.Path(files.path(data.folder))
  if files.is_remote(root):
    raise UserError(f'data.folder is {root}; expected a folder on a disk, because files are read again and again')
  if not files.exists(files.path(root)) or not root.is_dir():
    raise UserError(f'there is no folder {root}; give the folder of images and masks with --config.data.folder=DIR')
  return root.absolute()


def find(root: pathlib.Path, given: description.Description) -> tuple[description.Description, layout.Layout]:
  """The images and masks of a folder, and its description with the classes of the layout if it has none."""
  found = layout.find(root, given.exclude, given.splits)
  if not given.classes and any('_gtfine_labelids' in pair.mask.lower() for pair in found.pairs[:1]):
    given = dataclasses.replace(description.cityscapes(), **description.stated(given))
  return given, found


def _names(table: labels.Labels) -> str:
  names = table.classes.names
  return ', '.join(names[:20]) + (', ...' if len(names) > 20 else '')


def missing(found: layout.Layout) -> dict[str, tuple[str, list[str]]]:
  """What is left out, by 'without_mask', 'without_image' and 'without_split': a sentence, and the files."""
  parts = {
    'without_mask': 'images without a mask',
    'without_image': 'masks without an image',
    'without_split': 'images that are in no split',
  }
  of_part = {part: (what, getattr(found, part)) for part, what in parts.items()}
  return {
    part: (f'left out: {len(paths)} {what}, such as {paths[0]}', paths)
    for part, (what, paths) in of_part.items()
    if paths
  }


def split_pairs(found: layout.Layout, data) -> tuple[dict[str, list[Pair]], str]:
  """The pairs by split, and where the splits come from."""
  splits: dict[str, list[Pair]] = {}
  for pair in found.pairs:
    splits.setdefault(pair.split or 'train', []).append(pair)
  if 'train' not in splits:
    raise UserError(f'{found.root} has the splits {", ".join(splits)}, but no training images; expected a split train')
  note = f'from {found.split_by}'
  if {'validation', 'test'} & splits.keys():
    return {name: splits[name] for name in ('train', 'validation', 'test') if name in splits}, note
  pairs = splits['train']
  if len(pairs) < 2:
    raise UserError(f'{found.root} has one image with a mask; expected at least 2, one of them to score')
  by_hash = sorted(pairs, key=lambda pair: _place(pair.id, data.split_seed))
  held = [pair for pair in by_hash if _place(pair.id, data.split_seed) < data.val_fraction]
  few = '' if held else '; no name is in this fraction, so the nearest image is for validation'
  held = (held or by_hash)[: max(1, min(len(held), len(pairs) - 1))]
  ids = {pair.id for pair in held}
  train = [pair for pair in pairs if pair.id not in ids]
  note = f'split by their names (data.val_fraction={data.val_fraction:g}, data.split_seed={data.split_seed}{few})'
  return {'train': train, 'validation': [pair for pair in pairs if pair.id in ids]}, note


def _place(name: str, seed: int) -> float:
  """A number from 0 to 1 for a name, which neither other images nor the seed of a run change."""
  return int.from_bytes(hashlib.sha256(f'{seed} {name}'.encode()).digest()[:8], 'big') / 2**64


def _subset(pairs: list[Pair], fraction: float, seed: int) -> list[Pair]:
  """The share of the pairs, in their order, such that a smaller share is part of a larger one."""
  if fraction == 1:
    return pairs
  count = max(1, math.floor(fraction * len(pairs) + 0.5))
  chosen = {pair.id for pair in sorted(pairs, key=lambda pair: _place(f'{pair.id} of train', seed))[:count]}
  return [pair for pair in pairs if pair.id in chosen]


def sampled(pairs: Sequence[Pair], most: int) -> list[Pair]:
  """At most `most` of the pairs, chosen by their names."""
  if len(pairs) <= most:
    return list(pairs)
  chosen = sorted(pairs, key=lambda pair: _place(f'{pair.split} {pair.id} sampled', 0))[:most]
  return sorted(chosen, key=lambda pair: (pair.split, pair.id))


def _digests(found: Folder) -> tuple[str, str]:
  """The fingerprint, and a digest of the times of changes, so that decoded images of an earlier state are not used.

  The fingerprint is of the names and sizes of all files, the masks of the splits that are scored, and the classes.
  """
  content, times = hashlib.sha256(), hashlib.sha256(os.fsencode(found.root))
  try:
    for name, pairs in found.splits.items():
      for pair in pairs:
        paths = [f'{found.root}/{path}' for path in (*pair.images, pair.mask)]
        stats = [os.stat(path) for path in paths]
        content.update(f'{name} {pair.id} {[x.st_size for x in stats]}\n'.encode())
        times.update(f'{pair.id} {[x.st_mtime_ns for x in stats]}\n'.encode())
        if name != 'train':
          with open(paths[-1], 'rb') as file:
            content.update(hashlib.file_digest(file, 'sha256').digest())
  except OSError as error:
    raise UserError(f'cannot read {error.filename}: {files.reason(error)}') from error
  table = found.labels
  content.update(repr((table.classes, sorted(table.colors.items()) if table.colors else 0)).encode())
  content.update(table.numbers.tobytes())
  return f'folder {content.hexdigest()[:16]}', times.hexdigest()[:16]
