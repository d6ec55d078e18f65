"""Finds the images and masks of a folder by the names of folders and files alone: only lists of names are opened.

Recognized are images/ and masks/ (and other names, see below), each of them below or above train/, val/ and test/;
train/ and trainannot/; VOC's JPEGImages/ and SegmentationClass/; Cityscapes' leftImg8bit/ and gtFine/; nnU-Net's
imagesTr/ and labelsTr/; and images next to masks that end in _mask and the like. Folders may be nested.
"""

import collections
import dataclasses
import fnmatch
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fcn_jax import files, image_files
from fcn_jax.errors import UserError

ENDINGS = (*image_files.ENDINGS, '.npy')

_IMAGE_FOLDERS = {'images', 'image', 'img', 'imgs', 'img_dir', 'jpegimages', 'leftimg8bit', 'inputs', 'photos'}
_MASK_FOLDERS = {'masks', 'mask', 'labels', 'label', 'annotations', 'annotation', 'ann_dir', 'segmentationclass'}
_MASK_FOLDERS |= {'gtfine', 'gtcoarse', 'gt', 'segmentations', 'segmentation', 'targets'}
# Of VOC and of annotation tools: numbers of objects, or masks drawn over images.
_OTHER_FOLDERS = {'segmentationobject', 'segmentationclassvisualization', 'segmentationclassnpy', '__macosx'}
_OTHER_FOLDERS |= {'segmentationobjectvisualization', 'segmentationobjectnpy'}
_OTHER_MASKS = ('_gtfine_color', '_gtfine_instanceids', '_gtfine_labeltrainids')
SPLITS = {'train': 'train', 'training': 'train', 'trn': 'train', 'tr': 'train', 'val': 'validation'}
SPLITS |= {'valid': 'validation', 'validation': 'validation', 'test': 'test', 'testing': 'test', 'ts': 'test'}
_ANNOT = re.compile('(train|val|test)annot')
_NNUNET = re.compile('(images|labels)(tr|ts)')
_CHANNEL = re.compile(r'_\d{4}$')
_MASK_ENDS = re.compile(
  r'[-_. ](gtfine_labelids|gtcoarse_labelids|masks?|labels?|labelids|seg|segmentation|gt|annotation)$'
)
_IMAGE_ENDS = re.compile(r'[-_. ](leftimg8bit|image|img|rgb)$')
_LISTS = re.compile(r'(?:.*/)?(train|val|valid|validation|test)\.txt')
_SHOWN = 5  # files in a message


@dataclasses.dataclass(frozen=True)
class Pair:
  """An image and its mask.

  Attributes:
    id: unique in the folder; it names outputs.
    images: the file of the image; several if each holds one of its channels. Relative to the folder, as `mask` is.
    mask: the file of the labels.
    split: train, validation or test; '' if neither folders nor lists tell.
  """

  id: str
  images: tuple[str, ...]
  mask: str
  split: str = ''


@dataclasses.dataclass(frozen=True)
class Layout:
  """What was found in a folder.

  Attributes:
    root: the folder.
    kind: how images and masks were told apart, for people.
    pairs: sorted by id.
    without_mask: images that have no mask.
    without_image: masks that have no image.
    split_by: what the splits come from: lists, folders, or '' if nothing tells.
  """

  root: pathlib.Path
  kind: str
  pairs: list[Pair]
  without_mask: list[str]
  without_image: list[str]
  split_by: str


@dataclasses.dataclass(frozen=True)
class _File:
  """A file by what its path tells: image or mask ('' if nothing tells), the split, and the rest of the path."""

  path: str
  role: str
  split: str
  key: str


def find(root: os.PathLike | str, exclude: Sequence[str] = (), splits: Mapping | None = None) -> Layout:
  """The images and masks in a folder and below it.

  Args:
    root: the folder. Hidden files and folders are left out.
    exclude: patterns of paths relative to the folder, as in '**/*_broken.png'.
    splits: by split, a list of names (the path of a text file), or a pattern of the paths of images, or several.

  Raises:
    UserError: there is no such folder, nothing in it is recognized, or a list names an image that is not there.
  """
  root = pathlib.Path(root)
  with files.explained(root):
    found = sorted(_walk(root, root))
  found = [path for path in found if not any(matches(path, pattern) for pattern in exclude)]
  images, masks, kind = _roles(root, [path for path in found if _ending(path) in ENDINGS])
  pairs, without_mask, without_image = _paired(images, masks)
  if not pairs:
    raise UserError(
      f'no image in {root} has a mask of the same name: {len(images)} images such as {_few(f.path for f in images)}; '
      f'{len(masks)} masks such as {_few(f.path for f in masks)}; expected equal names apart from the ending, and from '
      'suffixes such as _mask'
    )
  pairs, split_by = _with_splits(root, pairs, found, splits or {})
  _check_ids(pairs)
  return Layout(root, kind, sorted(pairs, key=lambda pair: pair.id), without_mask, without_image, split_by)


