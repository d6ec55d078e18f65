"""From prepared data to batches: a pure function of (seed, step, host), with no iterator state to store.

A batch is a dict of numpy arrays: `inputs`, uint8 [B, H, W, C] by stream; `labels`, uint8 [B, H, W] by head, with 255
for pixels to ignore; `size`, int32 [B, 2], the height and width of each image in the top left of its canvas. Inputs are
normalized in the network.
"""

from collections.abc import Iterator

import grain
import numpy as np

from fcn_jax.data.augment import augment, on_canvas
from fcn_jax.data.canvases import eval_plan
from fcn_jax.data.dataset import IGNORE, Split


def train_batches(
  split: Split, data, *, batch_size: int, seed: int, step: int = 0, host: int = 0, hosts: int = 1
) -> Iterator[dict]:
  """This host's part of the batches of step, step + 1, ..., without end.

  Each epoch is a new permutation, unless `data.with_replacement`. The batch of a step contains the same images on any
  number of hosts.

  Args:
    split: the images to train on.
    data: the section `data` of the config.
    batch_size: over all hosts; a multiple of their number.
    seed: of the order and the augmentation.
    step: the first step.
    host: index of this host.
    hosts: number of hosts.
  """

  def example(index, rng):
    return augment(split[int(rng.integers(len(split)) if data.with_replacement else index)], rng, data)

  dataset = grain.MapDataset.range(len(split)).seed(seed).shuffle().repeat().random_map(example)
  dataset = dataset[host::hosts].batch(batch_size // hosts, drop_remainder=True)[step:]
  return _read(dataset, data.threads, ahead=16)


def eval_batches(
  split: Split, *, batch_size: int, canvases: int, threads: int, host: int = 0, hosts: int = 1
) -> Iterator[dict]:
  """This host's part of all images, each once, at its original size, on one of a few canvases.

  A batch also has `index`, int [B], the index of each image in `split`, or -1 for a filler. Fillers complete the last
  batch of a canvas or of a host: their size is 1x1, and all their labels are 255. All hosts get the same number of
  batches of each shape.

  Args:
    split: the images.
    batch_size: over all hosts; a multiple of their number.
    canvases: the largest number of canvases.
    threads: number of threads that decode.
    host: index of this host.
    hosts: number of hosts.
  """
  plan = eval_plan(split.sizes(), batch_size=batch_size, canvases=canvases)

  def placed(index: int, canvas: tuple[int, int]) -> dict:
    example = split[index]
    return on_canvas(example['inputs'], example['labels'], canvas) | {'index': np.array(index)}

  def batch(number: int) -> dict:
    canvas, indices = plan[number]
    examples = [placed(int(i), canvas) for i in indices[host::hosts]]
    if missing := batch_size // hosts - len(examples):
      like = split[int(indices[0])]
      blank = {stream: np.zeros((1, 1, x.shape[-1]), np.uint8) for stream, x in like['inputs'].items()}
      ignored = {head: np.full((1, 1), IGNORE, np.uint8) for head in like['labels']}
      examples += [on_canvas(blank, ignored, canvas) | {'index': np.array(-1)}] * missing  # the fillers
    return _stacked(examples)

  return _read(grain.MapDataset.range(len(plan)).map(batch), threads, ahead=2)


def _stacked(values: list):
  """A list of arrays, or of equal dicts of them, as one array or dict of arrays [len(values), ...]."""
  if isinstance(values[0], dict):
    return {name: _stacked([value[name] for value in values]) for name in values[0]}
  return np.stack(values)


def _read(dataset: grain.MapDataset, threads: int, ahead: int) -> Iterator[dict]:
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(ahead, threads))
  return iter(dataset.to_iter_dataset(options))
