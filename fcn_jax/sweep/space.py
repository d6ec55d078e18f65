"""Sweeps as data: lists of points, each a flat dict of the settings that it changes.

  product(axis('model.stride', [32, 16, 8]), axis('seed', [0, 1, 2]))   # nine points

Fields are checked when a sweep is run (`points.py`).
"""

import itertools


def axis(field: str, values) -> list[dict]:
  """One point a value of one setting, as `model.stride`."""
  return [{field: value} for value in values]


def product(*sweeps: list[dict]) -> list[dict]:
  """Every point of the first with every point of the second, and so on; the last varies fastest."""
  return [_merged(points) for points in itertools.product(*sweeps)]


def chain(*sweeps: list[dict]) -> list[dict]:
  """The points of one after those of the other."""
  return list(itertools.chain(*sweeps))


def zipped(*sweeps: list[dict]) -> list[dict]:
  """The first points together, the second points together, ...; `ValueError` where one has more than another."""
  return [_merged(points) for points in zip(*sweeps, strict=True)]


def name(point: dict) -> str:
  """The name of a point's run, what it changes: `stride=16,upsample=bilinear_fixed,seed=0`.

  A setting goes by the last part of its name, unless two of them share it. In values + stands for what would not
  do in the name of a folder.
  """
  last = [field.rpartition('.')[2] for field in point]
  short = {field: part if last.count(part) == 1 else field for field, part in zip(point, last, strict=True)}
  return ','.join(f'{short[field]}={_text(value)}' for field, value in point.items())


def _text(value) -> str:
  text = '+'.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
  return text.replace('/', '+').replace(',', '+')


def _merged(points) -> dict:
  merged = {}
  for point in points:
    if twice := merged.keys() & point.keys():
      raise ValueError(f'{", ".join(sorted(twice))} is set twice in one point of the sweep')
    merged |= point
  return merged
