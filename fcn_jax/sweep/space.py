"""A sweep is data: a list of points, each a flat dict of the settings that it changes.

  product(axis('model.stride', [32, 16, 8]), axis('seed', [0, 1, 2]))   # nine points

The settings are checked when the sweep is read (`points.py`).
"""

import itertools
from collections.abc import Iterable


def axis(field: str, values: Iterable) -> list[dict]:
  """One point per value of one setting, for example `model.stride`."""
  return [{field: value} for value in values]


def product(*sweeps: list[dict]) -> list[dict]:
  """Every combination of one point from each sweep; the last sweep varies fastest."""
  return [_merged(points) for points in itertools.product(*sweeps)]


def chain(*sweeps: list[dict]) -> list[dict]:
  """The points of all sweeps, in order."""
  return list(itertools.chain(*sweeps))


def zipped(*sweeps: list[dict]) -> list[dict]:
  """Merges the first points of all sweeps, then the second points, and so on.

  Raises:
    ValueError: the sweeps differ in length.
  """
  return [_merged(points) for points in zip(*sweeps, strict=True)]


def name(point: dict) -> str:
  """The name of a point's run: the settings that it changes, `stride=16,upsample=bilinear_fixed,seed=0`.

  A setting is shortened to the last part of its name unless two settings share that part. In values, + replaces
  characters that a folder name cannot contain.
  """
  last = [field.rpartition('.')[2] for field in point]
  short = {field: part if last.count(part) == 1 else field for field, part in zip(point, last, strict=True)}
  return ','.join(f'{short[field]}={_text(value)}' for field, value in point.items())


def _text(value) -> str:
  text = '+'.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
  return text.replace('/', '+').replace(',', '+')


def _merged(points: Iterable[dict]) -> dict:
  merged = {}
  for point in points:
    if twice := merged.keys() & point.keys():
      raise ValueError(f'{", ".join(sorted(twice))} is set twice in one point of the sweep')
    merged |= point
  return merged
