"""Canvases: the few fixed sizes that images are padded to, so that few shapes are compiled."""

import itertools
import math

import numpy as np

from fcn_jax.data.dataset import Split


def eval_plan(sizes: np.ndarray, *, batch_size: int, canvases: int) -> list[tuple[tuple[int, int], np.ndarray]]:
  """Which images share a batch, on which canvas, for all hosts together.

  Args:
    sizes: height and width of each image, int [N, 2].
    batch_size: the largest number of images in a batch.
    canvases: the largest number of canvases.

  Returns:
    For each batch, the height and width of its canvas and the indices of its images.
  """
  shapes = sorted(choose_canvases(sizes, canvases), key=math.prod)
  members: dict[tuple[int, int], list[int]] = {shape: [] for shape in shapes}
  for index, size in enumerate(sizes):
    members[_large_enough(size, shapes)[0]].append(index)
  plan = []
  for number, shape in enumerate(shapes):
    indices = members[shape]
    full = len(indices) - len(indices) % batch_size
    rest = indices[full:]
    # Images that do not fill a batch replace fillers on a larger canvas, if it has enough fillers.
    larger = _large_enough(shape, shapes[number + 1 :])
    if roomy := [other for other in larger if len(rest) <= -len(members[other]) % batch_size]:
      members[roomy[0]] = sorted([*members[roomy[0]], *rest])
      indices = indices[:full]
    plan += [(shape, np.array(indices[i : i + batch_size])) for i in range(0, len(indices), batch_size)]
  return plan


def _large_enough(size, shapes) -> list[tuple[int, int]]:
  return [shape for shape in shapes if size[0] <= shape[0] and size[1] <= shape[1]]


def own_images(split: Split, *, batch_size: int, canvases: int, host: int, hosts: int) -> list[int]:
  """The sorted indices of the images that `pipeline.eval_batches` gives to a host."""
  plan = eval_plan(split.sizes(), batch_size=batch_size, canvases=canvases)
  return sorted(int(i) for _, indices in plan for i in indices[host::hosts])


def choose_canvases(sizes: np.ndarray, limit: int) -> list[tuple[int, int]]:
  """At most `limit` canvases (height, width), multiples of 16, that hold images of all sizes [N, 2] with little waste.

  Starts with each size rounded up, then repeatedly merges the two canvases whose union adds the fewest pixels.
  """
  rounded = [tuple(int(-(-n // 16) * 16) for n in size) for size in sizes]
  counts = {canvas: rounded.count(canvas) for canvas in sorted(set(rounded))}
  while len(counts) > limit:
    a, b = min(itertools.combinations(counts, 2), key=lambda pair: _waste(*pair, counts))
    union = max(a[0], b[0]), max(a[1], b[1])
    counts[union] = counts.pop(a) + counts.pop(b) + counts.get(union, 0)
  return list(counts)


def _waste(a, b, counts) -> int:
  union = max(a[0], b[0]) * max(a[1], b[1])
  return sum(counts[canvas] * (union - canvas[0] * canvas[1]) for canvas in (a, b))
