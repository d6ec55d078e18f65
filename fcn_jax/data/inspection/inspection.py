"""Inspects a data set: reads all of it, and collects what is found."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fcn_jax import images
from fcn_jax.data import dataset
from fcn_jax.data.dataset import IGNORE, Classes
from fcn_jax.data.folder import description, labels, layout, mask_files
from fcn_jax.data.folder.layout import Pair
from fcn_jax.data.folder.load import SAMPLE, find, missing, root_of, sampled, split_pairs
from fcn_jax.data.inspection import checks, duplicates, reading, records
from fcn_jax.data.inspection.checks import Finding
from fcn_jax.data.inspection.records import Record
from fcn_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Inspection:
  """What was found in a data set.

  Attributes:
    name: the folder, or the name of the data set.
    findings: errors first.
    records: of all images, split by split.
    splits: number of images by split.
    channels: of each input stream.
    classes: None if they could not be found out.
    counts: pixels of each class in each mask, int64 [N, C]; zeros for masks that cannot be read.
    notes: what was found and guessed, a sentence each.
    view: reads an image for people, uint8 [H, W, 3], and its classes, uint8 [H, W], 255 for pixels without one.
  """

  name: str
  findings: list[Finding]
  records: Sequence[Record] = ()
  splits: dict[str, int] = dataclasses.field(default_factory=dict)
  channels: dict[str, int] = dataclasses.field(default_factory=dict)
  classes: Classes | None = None
  counts: np.ndarray | None = None
  notes: Sequence[str] = ()
  view: Callable[[Record], tuple[np.ndarray, np.ndarray]] | None = None

  def of_level(self, level: str) -> list[Finding]:
    """The errors, or the warnings."""
    return [finding for finding in self.findings if finding.level == level]


def inspect(data: Any, counter: Callable[[int], Callable[[], None]]) -> Inspection:
  """Reads and checks all images and masks of a data set.

  Args:
    data: the section `data` of a config.
    counter: gets the number of images, and returns what is called after each.

  Raises:
    UserError: there is no such folder or data set. Faults of a folder are findings.
  """
  return _folder(data, counter) if data.name == 'folder' else _other(data, counter)


def _folder(data, counter) -> Inspection:
  root = root_of(data)
  check = 'description'
  try:
    given = description.read(root)
    check = 'layout'
    given, found = find(root, given)
    check = 'splits'
    splits, note = split_pairs(found, data)
  except UserError as error:
    return Inspection(str(root), [Finding('ids' if error.files else check, str(error), tuple(error.files))])
  of_all = reading.of_folder(root, splits, counter(sum(map(len, splits.values()))))
  findings = checks.of_partners(missing(found)) + checks.of_files(of_all)
  of_kinds, kind = checks.of_kinds(of_all)
  try:
    kind = kind and kind.with_range(data.range or given.range)
  except UserError as error:
    findings.append(Finding('description', str(error)))
  of_mask_kinds, with_mask = checks.of_mask_kinds(of_all)
  resized = checks.interpolated(with_mask)
  of_table, table = _table(root, given, found, with_mask, data)
  findings += of_kinds + of_mask_kinds + of_table + checks.of_labels(with_mask, table, resized)
  findings += checks.of_sizes(of_all, data.resize)
  notes = [f'{found.kind}; splits: {note}'] + [f'guessed: {guess}' for guess in (table.guesses if table else ())]

  def view(record: Record) -> tuple[np.ndarray, np.ndarray]:
    if not record.kind:
      raise UserError(record.image_fault)
    shown = records.preview(record.kind, [root / path for path in record.files[:-1]])
    return shown, _classes(table, root / record.files[-1], shown.shape[:2])

  channels = {kind.stream: kind.channels} if kind else {}
  return _whole(Inspection(str(root), findings, of_all, _sizes(of_all), channels, notes=notes, view=view), table)


def _classes(table: labels.Labels | None, path: pathlib.Path, size: tuple[int, ...]) -> np.ndarray:
  try:
    found = table.lookup(mask_files.read_raw(path))[0] if table else np.full(size, IGNORE)
  except UserError:  # which is a finding
    found = np.full(size, IGNORE)
  return np.where(found < 0, IGNORE, found).astype(np.uint8)


def _table(root, given, found: layout.Layout, with_mask: Sequence[Record], data):
  """Findings about the classes, and how labels become classes; as training guesses it, from the same masks."""
  sample: list[Pair] = sampled(found.pairs, SAMPLE)
  masks = {pair.mask for pair in sample}
  surveyed = [r for r in with_mask if r.files[-1] in masks]
  resized, solid = checks.interpolated(surveyed), set()
  for r in surveyed:
    solid |= {value for value in r.values.tolist() if r not in resized or value not in r.between}
  values = [[value for value in r.values.tolist() if value in solid] for r in surveyed]
  if not surveyed:
    return [], None  # each mask has a finding
  try:
    survey = labels.surveyed(values, surveyed[0].has_colors, root / surveyed[0].files[-1], given.colors)
    return [], labels.resolve(root, given, survey, data.classes)
  except UserError as error:
    largest = max(solid, default=0)
    files = tuple(r.files[-1] for r in surveyed if surveyed[0].has_colors or largest in r.values)
    return [Finding('classes', str(error), files)], None


def _other(data, counter) -> Inspection:
  loaded = dataset.load(data)
  head, classes = next(iter(loaded.heads.items()))
  try:
    for split in loaded.splits.values():
      split.ids()
  except UserError as error:
    return Inspection(data.name, [Finding('ids', str(error))])
  total = sum(map(len, loaded.splits.values()))
  of_all = reading.of_splits(loaded.splits, head, data.threads, counter(total))
  places = {(name, x): index for name, split in loaded.splits.items() for index, x in enumerate(split.ids())}
  numbers = np.full(2**16, -1, np.int16)
  numbers[: len(classes)], numbers[IGNORE] = range(len(classes)), IGNORE
  table = labels.Labels(classes, numbers, None, ())
  findings = checks.of_files(of_all) + checks.of_sizes(of_all, data.get('resize'))
  with_mask = [r for r in of_all if r.mask_size]
  findings += checks.of_labels(with_mask, table, checks.interpolated(with_mask))

  def view(record: Record) -> tuple[np.ndarray, np.ndarray]:
    example = loaded.splits[record.split][places[record.split, record.id]]
    return images.viewable(example['inputs']), example['labels'][head]

  notes = [f'labels of the head {head}'] if len(loaded.heads) > 1 else []
  return _whole(Inspection(data.name, findings, of_all, _sizes(of_all), loaded.inputs, notes=notes, view=view), table)


def _sizes(of_all: Sequence[Record]) -> dict[str, int]:
  return dict(collections.Counter(r.split for r in of_all))


def _whole(found: Inspection, table: labels.Labels | None) -> Inspection:
  """The same with what follows from the classes, and with duplicates."""
  findings, counts = found.findings + duplicates.findings(found.records), None
  if table:
    counts = checks.class_counts(found.records, table)
    is_read = np.array([bool(r.mask_size) for r in found.records])
    readable = [r for r in found.records if r.mask_size]
    if readable:
      findings += checks.of_classes(readable, counts[is_read], table.classes)
  findings.sort(key=lambda finding: finding.level)
  return dataclasses.replace(found, findings=findings, classes=table.classes if table else None, counts=counts)
