"""A split's confusion matrices, one a picture, with every picture at its own size."""

import functools
import io
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax import metrics, parallel, runlog
from fcn_jax.datasets import IGNORE, pipeline


@functools.cache
def make_eval_step(model, classes: int):
  """`eval_step(params, batch)`: confusion int32 [n, B/n, C, C], prediction uint8 [n, B/n, H, W] on n devices."""

  def eval_step(params, batch):
    logits = model.apply({'params': params}, batch['image'], batch['size'])
    prediction = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
    return metrics.confusion(prediction, batch['label'], classes), prediction

  return parallel.pmap(eval_step, replicated_output=False)


def predictions(model, params, pictures, config, classes: int) -> Iterator[dict]:
  """Every picture of a split once, in the order of the batches.

  Yields:
    index, its place in `pictures`; image uint8 [H, W, 3], label and prediction uint8 [H, W]; confusion int32 [C, C].
  """
  eval_step = make_eval_step(model, classes)
  for batch in pipeline.eval_batches(
    pictures,
    config.data,
    batch_size=config.eval.batch_size,
    canvases=config.eval.canvases,
    host=jax.process_index(),
    hosts=jax.process_count(),
  ):
    index = batch.pop('index')
    counts, prediction = eval_step(params, parallel.share(batch))
    batch['confusion'] = np.asarray(counts).reshape(-1, classes, classes)
    batch['prediction'] = np.asarray(prediction).reshape(batch['label'].shape)
    for place in np.flatnonzero(index >= 0):  # the others are fillers
      h, w = batch['size'][place]
      maps = {name: batch[name][place, :h, :w] for name in ('image', 'label', 'prediction')}
      yield maps | {'index': int(index[place]), 'confusion': batch['confusion'][place]}


def score(model, params, pictures, config, classes: int, *, examples: int = 0, stop=lambda: False):
  """Scores a split.

  Args:
    model: the network; `params`: its parameters, on the devices.
    pictures: `pipeline.Pictures`.
    examples: of how many pictures, spread over the split, to return the prediction.
    stop: asked between pictures; once true, nothing more is scored.

  Returns:
    int64 [N, C, C], one confusion matrix a picture, and a list of dicts {image, label, prediction}; None if stopped.
  """
  matrices = np.zeros((len(pictures), classes, classes), np.int64)
  wanted = set(np.linspace(0, len(pictures) - 1, min(examples, len(pictures))).astype(int).tolist())
  shown, pixels = {}, 0
  for picture in predictions(model, params, pictures, config, classes):
    if stop():
      return None
    matrices[picture['index']] = picture['confusion']
    pixels += np.count_nonzero(picture['label'] != IGNORE)
    if picture['index'] in wanted:
      shown[picture['index']] = picture
  check_total(matrices, pixels)
  return matrices, [shown[number] for number in sorted(shown)]


def check_total(matrices: np.ndarray, pixels: int) -> None:
  """Every labelled pixel counts once, and no other."""
  if matrices.sum() != pixels:
    raise AssertionError(f'{pixels} labelled pixels, but {matrices.sum()} in the confusion matrices')


def write(workdir, split: str, scores: dict, matrices: np.ndarray, names: list[str]) -> None:
  """`eval/SPLIT.json`, the scores, and `eval/SPLIT.npz`: confusion [N, C, C] and id [N], one a picture."""
  buffer = io.BytesIO()
  np.savez_compressed(buffer, confusion=matrices, id=names)
  runlog.write(workdir / 'eval' / f'{split}.npz', buffer.getvalue())
  runlog.write_json(workdir / 'eval' / f'{split}.json', scores)
