"""Canvases: the few fixed sizes that images are padded to, so that few shapes are compiled."""

import math

import numpy as np

from fcn_jax.data.dataset import Split

_MOST = 256  # sizes that are compared in pairs; more are first grouped by their position on a logarithmic scale


def eval_plan(sizes: np.ndarray, *, batch_size: int, canvases: int) -> list[tuple[tuple[int, int], np.ndarray]]:
  """Which images share a batch, on which canvas, for all hosts together.

  Args:
    sizes: height and width of each image, int [N, 2].
    batch_size: the largest number of images in a batch.
    canvases: the largest number of canvases.

  Returns:
    For each batch, the height and width of its canvas and the indices of its images.
  """
  members = _assigned(sizes, choose_canvases(sizes, canvases))
  shapes, plan = list(members), []
  for number, shape in enumerate(shapes):
    indices = members[shape]
    full = len(indices) - len(indices) % batch_size
    rest = indices[full:]
    # Images that do not fill a batch replace fillers on a larger canvas, if it has enough fillers.
    larger = [other for other in shapes[number + 1 :] if shape[0] <= other[0] and shape[1] <= other[1]]
    if roomy := [other for other in larger if len(rest) <= -len(members[other]) % batch_size]:
      members[roomy[0]] = sorted([*members[roomy[0]], *rest])
      indices = indices[:full]
    plan += [(shape, np.array(indices[i : i + batch_size])) for i in range(0, len(indices), batch_size)]
  return plan


def label_canvases(plan: list[tuple[tuple[int, int], np.ndarray]], sizes: np.ndarray) -> dict[tuple[int, int], tuple]:
  """The canvas for labels of other sizes [N, 2] than the images, by canvas of `eval_plan`: one that holds them all."""
  largest: dict[tuple[int, int], np.ndarray] = {}
  for canvas, indices in plan:
    largest[canvas] = np.maximum(largest.get(canvas, 0), rounded(sizes[indices]).max(0))
  return {canvas: tuple(size.tolist()) for canvas, size in largest.items()}


def own_images(split: Split, *, batch_size: int, canvases: int, host: int, hosts: int) -> list[int]:
  """The sorted indices of the images that `pipeline.eval_batches` gives to a host."""
  plan = eval_plan(split.sizes(), batch_size=batch_size, canvases=canvases)
  return sorted(int(i) for _, indices in plan for i in indices[host::hosts])


