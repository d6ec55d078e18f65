"""A split's confusion matrices, one a picture, with every picture at its own size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax import metrics, parallel
from fcn_jax.datasets import IGNORE, pipeline


@functools.cache
def make_eval_step(model, classes: int):
  """`eval_step(params, batch)`: confusion int32 [n, B/n, C, C], prediction uint8 [n, B/n, H, W] on n devices."""

  def eval_step(params, batch):
    logits = model.apply({'params': params}, batch['image'], batch['size'])
    prediction = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
    return metrics.confusion(prediction, batch['label'], classes), prediction

  return parallel.pmap(eval_step, replicated_output=False)


def score(model, params, pictures, config, classes: int, *, examples: int = 0, stop=lambda: False):
  """Scores a split.

  Args:
    model: the network; `params`: its parameters, on the devices.
    pictures: `pipeline.Pictures`.
    examples: of how many pictures, spread over the split, to return the prediction.
    stop: asked between batches; once true, nothing more is scored.

  Returns:
    int64 [N, C, C], one confusion matrix a picture, and a list of dicts {image, label, prediction}; None if stopped.
  """
  eval_step = make_eval_step(model, classes)
  matrices = np.zeros((len(pictures), classes, classes), np.int64)
  wanted = set(np.linspace(0, len(pictures) - 1, min(examples, len(pictures))).astype(int).tolist())
  shown, pixels = {}, 0
  for batch in pipeline.eval_batches(
    pictures,
    config.data,
    batch_size=config.eval.batch_size,
    canvases=config.eval.canvases,
    host=jax.process_index(),
    hosts=jax.process_count(),
  ):
    if stop():
      return None
    index = batch.pop('index')
    counts, prediction = eval_step(params, parallel.share(batch))
    counts = np.asarray(counts).reshape(-1, classes, classes)
    matrices[index[index >= 0]] = counts[index >= 0]
    pixels += np.count_nonzero(batch['label'] != IGNORE)
    if wanted & set(index.tolist()):
      prediction = np.asarray(prediction).reshape(batch['label'].shape)
      for place in (i for i, number in enumerate(index) if number in wanted):
        h, w = batch['size'][place]
        picture = {name: batch[name][place, :h, :w] for name in ('image', 'label')}
        shown[index[place]] = picture | {'prediction': prediction[place, :h, :w]}
  if matrices.sum() != pixels:
    raise AssertionError(f'{pixels} labelled pixels, but {matrices.sum()} in the confusion matrices')
  return matrices, [shown[number] for number in sorted(shown)]
