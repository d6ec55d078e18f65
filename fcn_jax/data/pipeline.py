"""From prepared data to batches: a pure function of (seed, step, host), with no iterator state to store.

A batch is a dict of numpy arrays: `inputs`, uint8 [B, H, W, C] by stream; `labels`, uint8 [B, H, W] by head, with 255
for pixels to ignore; `size`, int32 [B, 2], the height and width of each image in the top left of its canvas. Inputs are
normalized in the network.
"""

import sys
import types
from collections.abc import Callable, Iterable, Iterator

import grain
import numpy as np

from fcn_jax.data import augment, outside_augment
from fcn_jax.data.augment import on_canvas
from fcn_jax.data.buffers import Buffers
from fcn_jax.data.canvases import eval_plan, label_canvases
from fcn_jax.data.dataset import IGNORE, Example, Split
from fcn_jax.data.draws import draw
from fcn_jax.data.windows import Windows

# If no image has to be decoded, by whether the device augments. More threads are slower: they wait for Python's lock.
_MOST_THREADS = {False: 4, True: 1}


def train_batches(
  split: Split, data, *, batch_size: int, seed: int, step: int = 0, host: int = 0, hosts: int = 1
) -> Iterator[dict]:
  """This host's part of the batches of step, step + 1, ..., without end.

  Each epoch is a new permutation, unless `data.with_replacement`. The batch of a step contains the same images on any
  number of hosts. The memory of a batch is used again once nothing refers to its arrays.

  Args:
    split: the images to train on.
    data: the section `data` of the config. If `data.augment_on` is 'device', the batches are the arguments of
      `device_augment.augmented`, which makes the same batches of them as the host does otherwise.
    batch_size: over all hosts; a multiple of their number.
    seed: of the order and the augmentation.
    step: the first step.
    host: index of this host.
    hosts: number of hosts.
  """
  order = grain.MapDataset.range(len(split)).seed(seed).shuffle().repeat()
  make = _maker(split, types.SimpleNamespace(**data), batch_size // hosts)  # a config takes microseconds per setting
  with_replacement, change = data.with_replacement, outside_augment.function(data.augment)

  def drawn(position: int, rng: np.random.Generator) -> tuple[Example, np.random.Generator]:
    return change(split[int(rng.integers(len(split)) if with_replacement else order[position])], rng), rng

  def batch(number: int) -> dict:
    positions = range(number * batch_size + host, (number + 1) * batch_size, hosts)
    return make(map(drawn, positions, _generators(seed, positions)))

  threads, ahead = data.threads, 16
  if getattr(split, 'is_decoded', False):
    threads, ahead = min(threads, _MOST_THREADS[data.augment_on == 'device']), 4
  return _read(grain.MapDataset.range(step, sys.maxsize // batch_size).map(batch), threads, ahead)


def _generators(seed: int, positions: Iterable[int]) -> Iterator[np.random.Generator]:
  """A source of randomness for each position in the order of training images, valid until the next one is taken.

  They are those of grain's `random_map`, which made batches in earlier versions: a seed gives the same numbers.
  """
  bits = np.random.Philox(int(np.random.SeedSequence((seed, 3)).generate_state(1)[0]))
  generator, state = np.random.Generator(bits), bits.state
  for position in positions:  # another counter takes a fifth of the time of another generator
    state['state']['counter'] = np.array((0, 0, 0, position), np.uint64)
    bits.state = state
    yield generator


def _maker(split: Split, data, count: int) -> Callable[[Iterable[tuple[Example, np.random.Generator]]], dict]:
  """A function from `count` examples and sources of randomness to a batch."""
  like = split[0]
  windows = Windows(split.sizes(), data) if data.augment_on == 'device' else None
  canvas = windows.canvas if windows else tuple(data.train_size)
  buffers = Buffers(
    {
      'inputs': {stream: (count, *canvas, x.shape[-1]) for stream, x in like['inputs'].items()},
      'labels': dict.fromkeys(like['labels'], (count, *canvas)),
    }
  )

  def make(examples: Iterable[tuple[Example, np.random.Generator]]) -> dict:
    batch, made = buffers.take(), []
    for number, (example, rng) in enumerate(examples):
      into = [{name: x[number] for name, x in batch[part].items()} for part in ('inputs', 'labels')]
      draws = draw(example, rng, data)
      if windows:
        made.append(windows.place(example, draws, into))
      else:
        made.append(augment.place(augment.applied(example, draws), into))
    return batch | ({'draws': windows.for_device(made)} if windows else {'size': np.array(made, np.int32)})

  return make


def eval_batches(
  split: Split, *, batch_size: int, canvases: int, threads: int, host: int = 0, hosts: int = 1
) -> Iterator[dict]:
  """This host's part of all images, each once, without augmentation, on one of a few canvases.

  If the split has `label_sizes` (`bands.WithBands`), labels are on canvases of their own, and the batch has
  `label_size`, int32 [B, 2], their heights and widths.

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
  label_sizes = split.label_sizes() if hasattr(split, 'label_sizes') else None
  of_labels = {} if label_sizes is None else label_canvases(plan, label_sizes)

  def placed(inputs: dict, labels: dict, canvas: tuple[int, int], index: int) -> dict:
    if not of_labels:
      return on_canvas(inputs, labels, canvas) | {'index': np.array(index)}
    result, of_label = on_canvas(inputs, {}, canvas), on_canvas({}, labels, of_labels[canvas])
    return result | {'labels': of_label['labels'], 'label_size': of_label['size'], 'index': np.array(index)}

  def batch(number: int) -> dict:
    canvas, indices = plan[number]
    read = [(split[i], i) for i in indices[host::hosts].tolist()]
    examples = [placed(example['inputs'], example['labels'], canvas, i) for example, i in read]
    if missing := batch_size // hosts - len(examples):
      like = read[0][0] if read else split[int(indices[0])]
      blank = {stream: np.zeros((1, 1, x.shape[-1]), np.uint8) for stream, x in like['inputs'].items()}
      ignored = {head: np.full((1, 1), IGNORE, np.uint8) for head in like['labels']}
      examples += [placed(blank, ignored, canvas, -1)] * missing  # the fillers
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