def predict_plan(
  sizes: np.ndarray, *, batch_pixels: int, canvases: int, compile_pixels: float
) -> list[tuple[tuple[int, int], int, np.ndarray]]:
  """Which images share a batch, on which canvas, so that images together cost no more than each alone.

  Args:
    sizes: height and width of each image, int [N, 2].
    batch_pixels: the largest total of the canvases of a batch; a larger image is a batch by itself.
    canvases: the number of canvases below which none are merged to save a compilation.
    compile_pixels: the number of pixels that cost as much as a compilation. Canvases are merged only if the padding
      costs less, so there may be more than `canvases` of them. None becomes larger than the largest image or a batch.

  Returns:
    From the smallest canvas to the largest, for each batch: the height and width of the canvas, the number of images
    that the program is compiled for, and the indices of at most as many images. A canvas has one such number.
  """
  plan = []
  for shape, indices in _assigned(sizes, choose_canvases(sizes, canvases, compile_pixels, batch_pixels)).items():
    most = max(1, batch_pixels // math.prod(shape))
    count = -(-len(indices) // -(-len(indices) // most))  # batches of equal sizes, so that one program is enough
    plan += [(shape, count, np.array(indices[i : i + count])) for i in range(0, len(indices), count)]
  return plan


def _assigned(sizes: np.ndarray, canvases: list[tuple[int, int]]) -> dict[tuple[int, int], list[int]]:
  """The indices of the images on each canvas, the smallest that holds them; canvases from small to large."""
  shapes = sorted(canvases, key=math.prod)
  heights, widths = np.array(shapes).reshape(-1, 2).T
  members: dict[tuple[int, int], list[int]] = {shape: [] for shape in shapes}
  for index, (height, width) in enumerate(sizes):
    members[shapes[int(((heights >= height) & (widths >= width)).argmax())]].append(index)
  return members


def rounded(sizes: np.ndarray) -> np.ndarray:
  """Sizes [N, 2], rounded up to multiples of 16."""
  return -(-np.asarray(sizes, np.int64).reshape(-1, 2) // 16) * 16


def choose_canvases(
  sizes: np.ndarray, limit: int, compile_pixels: float = math.inf, batch_pixels: float = math.inf
) -> list[tuple[int, int]]:
  """Canvases (height, width), multiples of 16, that hold images of all sizes [N, 2] with little waste.

  Starts with each size rounded up, then repeatedly merges the two canvases whose union adds the fewest pixels.

  Args:
    sizes: height and width of each image.
    limit: merging ends as soon as there are at most `limit` canvases.
    compile_pixels: merging also ends if it would add at least as many pixels.
    batch_pixels: a merged canvas has at most as many pixels, or as many as the largest image.
  """
  shapes, counts = np.unique(rounded(sizes), axis=0, return_counts=True)
  largest = max(batch_pixels, shapes.prod(1).max(initial=0))
  steps = 16.0  # groups per doubling of a side
  while len(shapes) > max(_MOST, limit) and steps > 1 / 16:
    shapes, counts = _grouped(shapes, counts, steps, compile_pixels, largest)
    steps /= 2
  if limit < len(shapes) <= _MOST:
    shapes = _merged(shapes, counts, limit, compile_pixels, largest)
  return [(int(height), int(width)) for height, width in shapes]


def _merged(shapes, counts, limit: int, compile_pixels: float, largest: float):
  """Merges one pair after the other: of the pairs that add the fewest pixels, the first in the order of `shapes`."""
  waste = _waste(shapes[:, None], counts[:, None], shapes, counts, largest)
  waste[np.tril_indices(len(shapes))] = np.inf  # each pair once, in the row of its first member
  while len(shapes) > limit:
    pair = np.unravel_index(waste.argmin(), waste.shape)
    if waste[pair] >= compile_pixels:
      break
    union, count = shapes[list(pair)].max(0), counts[list(pair)].sum()
    shapes, counts = np.delete(shapes, pair, 0), np.delete(counts, pair)
    waste = np.delete(np.delete(waste, pair, 0), pair, 1)
    if (same := (shapes == union).all(1)).any():
      at = int(same.argmax())
      counts[at] += count
    else:
      at = len(shapes)
      shapes, counts = np.vstack([shapes, union]), np.append(counts, count)
      waste = np.pad(waste, (0, 1), constant_values=np.inf)
    row = _waste(union, counts[at], shapes, counts, largest)
    waste[:at, at], waste[at, at + 1 :] = row[:at], row[at + 1 :]
  return shapes


def _waste(shape, count, shapes, counts, largest: float):
  """The pixels that are added if `count` images on canvases `shape` share canvases with others."""
  union = np.maximum(shape, shapes).prod(-1)
  added = count * (union - shape.prod(-1)) + counts * (union - shapes.prod(-1))
  return np.where(union > largest, np.inf, added)


def _grouped(shapes, counts, steps: float, compile_pixels: float, largest: float):
  """Merges the canvases in each cell of a logarithmic grid, if the compilations that this saves cost more."""
  cells, cell = np.unique(np.floor(np.log2(shapes) * steps), axis=0, return_inverse=True)
  cell, unions, totals = cell.ravel(), np.zeros((len(cells), 2), np.int64), np.zeros(len(cells), np.int64)
  np.maximum.at(unions, cell, shapes)
  np.add.at(totals, cell, counts)
  areas = unions.prod(1)
  waste = areas * totals - np.bincount(cell, counts * shapes.prod(1), len(cells))
  saved = np.bincount(cell, minlength=len(cells)) - 1
  merged = (areas <= largest) & ((saved == 0) | (waste < compile_pixels * np.maximum(saved, 1)))
  kept = ~merged[cell]
  shapes = np.vstack([unions[merged], shapes[kept]])
  found, same = np.unique(shapes, axis=0, return_inverse=True)  # a union may be equal to a canvas that is kept
  counts = np.bincount(same.ravel(), np.append(totals[merged], counts[kept]), len(found))
  return found, counts.astype(np.int64)
