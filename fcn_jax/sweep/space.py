"""A sweep is data: a list of points, each a flat dict of the settings that it changes.

  product(axis('model.stride', [32, 16, 8]), axis('seed', [0, 1, 2]))   # nine points

The settings are checked when the sweep is read (`points.py`).
"""

import hashlib
import itertools
import json
from collections.abc import Iterable

_MOST_BYTES = 200  # of a name: file systems allow 255, and programs that pack or copy a run add to names


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
  """The name of a point's run and its folder: its settings, or, beyond 200 bytes, their beginning and a hash."""
  whole = settings(point)
  if len(whole.encode()) <= _MOST_BYTES:
    return whole
  end = '~' + hashlib.sha256(json.dumps(point, default=str).encode()).hexdigest()[:12]
  return whole.encode()[: _MOST_BYTES - len(end)].decode(errors='ignore') + end


def settings(point: dict) -> str:
  """All settings of a point in one line, `stride=16,upsample=bilinear_fixed,seed=0`; `unchanged` if there are none.

  A setting is shortened to the last part of its name unless two settings share that part. In values, + replaces what a
  folder name cannot contain, and characters that cannot be printed.
  """
  last = [_last(field) for field in point]
  short = {field: part if last.count(part) == 1 else field for field, part in zip(point, last, strict=True)}
  return ','.join(f'{short[field]}={_text(value)}' for field, value in point.items()) or 'unchanged'


def selects(wanted: str, point: dict) -> bool:
  """Whether a point has all settings of a text like 'stride=8,data.scale=0.5+2.0'.

  Args:
    wanted: settings joined by commas. The name of each is dotted or only its last part; its value is written as by
      `settings`, or as on a command line.
    point: the settings that a run changes.
  """
  if not wanted:
    return True
  forms = {
    f'{label}={text}'
    for field, value in point.items()
    for label in (field, _last(field))
    for text in (_text(value), as_flag(value))
  }
  # A value may contain commas, so the text cannot be divided without the point.
  return wanted in forms or any(
    wanted.startswith(f'{form},') and selects(wanted[len(form) + 1 :].lstrip(), point) for form in forms
  )


def as_flag(value) -> str:
  """A value as it follows `--config.x=` on a command line."""
  if not isinstance(value, list | tuple):
    return str(value)
  numbers = value and not any(isinstance(item, str) for item in value)
  return ','.join(map(str, value)) if numbers else str(tuple(value))


def _last(field: str) -> str:
  return field.rpartition('.')[2]


def _text(value) -> str:
  text = '+'.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
  return ''.join(letter if letter.isprintable() and letter not in '/,' else '+' for letter in text)


def _merged(points: Iterable[dict]) -> dict:
  merged = {}
  for point in points:
    if twice := merged.keys() & point.keys():
      raise ValueError(f'{", ".join(sorted(twice))} is set twice in one point of the sweep')
    merged |= point
  return merged
