"""The parameters that a run starts from. If they come from another run, the coarse scores of both are compared."""

import logging
import math

import jax
import numpy as np

from fcn_jax import files, metrics, models
from fcn_jax.data import pipeline
from fcn_jax.data.dataset import Data
from fcn_jax.errors import UserError
from fcn_jax.evaluation import Evaluator
from fcn_jax.run import devices, saved
from fcn_jax.weights import initialize

logger = logging.getLogger(__name__)

# Largest relative difference of scores that should be equal: two programs add in different orders.
_TOLERANCE = {'float32': 1e-4, 'bfloat16': 0.05}


def load(model, params: dict, config, data: Data, evaluator: Evaluator) -> tuple[dict, dict | None]:
  """The parameters of a new run, on the devices, with those that come from another run or from a weights file.

  Args:
    model: the network.
    params: its initial parameters, on the devices.
    config: of the run; `init.run` takes precedence over `init.weights`.
    data: the data set.
    evaluator: of the network.

  Returns:
    The parameters, and, if they come from another run, the row for `metrics.jsonl` with their scores.

  Raises:
    UserError: the file or run does not fit, or the coarse scores differ from those of the run.
  """
  if config.init.run:
    restored = initialize.from_run(params, config)
    _check_scores(model, restored, config, data)
    params = devices.replicate(restored.params)
    return params, _metrics_before_training(params, config.init.run, data, evaluator)
  if config.init.weights:
    return devices.replicate(initialize.from_weights(params, config)), None
  return params, None


def _check_scores(model, restored: initialize.Restored, config, data: Data) -> None:
  """Compares the scores of both networks on the coarse grid of the run that this one starts from.

  Raises:
    UserError: they differ, although all tensors and settings that they depend on are equal.
  """
  source, stride = config.init.run, restored.config.model.stride
  if restored.differences:
    logger.info(f'the scores are not comparable with those of {source}, because of {", ".join(restored.differences)}')
    return
  found, allowed = _difference(model, restored, config, data), _TOLERANCE[config.model.dtype]
  logger.info(f'scores at stride {stride} as in {source}: largest relative difference {found:.1e}')
  if not found <= allowed:
    raise UserError(
      f'init.run: the scores at stride {stride} differ from those of {source} by {found:.1e} of the largest; expected '
      f'at most {allowed:.0e}, because all their tensors were restored'
    )


def _difference(model, restored: initialize.Restored, config, data: Data) -> float:
  """The largest difference of the coarse scores of one image, relative to the largest score."""
  batches = pipeline.eval_batches(data.splits[data.watched], batch_size=1, canvases=1, threads=config.data.threads)
  batch, stride = next(batches), restored.config.model.stride
  previous = models.build(restored.config.model, data.inputs, data.heads)
  here = jax.local_devices()[0]

  def coarse_scores(network, params):
    arguments = jax.device_put((params, batch['inputs'], batch['size']), here)
    return jax.jit(network.coarse_scores, static_argnums=3)(*arguments, stride)

  pairs = zip(
    *(coarse_scores(*x).values() for x in ((previous, restored.source), (model, restored.params))), strict=True
  )
  arrays = [(np.asarray(old), np.asarray(new)) for old, new in pairs]
  return max(float(np.abs(old - new).max() / max(np.abs(old).max(), 1e-30)) for old, new in arrays)


def _metrics_before_training(params: dict, source: str, data: Data, evaluator: Evaluator) -> dict:
  """The scores at step 0, logged next to those at the end of the run that this one starts from."""
  head, classes = next(iter(data.heads.items()))
  scored = evaluator.score(params, data.splits[data.watched])
  assert scored is not None  # nothing stops it
  now = metrics.summarize(scored.matrices[head].sum(0), classes.names)
  rows = [row for row in saved.read_rows(files.path(source) / 'metrics.jsonl', math.inf) if 'eval/mean_iou' in row]
  names = ('pixel_accuracy', 'mean_iou')
  for name in names:
    before = f', {100 * rows[-1][f"eval/{name}"]:.2f} % at the end of {source}' if rows else ''
    logger.info(f'step 0: {name.replace("_", " ").replace("iou", "IoU")} {100 * now[name]:.2f} %{before}')
  return {f'init/{name}': now[name] for name in names}
