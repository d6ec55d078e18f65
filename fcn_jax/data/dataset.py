"""What a data set is, how it is loaded, and how its contents are checked. Imports neither TFDS nor jax nor grain.

A data set is a module with `load(data) -> Data`, where `data` is the section `data` of a config. It may also have
`describe(data) -> (inputs, heads)`, which needs no files, and the settings that `names.py` reads.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypedDict

import numpy as np

from fcn_jax.data import names
from fcn_jax.data.joined import Joined
from fcn_jax.errors import UserError

_OF_RESIZED = ('full_labels', 'full_sizes')  # the optional methods of a split
IGNORE = 255  # the label of pixels that count neither in the loss nor in the scores


class Example(TypedDict):
  """One image: `inputs` by stream, uint8 [H, W, C]; `labels` by head, uint8 [H, W]; `id`, unique in its split."""

  inputs: dict[str, np.ndarray]
  labels: dict[str, np.ndarray]
  id: str


class Split(Protocol):
  """The images of a split, by index. Several threads read it at the same time.

  If it has an attribute `is_decoded` that is true, reading an image takes next to no time.

  If images are resized when they are read, a split also has two methods, and is scored at the original size:
    full_labels(index) -> the labels of image `index` before resizing, uint8 [H, W] by head.
    full_sizes() -> their heights and widths, int [N, 2].
  """

  def __len__(self) -> int:
    """The number of images, N."""

  def __getitem__(self, index: int, /) -> Example:
    """Image `index`, 0 to N - 1: always the same."""

  def sizes(self) -> np.ndarray:
    """Height and width of each image, int [N, 2]."""

  def ids(self) -> Sequence[str]:
    """The id of each image."""


@dataclasses.dataclass(frozen=True)
class Classes:
  """The classes of a head; `len(classes)` is their number.

  Attributes:
    names: of the classes, unique.
    palette: a color for each class, RGB in 0..255.
    ignore: the label of pixels without a class; 255 is the only one that is supported.

  Raises:
    UserError: the numbers of names and colors differ, a name is repeated, or `ignore` is not 255.
  """

  names: tuple[str, ...]
  palette: tuple[tuple[int, int, int], ...]
  ignore: int = IGNORE

  def __post_init__(self) -> None:
    if not 0 < len(self.names) <= IGNORE or len(set(self.names)) != len(self.names):
      raise UserError(f'the classes are {", ".join(self.names) or "none"}; expected 1 to {IGNORE} unique names')
    if len(self.palette) != len(self.names):
      raise UserError(f'there are {len(self.names)} classes and {len(self.palette)} colors; expected a color per class')
    if self.ignore != IGNORE:
      raise UserError(f'the label to ignore is {self.ignore}; expected {IGNORE}: change these labels in load(data)')

  def __len__(self) -> int:
    return len(self.names)


@dataclasses.dataclass(frozen=True)
class Data:
  """A data set, ready to be read.

  Attributes:
    inputs: channels of each input stream: {'rgb': 3}, or {'rgb': 3, 'depth': 1}.
    heads: classes of each head: {'semantic': Classes(...)}.
    splits: images by purpose: train; validation, test or both.
    fingerprint: changes when images or labels change; a resumed run compares it.
  """

  inputs: dict[str, int]
  heads: dict[str, Classes]
  splits: Mapping[str, Split]
  fingerprint: str

  @property
  def held_out(self) -> str:
    """The split that results are reported on: test, or validation if there is no test split."""
    return 'test' if 'test' in self.splits else 'validation'

  @property
  def watched(self) -> str:
    """The split that is scored during training: validation, or test if there is no validation split."""
    return 'validation' if 'validation' in self.splits else 'test'

  def split(self, name: str) -> Split:
    """The split of this name; 'all' is all of them as one. Raises: UserError: there is none."""
    if name == 'all' and name not in self.splits:
      return Joined(self.splits)
    if name not in self.splits:
      raise UserError(f'there is no split {name!r}; expected one of {", ".join(self.splits)}, all')
    return self.splits[name]


def load(data: Any) -> Data:
  """Loads the data set of a config, and prepares it first if necessary.

  Args:
    data: the section `data` of a config.

  Returns:
    The data set. Each example is checked when it is first read (`problems`).

  Raises:
    UserError: there is no such data set, it cannot be prepared, or a part of it is missing.
  """
  loaded: Data = names.module(data.name).load(data)
  _check_whole(data.name, loaded)
  splits = {name: CheckedSplit(split, name, loaded.inputs, loaded.heads) for name, split in loaded.splits.items()}
  return dataclasses.replace(loaded, splits=splits)


def describe(data: Any) -> tuple[dict[str, int], dict[str, Classes]]:
  """The streams and heads of the data set of a config, as in `Data`.

  They come from the module's `describe(data)`, which prepares nothing. A module without it is loaded.
  """
  module = names.module(data.name)
  if hasattr(module, 'describe'):
    return module.describe(data)
  loaded = load(data)
  return loaded.inputs, loaded.heads


def _check_whole(name: str, loaded: Any) -> None:
  """Raises a UserError if a module's `load` did not return a data set that can be trained on and scored."""
  if not isinstance(loaded, Data):
    raise UserError(f'load(data) of {name} returned {type(loaded).__name__}; expected fcn_jax.data.Data')
  for kind, found in (('input stream', loaded.inputs), ('head', loaded.heads)):
    if not found or not all(part.isidentifier() for part in found):
      raise UserError(
        f'the data set {name} has the {kind}s {", ".join(found) or "none"}; expected at least one {kind}, named with '
        'letters, digits and underscores'
      )
  # Files in `eval` are called SPLIT.HEAD.best.json, network.json and kernels.npz.
  taken = [f'head {head}' for head in loaded.heads if head == 'best']
  taken += [
    f'split {split}' for split in loaded.splits if split in ('network', 'kernels') or not re.fullmatch(r'[\w-]+', split)
  ]
  if taken:
    raise UserError(
      f'the data set {name} has the {taken[0]}; expected no head called best, and splits named with letters, digits, '
      'hyphens and underscores, but not network or kernels: these are names of other files in a run directory'
    )
  has = f'the data set {name} has the splits {", ".join(loaded.splits) or "none"}'
  if 'train' not in loaded.splits:
    raise UserError(
      f"{has}, but no train split; expected load(data) to return Data with splits={{'train': ..., 'validation': ...}}"
    )
  if not {'validation', 'test'} & loaded.splits.keys():
    raise UserError(
      f'{has}, but neither validation nor test; hold back some of the training images in load(data) and return Data '
      "with splits={'train': ..., 'validation': ...}; add a split 'test' if the final scores are for other images"
    )
  for split_name, split in loaded.splits.items():
    required = ['__len__', '__getitem__', 'sizes', 'ids']
    required += _OF_RESIZED if any(hasattr(split, method) for method in _OF_RESIZED) else ()
    if missing := [method for method in required if not hasattr(split, method)]:
      raise UserError(f'the split {split_name} of {name} has no {", ".join(missing)}; expected an fcn_jax.data.Split')
    if not len(split):
      raise UserError(f'the split {split_name} of {name} is empty; expected at least one image')