def matches(path: str, pattern: str) -> bool:
  """Whether a relative path matches a pattern, in which ** stands for any number of folders."""
  return fnmatch.fnmatchcase(path, pattern) or (pattern.startswith('**/') and fnmatch.fnmatchcase(path, pattern[3:]))


def _few(paths: Iterable[str]) -> str:
  listed = list(paths)
  return ', '.join(listed[:_SHOWN]) + (', ...' if len(listed) > _SHOWN else '')


def _ending(path: str) -> str:
  return os.path.splitext(path)[1].lower()


def _walk(root: pathlib.Path, folder: os.PathLike | str, above: tuple[str, ...] = ()) -> Iterator[str]:
  """The files below a folder, relative to `root`, with slashes."""
  above = (*above, os.path.realpath(folder))
  with os.scandir(folder) as entries:
    for entry in entries:
      if entry.name.startswith('.'):
        continue
      if entry.is_dir():
        is_loop = entry.is_symlink() and os.path.realpath(entry.path) in above
        if entry.name.lower() not in _OTHER_FOLDERS and not is_loop:
          yield from _walk(root, entry.path, above)
      else:
        yield entry.path[len(f'{root}/') :]


def _roles(root: pathlib.Path, paths: list[str]) -> tuple[list[_File], list[_File], str]:
  """The images, the masks, and how they were told apart."""
  if not paths:
    raise UserError(f'there is no image in {root}; expected files that end in {", ".join(ENDINGS)}')
  found = [file for file in map(_parse, paths) if file]
  if any(file.role == 'mask' for file in found):
    # train/ next to trainannot/: the images are in folders that say nothing but the split.
    images = [file for file in found if file.role == 'image']
    images = images or [dataclasses.replace(file, role='image') for file in found if not file.role]
    masks = [file for file in found if file.role == 'mask']
    kind = ' and '.join(sorted({_top(images[0].path), _top(masks[0].path)})) if images else 'masks'
  else:
    masks = [dataclasses.replace(file, role='mask') for file in found if _MASK_ENDS.search(file.key.lower())]
    images = [file for file in found if not _MASK_ENDS.search(file.key.lower())]
    kind = 'images next to masks that end in _mask or the like'
  if not images or not masks:
    missing = 'masks' if images or not masks else 'images'
    raise UserError(
      f'{root} has {len(paths)} image files such as {_few(paths)}, but no {missing} are recognized; expected '
      'the folders images/ and masks/, with one mask per image, of the same name; docs/own_data.md lists all layouts'
    )
  return images, masks, kind


def _top(path: str) -> str:
  return f'{path.partition("/")[0]}/' if '/' in path else path


def _parse(path: str) -> _File | None:
  """A file by what its path tells; None if it is neither an image nor a mask."""
  *folders, name = path.split('/')
  role, split, kept = '', '', []
  for folder in folders:
    lower = folder.lower()
    if match := _NNUNET.fullmatch(lower):
      role, split = ('image' if match[1] == 'images' else 'mask'), '' if match[2] == 'tr' else 'test'
    elif match := _ANNOT.fullmatch(lower):
      role, split = 'mask', SPLITS[match[1]]
    elif lower in _IMAGE_FOLDERS:
      role = 'image'
    elif lower in _MASK_FOLDERS:
      role = 'mask'
    elif lower in SPLITS and not split:
      split = SPLITS[lower]
    else:
      kept.append(folder)
  stem = os.path.splitext(name)[0]
  if role == 'mask' and stem.lower().endswith(_OTHER_MASKS):
    return None
  return _File(path, role, split, '/'.join([*kept, stem]))


