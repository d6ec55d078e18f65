"""Canvases: the few fixed sizes that images are padded to."""

import math

import numpy as np


def eval_plan(sizes: np.ndarray, *, batch_size: int, canvases: int) -> list[tuple[tuple, np.ndarray]]:
  """Which pictures share a batch, and its canvas: [((height, width), indices), ...], for all hosts."""
  shapes = sorted(choose_canvases(sizes, canvases), key=math.prod)
  members = {shape: [] for shape in shapes}
  for index, size in enumerate(sizes):
    members[_holding(size, shapes)[0]].append(index)
  plan = []
  for number, shape in enumerate(shapes):
    own = members[shape]
    filled = len(own) - len(own) % batch_size
    own, rest = own[:filled], own[filled:]
    # Pictures that do not fill a batch take places on a larger canvas, where those would be fillers.
    larger = _holding(shape, shapes[number + 1 :])
    if roomy := [other for other in larger if len(rest) <= -len(members[other]) % batch_size]:
      members[roomy[0]] = sorted([*members[roomy[0]], *rest])
    else:
      own = own + rest
    plan += [(shape, np.array(own[i : i + batch_size])) for i in range(0, len(own), batch_size)]
  return plan


def _holding(size, shapes) -> list[tuple[int, int]]:
  """Those of the shapes that a picture of this size fits into."""
  return [shape for shape in shapes if size[0] <= shape[0] and size[1] <= shape[1]]


def choose_canvases(sizes: np.ndarray, limit: int) -> list[tuple[int, int]]:
  """At most `limit` (height, width), multiples of 16, that hold all sizes [N, 2] with little waste.

  Starts with each size rounded up, then merges the two canvases whose union adds the fewest pixels.
  """
  rounded = [tuple(int(-(-n // 16) * 16) for n in size) for size in sizes]
  counts = {canvas: rounded.count(canvas) for canvas in sorted(set(rounded))}
  while len(counts) > limit:
    names = list(counts)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    a, b = min(pairs, key=lambda pair: _waste(*pair, counts))
    union = max(a[0], b[0]), max(a[1], b[1])
    merged = counts.pop(a) + counts.pop(b)
    counts[union] = counts.get(union, 0) + merged
  return list(counts)


def _waste(a, b, counts) -> int:
  union = max(a[0], b[0]) * max(a[1], b[1])
  return sum(counts[canvas] * (union - canvas[0] * canvas[1]) for canvas in (a, b))
