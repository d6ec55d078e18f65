"""A split's confusion matrices, one a picture, with every picture at its own size."""

import dataclasses
import functools
import io
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fcn_jax import files, images, metrics
from fcn_jax.data import bands, dataset, pipeline
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError
from fcn_jax.run import devices, hosts

EXAMPLES = 6  # pictures of a split that are kept to be looked at


@dataclasses.dataclass(frozen=True)
class Scored:
  """What is counted on a split of N pictures.

  Attributes:
    matrices: confusion matrices int64 [N, C, C], one a picture.
    bands: int64 [len(boundaries.WIDTHS), C, C], of the pixels near label boundaries.
    examples: some pictures, dicts of index, image, label and prediction, as `predictions` yields them.
  """

  matrices: np.ndarray
  bands: np.ndarray
  examples: list[dict]


@functools.cache
def make_eval_step(model, classes: int):
  """`eval_step(params, batch)`: confusion int32 [n, B/n, C, C], prediction uint8 [n, B/n, H, W] on n devices."""

  def eval_step(params, batch):
    logits = model.apply({'params': params}, batch['image'], batch['size'])
    prediction = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
    return confusion(prediction, batch['label'], classes), prediction

  return devices.pmap(eval_step, replicated_output=False)


def predictions(model, params, pictures, config, classes: int) -> Iterator[dict]:
  """Every picture of a split once, in the order of the batches.

  Yields:
    index, its place in `pictures`; image uint8 [H, W, 3], label and prediction uint8 [H, W]; confusion int32 [C, C].
  """
  eval_step = make_eval_step(model, classes)
  of_batch_before = iter(())
  for batch in pipeline.eval_batches(pictures, config.data, **_batches(config)):
    index = batch.pop('index')
    counted = eval_step(params, devices.share(batch))
    yield from of_batch_before  # while the devices work on this one
    of_batch_before = _of_batch(batch, index, *counted)
  yield from of_batch_before


def _of_batch(batch: dict, index: np.ndarray, counts: jax.Array, prediction: jax.Array) -> Iterator[dict]:
  counts = np.asarray(counts).reshape(-1, *counts.shape[-2:])
  maps = {'image': batch['image'], 'label': batch['label']}
  maps['prediction'] = np.asarray(prediction).reshape(batch['label'].shape)
  for place in np.flatnonzero(index >= 0):  # the others are fillers
    h, w = batch['size'][place]
    own = {name: x[place, :h, :w] for name, x in maps.items()}
    yield own | {'index': int(index[place]), 'confusion': counts[place]}


def _batches(config) -> dict:
  """How evaluation is shared out."""
  return {
    'batch_size': config.eval.batch_size,
    'canvases': config.eval.canvases,
    'host': jax.process_index(),
    'hosts': jax.process_count(),
  }


def score(
  model, params, chosen, config, classes: int, *, each=lambda picture: None, stop=lambda: False
) -> Scored | None:
  """Scores a split.

  Args:
    model: the network; `params`: its parameters, on the devices.
    chosen: `pipeline.Pictures`.
    each: called with each picture, as `predictions` yields it.
    stop: asked between pictures; once true, nothing more is scored.

  Returns:
    The counts of all hosts, with examples spread over the pictures of this one; None if stopped.
  """
  matrices = np.zeros((len(chosen), classes, classes), np.int64)
  near = np.zeros((len(bands.WIDTHS), classes, classes), np.int64)
  own = pipeline.own_pictures(chosen, **_batches(config))
  wanted = {own[i] for i in np.linspace(0, len(own) - 1, min(EXAMPLES, len(own))).astype(int)}
  examples, pixels = {}, 0
  for picture in predictions(model, params, chosen, config, classes):
    if stop():
      return None
    matrices[picture['index']] = picture['confusion']
    pixels += np.count_nonzero(picture['label'] != IGNORE)
    near += bands.confusions(picture['label'], picture['prediction'], classes)
    if picture['index'] in wanted:
      examples[picture['index']] = picture
    each(picture)
  matrices, near, pixels = map(hosts.sum_over_hosts, (matrices, near, np.array(pixels)))
  if matrices.sum() != pixels:  # every labelled pixel counts once, and no other
    raise AssertionError(f'{pixels} labelled pixels, but {matrices.sum()} in the confusion matrices')
  return Scored(matrices, near, [examples[index] for index in sorted(examples)])


def write(workdir, split: str, scored: Scored, data: dataset.Data, step: int) -> dict:
  """Writes what was counted, and returns the scores.

  `eval/SPLIT.json` has the scores, `eval/SPLIT.npz` confusion [N, C, C] and id [N], one a picture, and the folder
  `eval/SPLIT` the examples: ID.image.jpg, ID.label.png and ID.prediction.png.
  """
  if not scored.matrices.any():
    raise UserError(f'no pixel of {split} is labelled, so there is nothing to score')
  names = data.split(split).ids()
  scores = metrics.summarize(scored.matrices.sum(0), data.classes)
  scores |= {'images': len(names), 'pixels': int(scored.matrices.sum()), 'step': step}
  scores['boundary_iou'] = {
    width: metrics.summarize(band, data.classes)['mean_iou'] if band.any() else None
    for width, band in zip(bands.WIDTHS, scored.bands, strict=True)
  }
  buffer = io.BytesIO()
  np.savez_compressed(buffer, confusion=scored.matrices, id=names)
  folder = workdir / 'eval'
  files.write(folder / f'{split}.npz', buffer.getvalue())
  for example in scored.examples:
    path = folder / split / names[example['index']]
    files.write(path.with_name(f'{path.name}.image.jpg'), images.encoded(Image.fromarray(example['image']), 'JPEG'))
    for name in ('label', 'prediction'):
      files.write(path.with_name(f'{path.name}.{name}.png'), images.indexed(example[name], data.palette))
  files.write_json(folder / f'{split}.json', scores)
  return scores


def confusion(prediction: jax.Array, label: jax.Array, classes: int) -> jax.Array:
  """The confusion matrix of each picture, on the device.

  Args:
    prediction: integers [B, H, W], 0 to classes-1.
    label: integers [B, H, W], 0 to classes-1, or 255 for pixels to ignore.
    classes: C.

  Returns:
    int32 [B, C, C].
  """
  batch = label.shape[0]
  cell = label.astype(jnp.int32) * classes + prediction
  # Ignored pixels fall behind the last cell, and are dropped.
  cell = jnp.where(label == IGNORE, classes**2, cell).reshape(batch, -1)
  counts = jax.vmap(lambda c: jnp.zeros(classes**2, jnp.int32).at[c].add(1, mode='drop'))(cell)
  return counts.reshape(batch, classes, classes)
