"""Finds the images and masks of a folder by the names of folders and files alone: only lists of names are opened.

Recognized are images/ and masks/ (and other names, see below), each of them below or above train/, val/ and test/;
train/ and trainannot/, also train_images/ and train_labels/; VOC's JPEGImages/ and SegmentationClass/; Cityscapes'
leftImg8bit/ and gtFine/; nnU-Net's imagesTr/ and labelsTr/; and images next to masks that end in _mask and the like.
Folders may be nested.
"""

import collections
import dataclasses
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from fcn_jax import files, image_files
from fcn_jax.data.folder.rules import SPLITS, Pair, few, matches, with_splits
from fcn_jax.errors import UserError

ENDINGS = (*image_files.ENDINGS, '.npy')

_IMAGE_FOLDERS = {'images', 'image', 'img', 'imgs', 'img_dir', 'jpegimages', 'leftimg8bit', 'inputs', 'photos'}
_MASK_FOLDERS = {'masks', 'mask', 'labels', 'label', 'annotations', 'annotation', 'ann_dir', 'segmentationclass'}
_MASK_FOLDERS |= {'gtfine', 'gtcoarse', 'gt', 'segmentations', 'segmentation', 'targets'}
# Of VOC and of annotation tools: numbers of objects, or masks drawn over images.
_OTHER_FOLDERS = {'segmentationobject', 'segmentationclassvisualization', 'segmentationclassnpy', '__macosx'}
_OTHER_FOLDERS |= {'segmentationobjectvisualization', 'segmentationobjectnpy'}
_OTHER_MASKS = ('_gtfine_color', '_gtfine_instanceids', '_gtfine_labeltrainids')
_OF_SPLIT = re.compile('(train|val|valid|validation|test)[-_]?(images?|imgs?|annot|annotations?|labels?|masks?)')
_NNUNET = re.compile('(images|labels)(tr|ts)')
_CHANNEL = re.compile(r'_\d{4}$')
_MASK_ENDS = re.compile(
  r'[-_. ](gtfine_labelids|gtcoarse_labelids|masks?|labels?|labelids|seg|segmentation|gt|annotation)$', re.IGNORECASE
)
_IMAGE_ENDS = re.compile(r'[-_. ](leftimg8bit|image|img|rgb)$', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Layout:
  """What was found in a folder.

  Attributes:
    root: the folder.
    kind: what images and masks were recognized by, for people.
    pairs: sorted by id.
    without_mask: images that have no mask.
    without_image: masks that have no image.
    without_split: images that have a mask, and are in none of the splits of lists or dataset.toml.
    split_by: what the splits come from: lists, folders, or '' if there are none.
  """

  root: pathlib.Path
  kind: str
  pairs: list[Pair]
  without_mask: list[str]
  without_image: list[str]
  without_split: list[str]
  split_by: str


@dataclasses.dataclass(frozen=True)
class _File:
  """What the path of a file shows: image or mask, the split ('' if it does not show one), and the rest of the path."""

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
  found = sorted(_walk(root))
  found = [path for path in found if not any(matches(path, pattern) for pattern in exclude)]
  paths = [path for path in found if _ending(path) in ENDINGS]
  if wrong := [path for path in paths if not path.isascii() and os.fsencode(path) != path.encode(errors='replace')]:
    raise UserError(f'the name {wrong[0]!r} in {root} is not UTF-8; rename the file')
  images, masks, kind = _roles(root, paths)
  pairs, without_mask, without_image = _paired(images, masks)
  if not pairs:
    raise UserError(
      f'no image in {root} has a mask of the same name: {len(images)} images such as {few(f.path for f in images)}; '
      f'{len(masks)} masks such as {few(f.path for f in masks)}; expected equal names apart from the ending, and from '
      'suffixes such as _mask'
    )
  chosen, split_by = with_splits(root, pairs, without_mask, found, splits or {})
  _check_ids(chosen)
  unlisted = sorted({pair.images[0] for pair in pairs} - {pair.images[0] for pair in chosen})
  by_id = sorted(chosen, key=lambda pair: pair.id)
  return Layout(root, kind, by_id, without_mask, without_image, unlisted, split_by)


def _ending(path: str) -> str:
  return os.path.splitext(path)[1].lower()


def _walk(folder: os.PathLike | str, start: str = '', above: tuple[str, ...] = ()) -> Iterator[str]:
  """The files below a folder, with slashes, after `start`, the path of the folder relative to the first one."""
  above = (*above, os.path.realpath(folder))
  with files.explained(folder), os.scandir(folder) as entries:
    for entry in entries:
      if entry.name.startswith('.'):
        continue
      path = start + entry.name
      if entry.is_dir():
        is_loop = entry.is_symlink() and os.path.realpath(entry.path) in above
        if entry.name.lower() not in _OTHER_FOLDERS and not is_loop:
          yield from _walk(entry.path, f'{path}/', above)
      else:
        yield path


def _roles(root: pathlib.Path, paths: list[str]) -> tuple[list[_File], list[_File], str]:
  """The images, the masks, and what they were recognized by."""
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
    masks = [dataclasses.replace(file, role='mask') for file in found if _MASK_ENDS.search(file.key)]
    images = [file for file in found if not _MASK_ENDS.search(file.key)]
    kind = 'images next to masks that end in _mask or the like'
  if not images or not masks:
    missing = 'masks' if images or not masks else 'images'
    raise UserError(
      f'{root} has {len(paths)} image files such as {few(paths)}, but no {missing} are recognized; expected '
      'the folders images/ and masks/, with one mask per image, of the same name; docs/own_data.md lists all layouts'
    )
  return images, masks, kind


def _top(path: str) -> str:
  return f'{path.partition("/")[0]}/' if '/' in path else path


def _parse(path: str) -> _File | None:
  """What the path of a file shows; None if it is neither an image nor a mask."""
  *folders, name = path.split('/')
  role, split, kept = '', '', []
  for folder in folders:
    lower = folder.lower()
    if match := _NNUNET.fullmatch(lower):
      role, split = ('image' if match[1] == 'images' else 'mask'), '' if match[2] == 'tr' else 'test'
    elif match := _OF_SPLIT.fullmatch(lower):
      role, split = ('image' if match[2].startswith('im') else 'mask'), SPLITS[match[1]]
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
  # An archive of a Mac may have decomposed letters, of which a list has the usual form.
  return _File(path, role, split, unicodedata.normalize('NFC', '/'.join([*kept, stem])))


def _paired(images: list[_File], masks: list[_File]) -> tuple[list[Pair], list[str], list[str]]:
  """Pairs by equal keys, else by keys without usual suffixes; then the images and the masks without a partner."""
  numbered = _has_channels(images, masks)
  by_key, by_stripped = collections.defaultdict(list), collections.defaultdict(list)
  for file in images:
    by_key[file.split, _CHANNEL.sub('', file.key) if numbered else file.key].append(file)
    by_stripped[file.split, _stripped(file.key, _IMAGE_ENDS)].append(file)
  pairs, without_image = [], []
  for mask in masks:
    keys = [(mask.split, mask.key), (mask.split, _stripped(mask.key, _MASK_ENDS))]
    key, several = next(((key, by[key]) for by in (by_key, by_stripped) for key in keys if key in by), (None, []))
    if not several:
      without_image.append(mask.path)
      continue
    pairs.append(Pair(key[1].replace('/', '__'), tuple(sorted(x.path for x in several)), mask.path, mask.split))
  _check_single(pairs, numbered)
  used = {path for pair in pairs for path in pair.images}
  return pairs, sorted(file.path for file in images if file.path not in used), without_image


def _check_single(pairs: list[Pair], numbered: bool) -> None:
  """Raises a UserError if images of one name have one mask, or an image has two."""
  remedy = 'rename or remove the others, or exclude them in dataset.toml'
  if several := [pair for pair in pairs if len(pair.images) > 1 and not numbered]:
    raise UserError(
      f'{few(several[0].images)} are images of one name, for the mask {several[0].mask}; expected one image per mask: '
      f'{remedy}',
      files=[path for pair in several for path in (*pair.images, pair.mask)],
    )
  masks = collections.defaultdict(list)
  for pair in pairs:
    masks[pair.images[0]].append(pair.mask)
  if doubled := [(image, found) for image, found in masks.items() if len(found) > 1]:
    image, found = doubled[0]
    raise UserError(
      f'{found[0]} and {found[1]} are masks of {image}; expected one mask per image: {remedy}',
      files=[path for image, found in doubled for path in (image, *found)],
    )


def _has_channels(images: list[_File], masks: list[_File]) -> bool:
  """Whether the names of all images end in the number of a channel, which those of their masks do not have."""
  names = {mask.key for mask in masks}
  return all(_CHANNEL.search(x.key) for x in images) and any(_CHANNEL.sub('', x.key) in names for x in images)


def _stripped(key: str, ends: re.Pattern) -> str:
  folder, _, stem = key.rpartition('/')
  match = ends.search(stem)
  stem = stem[: match.start()] if match and match.start() else stem
  return f'{folder}/{stem}' if folder else stem


def _check_ids(pairs: list[Pair]) -> None:
  counts = collections.Counter((pair.split, pair.id) for pair in pairs)
  if paths := [pair.images[0] for pair in pairs if counts[pair.split, pair.id] > 1]:
    raise UserError(f'{few(paths)} have the same name; expected names that are unique in a split', files=paths)