class CheckedSplit:
  """A split whose examples are checked when they are first read, and whose sizes and ids are checked on each call."""

  def __init__(self, split: Any, name: str, inputs: dict[str, int], heads: dict[str, Classes]) -> None:
    self._split, self._name, self._inputs, self._heads = split, name, inputs, heads
    self._checked, self._checked_full = np.zeros((2, len(split)), bool)
    self._sizes: dict[str, np.ndarray] = {}

  def __len__(self) -> int:
    return len(self._split)

  def __getitem__(self, index: int) -> Example:
    index = int(index)
    example = self._split[index]
    if not self._checked[index]:
      size = tuple(self._sizes['sizes'][index]) if 'sizes' in self._sizes else None
      if found := problems(example, self._inputs, self._heads, size):
        name = example['id'] if isinstance(example, dict) and 'id' in example else index
        raise UserError(f'{self._name} image {name}: {found[0]}')
      self._checked[index] = True
    return example

  @property
  def is_decoded(self) -> bool:
    return getattr(self._split, 'is_decoded', False)

  def sizes(self) -> np.ndarray:
    return self._checked_sizes('sizes')

  @property
  def full_sizes(self) -> Callable[[], np.ndarray]:
    self._split.full_sizes  # an AttributeError if images are not resized  # noqa: B018
    return functools.partial(self._checked_sizes, 'full_sizes')

  @property
  def full_labels(self) -> Callable[[int], dict[str, np.ndarray]]:
    return functools.partial(self._checked_labels, self._split.full_labels)

  def _checked_sizes(self, method: str) -> np.ndarray:
    if method not in self._sizes:
      sizes = np.asarray(getattr(self._split, method)())
      if sizes.shape != (len(self), 2):
        found = f'{method}() of the split {self._name} has the shape {list(sizes.shape)}'
        raise UserError(f'{found}; expected {[len(self), 2]}, the height and width of each image')
      self._sizes[method] = sizes
    return self._sizes[method]

  def _checked_labels(self, full_labels: Callable[[int], dict[str, np.ndarray]], index: int) -> dict[str, np.ndarray]:
    labels, full, size = full_labels(int(index)), self.full_sizes()[index], self.sizes()[index]
    if not self._checked_full[index]:
      found = problems({'inputs': {}, 'labels': labels, 'id': index}, {}, self._heads, tuple(full))
      if (np.abs(full * (size.max() / full.max()) - size) > 1).any() or (full < size).any():
        found.insert(0, f'it was resized from {full.tolist()} to {size.tolist()}; expected the same aspect ratio')
      if found:
        raise UserError(f'{self._name} image {self.ids()[index]}, before resizing: {found[0]}')
      self._checked_full[index] = True
    return labels

  def ids(self) -> list[str]:
    ids = list(self._split.ids())
    if len(set(ids)) != len(self):
      raise UserError(f'the split {self._name} has {len(set(ids))} ids for {len(self)} images; expected one per image')
    return ids


