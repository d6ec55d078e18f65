"""Writes `dataset.toml` with what was guessed about a folder, as a start for a person."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fcn_jax.data.dataset import IGNORE
from fcn_jax.data.folder import description, images, labels, layout
from fcn_jax.data.folder.description import Description
from fcn_jax.data.folder.load import MEASURED, SAMPLE, find, root_of, sampled, split_pairs
from fcn_jax.errors import UserError

_SHOWN = 5  # labels in a message
_SPLITS = """# Without this table, splits come from folders or lists of names, else from a hash of the names.
# [splits]
# train = "lists/train.txt"           # a file with a name per line,
# validation = "images/fold3_*.png"   # or a pattern of paths, or a list of them"""


def written(data: Any) -> str:
  """The content of a `dataset.toml` for a folder.

  Classes are those that the folder lists; otherwise one per label or color in the masks, with made-up names.

  Args:
    data: the section `data` of a config.

  Raises:
    UserError: there is no data set in the folder, a file cannot be read, or the masks have too many labels.
  """
  root = root_of(data)
  given, found = find(root, description.read(root))
  splits, note = split_pairs(found, data)
  survey = labels.survey(root, [pair.mask for pair in found.pairs], data.threads, given.colors)
  given, origin = _with_classes(root, given, survey)
  counts = ', '.join(f'{len(pairs)} {name}' for name, pairs in splits.items())
  lines = [
    '# What `python -m fcn_jax.data init` found and guessed. Check each value, and correct what is wrong.',
    f'# Images and masks: {_text(found.kind)}. Splits: {_text(note)}: {counts}.',
    '',
    f'# {origin}',
    *_class_rows(root, given, survey, len(found.pairs)),
  ]
  if given.colors:
    lines += ['# The color of each class, in masks with colors and in images for people.']
    lines += ['colors = [', *(f'  {list(color)},' for color in given.colors), ']']
  lines += ['# Labels of the masks that count nowhere.', f'ignore = {_ignored(given, survey)}']
  lines += ['# Files to leave out, for example ["**/*_broken.png"].', f'exclude = {_text(list(given.exclude))}']
  lines += _range(root, given, found, sampled(splits['train'], MEASURED), data.threads)
  if given.map:
    lines += ['', '[map]  # label in the masks = class', *(f'{x} = {_text(name)}' for x, name in given.map.items())]
  rules = ['[splits]', *(f'{name} = {_text(rule)}' for name, rule in given.splits.items())]
  return '\n'.join([*lines, '', *(rules if given.splits else [_SPLITS]), ''])


def _text(value: Any) -> str:
  """A text or a list of texts, as TOML writes it."""
  return json.dumps(value, ensure_ascii=False).replace('\x7f', '\\u007f')


def _with_classes(root: pathlib.Path, given: Description, survey: labels.Survey) -> tuple[Description, str]:
  """The description with classes, and where they are from."""
  if given.classes and (given.colors or not survey.has_colors):
    return given, f'Classes from {given.source}.'
  values = [value for value in survey.values if survey.has_colors or value not in (*given.ignore, IGNORE, -1)]
  _check_values(root, values, survey.has_colors)
  if survey.has_colors:
    colors = tuple((value >> 16, value >> 8 & 255, value & 255) for value in values)
    names = given.classes if len(given.classes) == len(colors) else ['color_{}_{}_{}'.format(*x) for x in colors]
    given = dataclasses.replace(given, classes=tuple(names), colors=colors)
    origin = 'Guessed: one class for each color in the masks, with made-up names.'
  else:
    try:
      guessed = labels.resolve(root, given, survey)
      of_255 = [guessed.classes.names[int(guessed.numbers[IGNORE])]] if guessed.numbers[IGNORE] != IGNORE else []
      names = guessed.classes.names if of_255 else [f'class_{number}' for number in range(max(values) + 1)]
      given = dataclasses.replace(given, classes=tuple(names), map=dict.fromkeys([IGNORE] * len(of_255), *of_255))
      origin = f'Guessed: {"; ".join(guessed.guesses)}.'
    except UserError:
      if not values:
        raise
      # The labels are not 0, 1, 2 and so on.
      named = {value: f'label_{value}' for value in values}
      given = dataclasses.replace(given, classes=tuple(named.values()), map=named)
      origin = 'Guessed: one class for each label in the masks, with made-up names.'
  return given, origin


def _check_values(root: pathlib.Path, values: Sequence[int], has_colors: bool) -> None:
  what, name = ('colors', labels.rgb) if has_colors else ('labels', str)
  if len(values) > IGNORE or not (has_colors or all(0 <= value < labels.LABELS for value in values)):
    raise UserError(
      f'the masks in {root} have {len(values)} {what} such as {", ".join(map(name, values[:_SHOWN]))}; expected at '
      f'most {IGNORE}{"" if has_colors else f", from 0 to {labels.LABELS - 1}"}: were the masks resized with '
      f'interpolation, or saved in a lossy format (python -m fcn_jax.data inspect {root} shows which)?'
    )


def _class_rows(root: pathlib.Path, given: Description, survey: labels.Survey, masks: int) -> list[str]:
  """The classes, each with the number of masks that it is in."""
  table = labels.resolve(root, given, survey)
  counts = dict.fromkeys(given.classes, 0)
  for value, count in survey.values.items():
    number = table.class_of(value)
    if 0 <= number < len(table.classes):
      name = table.classes.names[number]
      counts[name] = max(counts[name], count)
  return ['classes = [', *(f'  {_text(name)},  # in {n} of {masks} masks' for name, n in counts.items()), ']']


def _ignored(given: Description, survey: labels.Survey) -> list[int]:
  is_there = IGNORE in survey.values and IGNORE not in given.map and not survey.has_colors
  return sorted({*given.ignore, *([IGNORE] if is_there else [])})


def _range(root: pathlib.Path, given: Description, found: layout.Layout, sample, threads: int) -> list[str]:
  """The range of values of images that are not of 8 bits."""
  kind = images.kind_of(root, sampled(found.pairs, SAMPLE))
  if kind.is_plain or kind.dtype == 'uint8':
    return []
  measured, _, _ = images.measured(root, sample, kind.with_range(given.range), threads)
  values = np.reshape(measured.range, (-1, 2)).tolist()
  return ['# For each channel, the values that become 0 and 255, measured on training images.', f'range = {values}']
