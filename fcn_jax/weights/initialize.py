"""What a run starts from: weights of a file, or another run, as FCN-16s from FCN-32s (CVPR'15, section 4.3)."""

import jax
import numpy as np
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import evaluation, files, metrics
from fcn_jax.data import dataset, pipeline
from fcn_jax.errors import UserError
from fcn_jax.models import fcn
from fcn_jax.run import checkpoint, directory
from fcn_jax.weights import match

# What the scores on the coarse grid depend on beside the parameters.
_SAME_SCORES = (
  'model.shrink',
  'model.geometry',
  'model.at_once',
  'model.group_size',
  'model.norm',
  'model.dtype',
)
# Two programs add in different orders; scores that are another network's differ by some tenths.
_TOLERANCE = {'float32': 1e-4, 'bfloat16': 0.05}


def settled(config):
  """The config of a run that begins, with the preprocessing of what it starts from.

  Raises:
    UserError: what it is to start from cannot be read, or is another run that is not done.
  """
  name = config.init.run or config.init.weights
  if not name:
    return config
  if not config.init.run:
    return match.with_preprocessing(config, match.read(name), name)
  workdir = epath.Path(name)
  source = directory.read_config(workdir)
  known = files.read_json(workdir / 'status.json', {}).get('state', 'not begun')
  if known != 'done':
    raise UserError(f'init.run: {workdir} is {known}; a run starts from one that is done')
  return match.with_preprocessing(config, source.data, name)


def from_weights(params: dict, config, say) -> dict:
  """`params` with what the file `config.init.weights` has for them, not yet on the devices."""
  say(f'from {config.init.weights}:')
  return match.fit(params, match.read(config.init.weights), config, config.init.weights, say)


def from_run(model, params: dict, config, data: dataset.Data, say) -> dict:
  """`params` with what the last checkpoint of `config.init.run` has for them, not yet on the devices.

  Raises:
    UserError: its scores on its own coarse grid did not come over as they should have.
  """
  workdir = epath.Path(config.init.run)
  source_config = directory.read_config(workdir)
  step, source = checkpoint.load_params(workdir)
  say(f'from step {step} of {workdir}:')
  taken, lost = take_over(params, source, say)
  own, other = config_lib.flatten(config), config_lib.flatten(source_config)
  changed = [field for field in _SAME_SCORES if own[field] != other[field]]
  # Its own way to pixels is another one, of another stride; all that comes before must be here.
  missing = [name for name in lost if not name.startswith('upsample_to_1/')]
  if model.stride > source_config.model.stride:
    changed.append('model.stride')
  if changed or missing:
    say(f'the scores are not comparable with those of {workdir}, for {", ".join(changed + missing)}')
    return taken
  difference = _difference(model, taken, source_config, source, config, data)
  say(f'scores at stride {source_config.model.stride} as in {workdir}: largest relative difference {difference:.1e}')
  if not difference <= _TOLERANCE[config.model.dtype]:
    raise UserError(
      f'init.run: the scores at stride {source_config.model.stride} differ from those of {workdir} by {difference:.1e} '
      f'of the largest; expected at most {_TOLERANCE[config.model.dtype]:.0e}, since all its tensors were taken over'
    )
  return taken


def take_over(params: dict, source: dict, say) -> tuple[dict, list[str]]:
  """`params` with every tensor of `source` that has the same name and shape, and the names of those left over.

  `say` is told of each tensor whether it is taken, fresh (stays as it is) or left over.
  """
  own, other = (
    {jax.tree_util.keystr(path, simple=True, separator='/'): x for path, x in leaves}
    for leaves in map(jax.tree_util.tree_leaves_with_path, (params, source))
  )
  taken = {name for name, x in own.items() if name in other and other[name].shape == x.shape}
  for name, x in own.items():
    say(f'  {"taken" if name in taken else "fresh"}      {name} {list(x.shape)}')
  lost = sorted(other.keys() - taken)
  for name in lost:
    say(f'  left over  {name} {list(other[name].shape)}')
  leaves = [other[name] if name in taken else x for name, x in own.items()]
  return jax.tree.unflatten(jax.tree.structure(params), leaves), lost


def _difference(model, params, source_config, source, config, data) -> float:
  """Of the scores on the coarse grid of the source, of one picture, as a share of the largest."""
  pictures = data.splits[data.watched]
  batch = next(pipeline.eval_batches(pictures, config.data, batch_size=1, canvases=1))
  before, stride = fcn.from_config(source_config, len(data.classes)), source_config.model.stride
  here = jax.local_devices()[0]
  old, new = (
    np.asarray(
      jax.jit(net.coarse_scores, static_argnums=3)(*jax.device_put((tree, batch['image'], batch['size']), here), stride)
    )
    for net, tree in ((before, source), (model, params))
  )
  return float(np.abs(old - new).max() / max(np.abs(old).max(), 1e-30))


def metrics_before_training(model, params, config, data: dataset.Data, say) -> dict:
  """What the run scores at step 0, beside what the run that it starts from scored at its end; the row for the log."""
  classes = len(data.classes)
  scored = evaluation.score(model, params, data.splits[data.watched], config, classes)
  now = metrics.summarize(scored.matrices.sum(0), data.classes)
  rows = directory.Rows(epath.Path(config.init.run) / 'metrics.jsonl', np.inf).with_field('eval/mean_iou')
  names = ('pixel_accuracy', 'mean_iou')
  for name in names:
    before = f', {100 * rows[-1][f"eval/{name}"]:.2f} % at the end of {config.init.run}' if rows else ''
    say(f'step 0: {name.replace("_", " ").replace("iou", "IoU")} {100 * now[name]:.2f} %{before}')
  return {f'init/{name}': now[name] for name in names}