def _paired(images: list[_File], masks: list[_File]) -> tuple[list[Pair], list[str], list[str]]:
  """Pairs by equal keys, else by keys without usual suffixes; then the images and the masks without a partner."""
  by_key: dict[tuple[str, str], list[_File]] = collections.defaultdict(list)
  numbered = _has_channels(images, masks)
  for file in images:
    by_key[file.split, _CHANNEL.sub('', file.key) if numbered else _stripped(file.key, _IMAGE_ENDS)].append(file)
  pairs, without_image, used = [], [], set()
  for mask in masks:
    keys = [(mask.split, mask.key), (mask.split, _stripped(mask.key, _MASK_ENDS))]
    keys += [(mask.split, _stripped(mask.key, _IMAGE_ENDS))]
    key = next((key for key in keys if key in by_key and key not in used), None)
    if key is None:
      without_image.append(mask.path)
      continue
    used.add(key)
    pairs.append(Pair(key[1].replace('/', '__'), tuple(sorted(x.path for x in by_key[key])), mask.path, mask.split))
  if several := [pair for pair in pairs if len(pair.images) > 1 and not numbered]:
    raise UserError(
      f'{_few(several[0].images)} are images of one name, for the mask {several[0].mask}; expected one image per mask: '
      'rename or remove the others, or exclude them in dataset.toml',
      files=[path for pair in several for path in (*pair.images, pair.mask)],
    )
  without_mask = [file.path for key, several in by_key.items() if key not in used for file in several]
  return pairs, sorted(without_mask), without_image


def _has_channels(images: list[_File], masks: list[_File]) -> bool:
  """Whether the names of all images end in the number of a channel, which those of their masks do not have."""
  names = {mask.key for mask in masks}
  return all(_CHANNEL.search(x.key) for x in images) and any(_CHANNEL.sub('', x.key) in names for x in images)


def _stripped(key: str, ends: re.Pattern) -> str:
  folder, _, stem = key.rpartition('/')
  match = ends.search(stem.lower())
  stem = stem[: match.start()] if match and match.start() else stem
  return f'{folder}/{stem}' if folder else stem


def _with_splits(root: pathlib.Path, pairs: list[Pair], found: list[str], splits: Mapping) -> tuple[list[Pair], str]:
  """The pairs with the splits that lists tell, else folders, and which of them it was."""
  if splits:
    return _by_rules(root, pairs, splits), 'dataset.toml'
  lists = {match[1]: path for path in found if (match := _LISTS.fullmatch(path))}
  if lists:
    rules = {SPLITS[name]: path for name, path in lists.items()}
    return _by_rules(root, pairs, rules), ', '.join(sorted(lists.values()))
  return pairs, 'folders' if any(pair.split for pair in pairs) else ''


def _by_rules(root: pathlib.Path, pairs: list[Pair], rules: Mapping) -> list[Pair]:
  """The pairs that rules put into a split, each in one."""
  split_of: dict[int, str] = {}
  for split, several in rules.items():
    for rule in [several] if isinstance(several, str) else several:
      for index in _chosen(root, pairs, rule):
        if split_of.setdefault(index, split) != split:
          raise UserError(
            f'{pairs[index].images[0]} is in the splits {split_of[index]} and {split} of {root}; expected one of them'
          )
  if missing := [split for split in rules if split not in split_of.values()]:
    raise UserError(f'the split {missing[0]} of {root} has no image; it is {rules[missing[0]]!r}')
  return [dataclasses.replace(pairs[index], split=split) for index, split in split_of.items()]


def _chosen(root: pathlib.Path, pairs: list[Pair], rule: str) -> list[int]:
  """The numbers of the pairs that a rule names: a text file with a name per line, or a pattern of image paths."""
  if not rule.endswith('.txt'):
    return [i for i, pair in enumerate(pairs) if any(matches(image, rule) for image in pair.images)]
  numbers: dict[str, set[int]] = collections.defaultdict(set)
  for number, pair in enumerate(pairs):  # a list may have ids, or paths of images with or without ending, or their ends
    for name in (pair.id, *pair.images):
      for short in (name, os.path.basename(name)):
        numbers[short].add(number)
        numbers[os.path.splitext(short)[0]].add(number)
  chosen = []
  for line in files.read(files.path(root / rule)).decode('utf-8', 'replace').splitlines():
    if not (words := line.replace(',', ' ').split()):
      continue
    name = words[0].removeprefix('./').lstrip('/')
    candidates = (name, os.path.splitext(name)[0], os.path.basename(name), os.path.splitext(os.path.basename(name))[0])
    found = next((numbers[x] for x in candidates if len(numbers.get(x, ())) == 1), None)
    if not found:
      raise UserError(f'{root / rule} has {words[0]}, which is not the name of one image with a mask in {root}')
    chosen += found
  return chosen


def _check_ids(pairs: list[Pair]) -> None:
  counts = collections.Counter((pair.split, pair.id) for pair in pairs)
  if paths := [pair.images[0] for pair in pairs if counts[pair.split, pair.id] > 1]:
    raise UserError(f'{_few(paths)} have the same name; expected names that are unique in a split', files=paths)
