"""Exact scores of a split: one confusion matrix per image, with every image at its original size."""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fcn_jax import files, images, metrics
from fcn_jax.data import bands, canvases, pipeline
from fcn_jax.data.dataset import IGNORE, Classes, Split
from fcn_jax.errors import UserError
from fcn_jax.run import devices, hosts, saved
from fcn_jax.run.directory import RunDirectory

EXAMPLES = 6  # images of a split that are stored with their predictions


@dataclasses.dataclass(frozen=True)
class Scored:
  """The counts over a split of N images, by head.

  Attributes:
    matrices: confusion matrices int64 [N, C, C], one per image.
    bands: int64 [len(bands.WIDTHS), C, C], of the pixels near label boundaries.
    examples: some images, as `Evaluator.predictions` yields them.
  """

  matrices: dict[str, np.ndarray]
  bands: dict[str, np.ndarray]
  examples: list[dict]


def confusion(prediction: jax.Array, label: jax.Array, classes: int) -> jax.Array:
  """The confusion matrix of each image, on the device.

  Args:
    prediction: integers [B, H, W], 0 to classes-1.
    label: integers [B, H, W], 0 to classes-1, or 255 for pixels to ignore.
    classes: C.

  Returns:
    int32 [B, C, C].
  """
  batch = label.shape[0]
  cell = label.astype(jnp.int32) * classes + prediction
  # Ignored pixels go to a cell behind the last one, and are dropped.
  cell = jnp.where(label == IGNORE, classes**2, cell).reshape(batch, -1)
  counts = jax.vmap(lambda c: jnp.zeros(classes**2, jnp.int32).at[c].add(1, mode='drop'))(cell)
  return counts.reshape(batch, classes, classes)


def make_eval_step(model):
  """Makes `eval_step(params, batch)`, which runs on all n devices.

  It returns for each head the confusion matrices int32 [n, B/n, C, C] and the predictions uint8 [n, B/n, H, W].
  """

  def eval_step(params, batch):
    counted = {}
    for head, logits in model.apply({'params': params}, batch['inputs'], batch['size']).items():
      prediction = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
      counted[head] = confusion(prediction, batch['labels'][head], logits.shape[-1]), prediction
    return counted

  return devices.pmap(eval_step, replicated_output=False)


class Evaluator:
  """Scores splits with one network, whose evaluation step is compiled once per canvas."""

  def __init__(self, model, *, batch_size: int, canvases: int, threads: int):
    """`batch_size` images over all devices, padded to one of `canvases` sizes, decoded by `threads`."""
    self._step, self._heads = make_eval_step(model), dict(model.heads)
    self._sharing = {'batch_size': batch_size, 'canvases': canvases}
    self._sharing |= {'host': jax.process_index(), 'hosts': jax.process_count()}
    self._threads = threads

  def predictions(self, params: dict, split: Split) -> Iterator[dict]:
    """Predicts every image of this host's part of a split once, in the order of the batches.

    Yields:
      For each image, a dict: index, its index in `split`; inputs, [H, W, C] by stream; labels and predictions, uint8
      [H, W] by head; confusions, int32 [C, C] by head.
    """
    of_previous_batch = iter(())
    for batch in pipeline.eval_batches(split, threads=self._threads, **self._sharing):
      index = batch.pop('index')
      counted = self._step(params, devices.shard(batch))
      yield from of_previous_batch  # while the devices work on this one
      of_previous_batch = _split_batch(batch, index, counted)
    yield from of_previous_batch

  def score(
    self,
    params: dict,
    split: Split,
    *,
    each: Callable[[dict], object] = lambda image: None,
    stop: Callable[[], object] = lambda: False,
  ) -> Scored | None:
    """Scores a split.

    Args:
      params: the parameters, on the devices.
      split: the images.
      each: called with each image, as `predictions` yields it.
      stop: called between images; if it returns true, nothing more is scored.

    Returns:
      The counts of all hosts, with examples from the images of this host; None if stopped.
    """
    matrices = {head: np.zeros((len(split), c, c), np.int64) for head, c in self._heads.items()}
    near = {head: np.zeros((len(bands.WIDTHS), c, c), np.int64) for head, c in self._heads.items()}
    pixels = dict.fromkeys(self._heads, 0)
    own = canvases.own_images(split, **self._sharing)
    wanted = {own[i] for i in np.linspace(0, len(own) - 1, min(EXAMPLES, len(own))).astype(int)}
    examples = {}
    for image in self.predictions(params, split):
      if stop():
        return None
      for head, classes in self._heads.items():
        label, prediction = image['labels'][head], image['predictions'][head]
        matrices[head][image['index']] = image['confusions'][head]
        pixels[head] += np.count_nonzero(label != IGNORE)
        near[head] += bands.confusions(label, prediction, classes)
      if image['index'] in wanted:
        examples[image['index']] = image
      each(image)
    return _sum_over_hosts(matrices, near, pixels, [examples[index] for index in sorted(examples)])


