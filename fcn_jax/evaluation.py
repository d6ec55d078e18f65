"""Exact scores of a split: one confusion matrix per image, counted at the original size of its labels."""

import dataclasses
from collections.abc import Callable, Collection, Iterator

import jax
import numpy as np
from PIL import Image

from fcn_jax import confusions, counting, files, images, metrics
from fcn_jax.data import bands, canvases, pipeline, resizing
from fcn_jax.data.dataset import IGNORE, Classes, Data, Split
from fcn_jax.errors import UserError
from fcn_jax.run import devices, hosts, saved
from fcn_jax.run.directory import RunDirectory
from fcn_jax.run.kept import Kept

EXAMPLES = 6  # images of a split that are stored with their predictions


@dataclasses.dataclass(frozen=True)
class Scored:
  """The counts over a split of N images, by head.

  Attributes:
    matrices: confusion matrices int64 [N, C, C], one per image.
    bands: int64 [len(bands.WIDTHS), C, C], of the pixels near label boundaries.
    examples: some images, as `Evaluator.images` yields them, with labels and predictions of the size of the inputs.
  """

  matrices: dict[str, np.ndarray]
  bands: dict[str, np.ndarray]
  examples: list[dict]


class Evaluator:
  """Scores splits with one network, whose evaluation step is compiled once per canvas."""

  def __init__(self, model, *, batch_size: int, canvases: int, threads: int):
    """`batch_size` images over all devices, padded to one of `canvases` sizes, decoded by `threads`."""
    self._step, self._heads = counting.make_eval_step(model), dict(model.heads)
    self._sharing = {'batch_size': batch_size, 'canvases': canvases}
    self._sharing |= {'host': jax.process_index(), 'hosts': jax.process_count()}
    self._threads = threads
    self._split = None  # the last split, with its bands

  def images(self, params: dict, split: Split, predicted: Collection[int]) -> Iterator[dict]:
    """Scores every image of this host's part of a split once, in the order of the batches.

    Where images were resized when they were read (`Split.full_labels`), labels and predictions have the original size,
    to which scores are enlarged (`counting.make_eval_step`).

    Args:
      params: the parameters, on the devices.
      split: the images.
      predicted: indices of the images whose predictions are copied to the host.

    Yields:
      For each image, a dict: index, its index in `split`; inputs, [h, w, C] by stream; labels, uint8 [H, W] by head;
      counts, the confusion matrices by band, int32 [len(bands.WIDTHS) + 1, C, C] by head; and at least for the images
      in `predicted`, predictions, uint8 [H, W] by head.
    """
    if self._split is None or self._split.of is not split:
      self._split = bands.WithBands(split)
    of_previous_batch = iter(())
    for batch in pipeline.eval_batches(self._split, threads=self._threads, **self._sharing):
      index = batch.pop('index')
      counted = self._step(params, devices.shard(batch))
      yield from of_previous_batch  # while the devices work on this one
      of_previous_batch = _split_batch(batch, index, counted, predicted)
    yield from of_previous_batch

  def score(
    self,
    params: dict,
    split: Split,
    *,
    predicted: Collection[int] = (),
    each: Callable[[dict], object] = lambda image: None,
    stop: Callable[[], object] = lambda: False,
  ) -> Scored | None:
    """Scores a split.

    Args:
      params: the parameters, on the devices.
      split: the images.
      predicted: indices of the images that `each` needs the predictions of.
      each: called with each image, as `images` yields it.
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
    for image in self.images(params, split, wanted.union(predicted)):
      if stop():
        return None
      for head, counts in image['counts'].items():
        matrices[head][image['index']] = counts.sum(0)
        near[head] += counts[:-1].cumsum(0)
        pixels[head] += np.count_nonzero(image['labels'][head] != IGNORE)
      if image['index'] in wanted:
        examples[image['index']] = _example(image)
      each(image)
    return _sum_over_hosts(matrices, near, pixels, [examples[index] for index in sorted(examples)])

  def score_run(
    self, state, data: Data, directory: RunDirectory, *, keep: int, stop: Callable[[], object]
  ) -> dict[str, dict] | None:
    """Scores the split that is watched during training, and writes the files in `eval`.

    Args:
      state: the `TrainState`, on the devices.
      data: the data set of the run.
      directory: of the run.
      keep: the number of images whose predictions are kept.
      stop: as in `score`.

    Returns:
      The scores of each head; None if stopped, and then nothing is written.
    """
    name, kept = data.watched, Kept(directory, data, keep)
    scored = self.score(state.params, data.splits[name], predicted=kept.indices, each=kept.add, stop=stop)
    if scored is None:
      return None
    scores = write(directory, name, data.splits[name], scored, data.heads, int(state.step))
    write_comparison(directory, scored, data.heads)
    kept.write()
    return scores


def _split_batch(batch: dict, index: np.ndarray, counted: dict, predicted: Collection[int]) -> Iterator[dict]:
  """The images of a batch without their padding; see `Evaluator.images`."""
  counts = {head: np.asarray(counts).reshape(-1, *counts.shape[2:]) for head, (counts, _) in counted.items()}
  label_size = 'label_size' if 'label_size' in batch else 'size'
  maps = {'inputs': batch['inputs'], 'labels': {head: batch['labels'][head] for head in counted}}
  if any(i in predicted for i in index):
    maps['predictions'] = {h: np.asarray(p).reshape(batch['labels'][h].shape) for h, (_, p) in counted.items()}
  for place in np.flatnonzero(index >= 0):  # the others are fillers
    image = {}
    for kind, named in maps.items():
      h, w = batch['size' if kind == 'inputs' else label_size][place]
      image[kind] = {name: x[place, :h, :w] for name, x in named.items()}
    yield image | {'index': int(index[place]), 'counts': {head: x[place] for head, x in counts.items()}}


def _example(image: dict) -> dict:
  """The image with labels and predictions of the size of its inputs, for people."""
  size = next(iter(image['inputs'].values())).shape[:2]
  maps = {kind: image[kind] for kind in ('labels', 'predictions')}
  return image | {k: {head: resizing.nearest(x, size) for head, x in named.items()} for k, named in maps.items()}


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

  `eval/NAME.json` has the scores. `eval/NAME.npz` has `confusion` [N, C, C] and `id` [N], one per image;
  `eval/NAME.images.csv` and `eval/NAME.confusion.png` show them (`confusions.py`). The folder `eval/NAME` has the
  examples: ID.image.jpg, ID.label.png and ID.prediction.png. These are the files of the first head and the last
  checkpoint; `saved.file_stem` has the other names.
  """
  ids, all_scores = split.ids(), summarize(name, scored, heads, step)
  for head, scores in all_scores.items():
    stem = f'eval/{saved.file_stem(name, head, heads, checkpoint)}'
    matrices, names = scored.matrices[head], heads[head].names
    directory.write(f'{stem}.npz', files.npz(confusion=matrices, id=ids))
    directory.write(f'{stem}.images.csv', confusions.images_csv(ids, matrices, names))
    directory.write(f'{stem}.confusion.png', confusions.drawn(matrices.sum(0), names))
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
