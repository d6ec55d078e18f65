"""An inspection as rows of tables, as sentences, and as JSON."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fcn_jax.data.inspection.inspection import Inspection
from fcn_jax.data.inspection.suggestions import Suggestion

SPLITS = ('split', 'images', 'height', 'width', 'image', 'mask')
_MOST_FORMS = 3  # in a cell


def splits(found: Inspection) -> list[list[str]]:
  """Rows of the table `SPLITS`: number and sizes of the images, their channels and depth, and the type of the masks."""
  rows = []
  for name, count in found.splits.items():
    of_split = [r for r in found.records if r.split == name]
    sizes = np.array([r.size for r in of_split if r.size])
    lengths = [_range(x) for x in sizes.T] if len(sizes) else ['', '']
    forms = [_frequent(r.form for r in of_split), _frequent(r.mask_form for r in of_split)]
    rows.append([name, str(count), *lengths, *forms])
  return rows


def _range(lengths: np.ndarray) -> str:
  low, high = lengths.min(), lengths.max()
  return str(low) if low == high else f'{low} to {high}, median {np.median(lengths):.0f}'


def _frequent(forms) -> str:
  counts = collections.Counter(filter(None, forms)).most_common()
  listed = [form if len(counts) == 1 else f'{form} ({count})' for form, count in counts[:_MOST_FORMS]]
  return ', '.join(listed) + (', ...' if len(counts) > _MOST_FORMS else '')


def classes(found: Inspection) -> tuple[list[str], list[list[str]]]:
  """Heads and rows of the table of classes: by split, the share of the labeled pixels and of the images."""
  heads = ['class', *(f'{name}: {what}' for name in found.splits for what in ('pixels', 'images'))]
  if found.classes is None or found.counts is None:
    return heads, []
  rows = [[name] for name in found.classes.names]
  for split in found.splits:
    counts = found.counts[[r.split == split for r in found.records]]
    of_pixels, of_images = counts.sum(0) / max(1, counts.sum()), (counts > 0).mean(0)
    for row, x, y in zip(rows, of_pixels, of_images, strict=True):
      row += [_percent(x), _percent(y)]
  return heads, rows


def _percent(share: float) -> str:
  return f'{100 * share:.2f} %'


def skips_gain(bounds: Mapping[int, float]) -> str:
  """What skips can gain, from the upper bounds of mean IoU by stride; '' without those of strides 32 and 8."""
  if not {32, 8} <= bounds.keys():
    return ''
  gain = 100 * (bounds[8] - bounds[32])
  return (
    f'skips can gain at most {gain:.1f} points of mean IoU: the upper bound is {100 * bounds[32]:.1f} % at stride 32, '
    f'{100 * bounds[8]:.1f} % at stride 8'
  )


def as_json(found: Inspection, bounds: Mapping[int, float], suggested: Sequence[Suggestion]) -> dict[str, Any]:
  """The object that `--json` prints."""

  def listed(level: str) -> list[dict]:
    return [{'check': x.check, 'message': x.message, 'files': list(x.files)} for x in found.of_level(level)]

  return {
    'splits': found.splits,
    'classes': list(found.classes.names) if found.classes else [],
    'channels': sum(found.channels.values()),
    'errors': listed('error'),
    'warnings': listed('warning'),
    'upper_bounds': {str(stride): bound for stride, bound in bounds.items()},
    'suggested': [{'setting': x.setting, 'value': x.value, 'flag': x.flag, 'reason': x.reason} for x in suggested],
  }