def _split_batch(batch: dict, index: np.ndarray, counted: dict) -> Iterator[dict]:
  """The images of a batch, each cut to its original size; see `Evaluator.predictions`."""
  confusions = {head: np.asarray(counts).reshape(-1, *counts.shape[-2:]) for head, (counts, _) in counted.items()}
  predictions = {head: np.asarray(p).reshape(batch['labels'][head].shape) for head, (_, p) in counted.items()}
  maps = {'inputs': batch['inputs'], 'labels': batch['labels'], 'predictions': predictions}
  for place in np.flatnonzero(index >= 0):  # the others are fillers
    h, w = batch['size'][place]
    image = {kind: {name: x[place, :h, :w] for name, x in named.items()} for kind, named in maps.items()}
    yield image | {
      'index': int(index[place]),
      'confusions': {head: counts[place] for head, counts in confusions.items()},
    }


def _sum_over_hosts(matrices: dict, near: dict, pixels: dict, examples: list[dict]) -> Scored:
  for head in matrices:
    matrices[head], near[head] = map(hosts.sum_over_hosts, (matrices[head], near[head]))
    labeled = hosts.sum_over_hosts(np.array(pixels[head]))
    if matrices[head].sum() != labeled:  # every labeled pixel must count once, and no other pixel
      raise AssertionError(f'{labeled} labeled pixels, but {matrices[head].sum()} in the confusion matrices of {head}')
  return Scored(matrices, near, examples)


def summarize(name: str, scored: Scored, heads: dict[str, Classes], step: int) -> dict[str, dict]:
  """The scores of each head on the split called `name`, as `eval/NAME.json` has them.

  Raises:
    UserError: the split has no labeled pixel.
  """
  all_scores = {}
  for head, classes in heads.items():
    matrices = scored.matrices[head]
    if not matrices.any():
      raise UserError(f'{name} has no labeled pixel to score; expected labels other than {classes.ignore}')
    scores = metrics.summarize(matrices.sum(0), classes.names)
    scores |= {'images': len(matrices), 'pixels': int(matrices.sum()), 'step': step}
    scores['boundary_iou'] = {
      width: metrics.summarize(band, classes.names)['mean_iou'] if band.any() else None
      for width, band in zip(bands.WIDTHS, scored.bands[head], strict=True)
    }
    all_scores[head] = scores
  return all_scores


def write(
  directory: RunDirectory,
  name: str,
  split: Split,
  scored: Scored,
  heads: dict[str, Classes],
  step: int,
  checkpoint: str = 'last',
) -> dict[str, dict]:
  """Writes the counts of the split called `name`, and returns the scores of each head.

  `eval/NAME.json` has the scores. `eval/NAME.npz` has `confusion` [N, C, C] and `id` [N], one per image. The folder
  `eval/NAME` has the examples: ID.image.jpg, ID.label.png and ID.prediction.png. These are the files of the first head
  and the last checkpoint; `file_stem` has the other names.
  """
  ids, all_scores = split.ids(), summarize(name, scored, heads, step)
  for head, scores in all_scores.items():
    stem = f'eval/{file_stem(name, head, heads, checkpoint)}'
    directory.write(f'{stem}.npz', files.npz(confusion=scored.matrices[head], id=ids))
    _write_examples(directory, stem, scored.examples, ids, head, heads[head])
    directory.write_json(f'{stem}.json', scores)
  return all_scores


def _write_examples(directory, folder: str, examples: list[dict], ids: list[str], head: str, classes: Classes) -> None:
  for example in examples:
    name = f'{folder}/{ids[example["index"]]}'
    image = Image.fromarray(images.viewable(example['inputs']))
    directory.write(f'{name}.image.jpg', images.encoded(image, 'JPEG'))
    for kind in ('label', 'prediction'):
      directory.write(f'{name}.{kind}.png', images.indexed(example[f'{kind}s'][head], classes.palette))


def file_stem(name: str, head: str, heads, checkpoint: str = 'last') -> str:
  """The name of a head's files in `eval`: SPLIT for the first head, SPLIT.HEAD for the others; SPLIT.best, ..."""
  return (name if head == next(iter(heads)) else f'{name}.{head}') + saved.SUFFIXES[checkpoint]


def metrics_row(scores: dict[str, dict]) -> dict:
  """The row for `metrics.jsonl` from the scores of each head.

  The fields of the first head are eval/METRIC and eval/iou/CLASS. The fields of another head are eval/HEAD/METRIC and
  eval/HEAD/iou/CLASS.
  """
  row = {}
  for number, (head, of_head) in enumerate(scores.items()):
    prefix = f'eval/{head}/' if number else 'eval/'
    row |= {f'{prefix}{name}': of_head[name] for name in metrics.METRICS}
    row |= {f'{prefix}iou/{name}': x for name, x in of_head['iou'].items()}
  return row


def write_comparison(directory: RunDirectory, scored: Scored, heads: dict[str, Classes]) -> None:
  """Writes `eval/examples.png`: the examples with the labels and predictions of the first head, and a legend."""
  head, classes = next(iter(heads.items()))
  rows = [(images.viewable(e['inputs']), e['labels'][head], e['predictions'][head]) for e in scored.examples]
  if rows:  # a host may have none
    directory.write('eval/examples.png', images.comparison(rows, classes.names, classes.palette))


def summary_lines(step: int, scores: dict[str, dict]) -> list[str]:
  """The main scores of each head, as lines for people."""
  lines = []
  for head, of_head in scores.items():
    of = f' {head}' if len(scores) > 1 else ''
    accuracy, iou = (100 * of_head[name] for name in ('pixel_accuracy', 'mean_iou'))
    lines.append(f'step {step}:{of} pixel accuracy {accuracy:.2f} %, mean IoU {iou:.2f} %')
  return lines