def problems(
  example: Any, inputs: dict[str, int], heads: dict[str, Classes], size: tuple[int, ...] | None = None
) -> list[str]:
  """What is wrong with an example.

  Args:
    example: of a split.
    inputs: the channels that each stream must have.
    heads: the classes that each label must be one of.
    size: height and width that all arrays must have; by default those of the first stream.

  Returns:
    One sentence per problem; none if there is no problem.
  """
  if not isinstance(example, dict) or not {'inputs', 'labels', 'id'} <= example.keys():
    return [f'it is {_keys(example)}; expected a dict of inputs, labels and id']
  for part, expected in (('inputs', inputs), ('labels', heads)):
    found = example[part]
    if not isinstance(found, dict) or found.keys() != expected.keys():
      return [f'its {part} are {_keys(found)}; expected {", ".join(expected)}']
  size = size or np.shape(next(iter(example['inputs'].values())))[:2]
  arrays = [(f'input {name}', example['inputs'][name], (*size, channels)) for name, channels in inputs.items()]
  arrays += [(f'label {name}', example['labels'][name], size) for name in heads]
  result = [
    f'the {name} is {np.asarray(array).dtype} {list(np.shape(array))}; expected uint8 {[int(n) for n in shape]}'
    for name, array, shape in arrays
    if np.shape(array) != shape or np.asarray(array).dtype != np.uint8
  ]
  for head, classes in heads.items():
    label = np.asarray(example['labels'][head])
    if (wrong := label[(label >= len(classes)) & (label != IGNORE)]).size:
      result.append(
        f'{wrong.size} pixels of the label {head} are {wrong[0]}; expected classes 0 to {len(classes) - 1}, or '
        f'{IGNORE} for pixels to ignore'
      )
  return result


def _keys(found: object) -> str:
  return ', '.join(map(str, found)) if isinstance(found, dict) else f'of type {type(found).__name__}'
