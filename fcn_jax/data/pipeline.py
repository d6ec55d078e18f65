"""From prepared data to batches: a pure function of (seed, step, host), with no iterator state to store.

Batches are dicts of numpy arrays: image uint8 [B, H, W, 3] RGB, label uint8 [B, H, W] with 255 = ignore, size int32
[B, 2], the height and width of each picture in the top left of its canvas. They are normalised on the device.
"""

from collections.abc import Iterator

import grain
import numpy as np

from fcn_jax.data.augment import augment, on_canvas
from fcn_jax.data.canvases import eval_plan
from fcn_jax.data.dataset import IGNORE, Pictures


def train_batches(
  pictures: Pictures,
  data,
  *,
  batch_size: int,
  seed: int,
  step: int = 0,
  host: int = 0,
  hosts: int = 1,
) -> Iterator[dict]:
  """This host's part of the batches of step, step + 1, ..., without end.

  Each epoch is a new permutation, unless `data.with_replacement`. The batch of a step holds the same pictures on any number
  of hosts.

  Args:
    batch_size: of all hosts together.
    data: the section `data` of the config.
  """

  def example(index, rng):
    picture = pictures[rng.integers(len(pictures)) if data.with_replacement else index]
    return augment(picture['image'], picture['label'], rng, data)

  dataset = grain.MapDataset.range(len(pictures)).seed(seed).shuffle().repeat().random_map(example)
  dataset = dataset[host::hosts].batch(batch_size // hosts, drop_remainder=True)[step:]
  return iter(dataset.to_iter_dataset(_read_options(data)))


def eval_batches(
  pictures: Pictures, data, *, batch_size: int, canvases: int, host: int = 0, hosts: int = 1
) -> Iterator[dict]:
  """Every picture once, at its own size, on one of a few canvases; this host's part.

  A batch also holds index int [B], the place in `pictures`, -1 for a filler, which fills up the last batch of a canvas
  or of a host: a picture of size 1x1, all of it labelled 255. All hosts get equally many batches of each shape.
  """
  plan = eval_plan(pictures.sizes(), batch_size=batch_size, canvases=canvases)

  def filler(canvas):
    blank = np.zeros((1, 1, 3), np.uint8), np.full((1, 1), IGNORE, np.uint8)
    return on_canvas(*blank, canvas) | {'index': np.array(-1)}

  def batch(number):
    canvas, indices = plan[number]
    own = indices[host::hosts]
    examples = [on_canvas(pictures[i]['image'], pictures[i]['label'], canvas) | {'index': np.array(i)} for i in own]
    examples += [filler(canvas)] * (batch_size // hosts - len(own))
    return {name: np.stack([e[name] for e in examples]) for name in examples[0]}

  dataset = grain.MapDataset.range(len(plan)).map(batch)
  return iter(dataset.to_iter_dataset(_read_options(data, ahead=2)))


def own_pictures(pictures: Pictures, *, batch_size: int, canvases: int, host: int, hosts: int) -> list[int]:
  """The places of the pictures that `eval_batches` gives to a host, in order."""
  plan = eval_plan(pictures.sizes(), batch_size=batch_size, canvases=canvases)
  return sorted(int(i) for _, indices in plan for i in indices[host::hosts])


def _read_options(data, ahead: int = 16) -> grain.ReadOptions:
  return grain.ReadOptions(num_threads=data.threads, prefetch_buffer_size=max(ahead, data.threads))
