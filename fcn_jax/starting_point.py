"""What a run starts from: its resolved config, its directory, and its parameters.

If the parameters come from another run, the coarse scores of both are compared.
"""

import dataclasses
import logging

import jax
import numpy as np

from fcn_jax import files, metrics, models
from fcn_jax.config import length
from fcn_jax.data import pipeline
from fcn_jax.data.dataset import Data
from fcn_jax.errors import UserError
from fcn_jax.evaluation import Evaluator
from fcn_jax.run import checkpoint, devices, directory, environment, hosts, saved, summary
from fcn_jax.run.directory import RunDirectory
from fcn_jax.weights import initialize, match

logger = logging.getLogger(__name__)

# Largest relative difference of scores that should be equal: two programs add in different orders.
_TOLERANCE = {'float32': 1e-4, 'bfloat16': 0.05}


def prepare(config, workdir: str):
  """Resolves the settings that depend on what the run starts from; makes or checks its directory.

  Returns:
    The config, and the `RunDirectory`, to which only the first host writes. If `train.epochs` is set and the run has
    not begun, `train.steps` is 0: see `with_steps`.

  Raises:
    UserError: the devices do not fit the config (`devices.check`), or the directory has a run of another config.
  """
  devices.check(config)
  devices.enable_compilation_cache()
  run_directory = RunDirectory(workdir, writes=hosts.is_first_host())
  checkpoint.check_path(run_directory)
  begun = saved.is_run(run_directory.path)
  resolved = directory.resolve_config(run_directory.path, config) if begun else initialize.resolve(config)
  logger.info(summary.input_line(config, resolved))
  if hosts.is_first_host():
    directory.begin(run_directory, resolved)
  if config.train.epochs and not begun:
    resolved = resolved.copy_and_resolve_references()
    resolved.train.steps = 0  # `with_steps` counts them when the data is loaded
  return resolved, run_directory


def with_steps(config, data: Data):
  """The config of a run with the `train.steps` of its `train.epochs`, unless an earlier start has set them."""
  if config.train.steps:
    return config
  images = len(data.splits['train'])
  resolved = length.resolve(config, length.steps(config.train, images))
  steps, warmup, was = resolved.train.steps, resolved.optim.warmup, config.optim.warmup
  shortened = f'; optim.warmup is {warmup} instead of {was} steps' if warmup != was else ''
  logger.info(f'train.epochs={config.train.epochs:g} of {images} images are {steps} steps{shortened}')
  return resolved


def record(run_directory: RunDirectory, config, data: Data, model, parameters: int) -> None:
  """Writes the config, the data description and the environment of this start, and logs its summary."""
  if run_directory.writes:  # the summary reads images
    for line in summary.startup_lines(config, data, model, parameters):
      logger.info(line)
    logger.info(f'writes to {run_directory}')
  directory.write_config(run_directory, config)
  directory.write_data(run_directory, data)
  environment.add_environment(run_directory, [d.device_kind for d in jax.devices()], data.fingerprint)
  hosts.barrier('the directory is made')
  hosts.check_same('starts in env.json', len(saved.read_starts(run_directory.path)))


def load(model, state, config, data: Data, evaluator: Evaluator, run_directory: RunDirectory):
  """The state of a new run, on the devices, with what comes from another run or from a weights file.

  Args:
    model: the network.
    state: its initial `TrainState`, on the devices.
    config: of the run; `init.run` takes precedence over `init.weights`.
    data: the data set.
    evaluator: of the network.
    run_directory: of the run; `restored.json` gets the list of all tensors.

  Returns:
    The state, and, if it comes from another run, the row for `metrics.jsonl` with its scores; else None.

  Raises:
    UserError: the file or run does not fit, or the coarse scores differ from those of the run.
  """
  if config.init.run:
    restored = initialize.from_run(state.params, config, data.heads)
    _write_rows(run_directory, restored.rows, f'step {restored.step} of {config.init.run}')
    _check_scores(model, restored, config, data)
    state = state.replace(params=devices.replicate(restored.params))
    if config.init.optimizer:
      opt_state = initialize.optimizer_from_run(state.opt_state, config, match.restored(restored.rows))
      state = state.replace(opt_state=devices.replicate(opt_state))
    return state, _metrics_before_training(state.params, config.init.run, data, evaluator)
  if config.init.weights:
    params, rows = initialize.from_weights(state.params, config)
    _write_rows(run_directory, rows, config.init.weights)
    state = state.replace(params=devices.replicate(params))
  return state, None


def _write_rows(run_directory: RunDirectory, rows: list[match.Row], source: str) -> None:
  tensors = [{k: x for k, x in dataclasses.asdict(row).items() if k != 'refused'} for row in rows]
  run_directory.write_json('restored.json', {'from': source, 'tensors': tensors})
  logger.info(f'{match.summary_line(rows, source)}; all tensors are listed in {run_directory / "restored.json"}')


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
  rows = saved.read_evaluations(files.path(source))
  names = ('pixel_accuracy', 'mean_iou')
  for name in names:
    before = f', {100 * rows[-1][f"eval/{name}"]:.2f} % at the end of {source}' if rows else ''
    logger.info(f'step 0: {name.replace("_", " ").replace("iou", "IoU")} {100 * now[name]:.2f} %{before}')
  return {f'init/{name}': now[name] for name in names}
