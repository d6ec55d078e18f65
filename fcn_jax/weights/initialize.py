"""What a run starts from: a weights file, or another run, like FCN-16s from FCN-32s (CVPR'15, section 4.3)."""

import dataclasses
import logging
import re
from collections.abc import Collection, Mapping

import jax
import ml_collections
from flax import traverse_util

from fcn_jax import files, optim
from fcn_jax.config import normalization, recipes
from fcn_jax.data import names
from fcn_jax.data.dataset import Classes
from fcn_jax.errors import UserError
from fcn_jax.run import checkpoint, saved
from fcn_jax.weights import match

logger = logging.getLogger(__name__)

# With equal parameters, two networks have equal scores on a coarse grid if these settings of `config.model` agree.
_SCORE_SETTINGS = ('name', 'depth', 'backbone', 'shrink', 'geometry', 'at_once', 'group_size', 'norm', 'dtype')
_SCORE_SETTINGS += ('mean', 'std')


@dataclasses.dataclass(frozen=True)
class Restored:
  """Parameters taken from another run.

  Attributes:
    step: of the other run's checkpoint.
    config: of the other run.
    source: all parameters of the other run.
    params: of this run: those of `source` with the same path, shape and classes, and the initial values of the others.
    rows: what happens to each tensor.
    differences: settings and tensors that make the coarse scores of the two networks incomparable. If there are none,
      the scores on the other run's coarse grid should be equal up to rounding.
  """

  step: int
  config: ml_collections.ConfigDict
  source: dict
  params: dict
  rows: list[match.Row]
  differences: tuple[str, ...]


def resolve(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config of a new run, with its `model.mean` and `model.std` (`normalization.py`), and its `data.augment_on`.

  Warns if the network starts from random parameters, but its recipe needs pretrained ones.

  Raises:
    UserError: the file or run that it starts from cannot be read, or that run is not done.
  """
  start, name = None, config.init.run or config.init.weights
  if config.init.run:
    workdir = files.path(config.init.run)
    start = saved.read_config(workdir).model
    state = saved.read_status(workdir).get('state', 'not started')
    if state != 'done':
      raise UserError(f'init.run: {workdir} is {state}; expected a run that is done: finish that run first')
  elif config.init.weights:
    start = match.read(config.init.weights, config.init.preprocessing)
  else:
    _warn_about_random_backbone(config)
  resolved = normalization.resolve(config, start, name, names.measured(config.data))
  if resolved.data.augment_on == 'auto':
    resolved.data.augment_on = 'host' if jax.default_backend() == 'cpu' else 'device'
  return resolved


def _warn_about_random_backbone(config: ml_collections.ConfigDict) -> None:
  has_no_norm = config.model.norm != 'group'
  needs = [part for part in config.recipe.split('+') if part in recipes.NEED_PRETRAINED and has_no_norm]
  on_voc = config.data.name in names.DATASETS and config.data.name not in recipes.BY_DATASET
  if needs or on_voc:
    logger.warning(
      f'warning: neither init.weights nor init.run is set, so the backbone starts from random parameters, but '
      f'{f"the recipe {needs[-1]}" if needs else config.data.name} needs a pretrained one: expect scores far below the '
      "papers', or only the most frequent class; set "
      + (
        '--config.init.weights=vgg16 (with model.width=1 and model.norm=none)'
        if config.model.backbone == 'vgg16'
        else f'--config.init.weights=FILE, with weights of {config.model.backbone}'
      )
      + (', or use a recipe that trains from scratch, such as scratch_full' if needs else '')
    )


def from_weights(params: dict, config: ml_collections.ConfigDict) -> tuple[dict, list[match.Row]]:
  """`params` with the tensors of the file `config.init.weights`, as numpy arrays on the host, and what happens to each.

  Raises:
    UserError: see `match.fit`.
  """
  return match.fit(params, match.read(config.init.weights, config.init.preprocessing), config, config.init.weights)


def from_run(params: dict, config: ml_collections.ConfigDict, heads: Mapping[str, Classes]) -> Restored:
  """`params` with the tensors of the last checkpoint of `config.init.run`, as numpy arrays on the host.

  The layers of a head of `heads`, the classes of this run, keep their values if that run has other classes: a warning.
  """
  workdir = files.path(config.init.run)
  source_config = saved.read_config(workdir)
  step, source = checkpoint.load_params(workdir)
  restored, rows = restore_matching(params, source, _of_other_classes(params, heads, workdir))
  mine, theirs = config.model, source_config.model
  differences = [f'model.{name}' for name in _SCORE_SETTINGS if mine[name] != theirs[name]]
  if mine.stride > theirs.stride:
    differences.append('model.stride')
  # The last upsampling comes after the coarse scores, and depends on the stride.
  unused = [row.name for row in rows if row.outcome == 'unused']
  differences += [name for name in unused if not name.startswith(('upsample_to_1/', 'upsample_to_1_'))]
  return Restored(step, source_config, source, restored, rows, tuple(differences))


def _of_other_classes(params: dict, heads: Mapping[str, Classes], workdir) -> set[str]:
  """The score and upsampling layers of heads with the same number of classes, but other names or another order."""
  try:
    theirs = saved.read_data(workdir)[1]
  except UserError as error:
    logger.warning(f'warning: the classes of this run are not compared with those of {workdir}: {error}')
    return set()
  layers = set()
  for head, classes in heads.items():
    found = next(iter(theirs.values())) if len(heads) == len(theirs) == 1 else theirs.get(head)
    if found and (what := _class_difference(classes.names, found.names)):
      ending = f'_{head}' if len(heads) > 1 else ''
      longer = tuple(f'_{other}' for other in heads if other.endswith(ending) and other != head)  # head a_b, not b
      of_head = (name for name in params if name.endswith(ending) and not (longer and name.endswith(longer)))
      layers |= {name for name in of_head if name.startswith(match.OF_CLASSES)}
      logger.warning(
        f'warning: {workdir} has {what}, so the score layers{ending and f" of head {head}"} start from their initial '
        'values; to restore them, give the classes the names and the order of that run'
      )
  return layers


def _class_difference(mine: tuple[str, ...], theirs: tuple[str, ...]) -> str:
  """How as many classes differ by name; '' if they do not, or if the data of one run have no class names."""
  unnamed = any(all(re.fullmatch(r'class_\d+', name) for name in names) for names in (mine, theirs))
  if mine == theirs or len(mine) != len(theirs) or unnamed:
    return ''
  first = next(number for number, name in enumerate(mine) if name != theirs[number])
  what = 'the same classes in another order' if sorted(mine) == sorted(theirs) else 'other classes'
  return f'{what} (class {first} is {theirs[first]}, here {mine[first]})'


def optimizer_from_run(state, config: ml_collections.ConfigDict, parameters: Collection[str]):
  """The state of the optimizer with that of the last checkpoint of `config.init.run`, for these parameters, if it fits.

  Raises:
    UserError: nothing fits, for example because the other run was trained with another optimizer.
  """
  workdir = files.path(config.init.run)
  restored, count = optim.restore(state, checkpoint.load_state(workdir)[1]['opt_state'], parameters)
  if not count:
    raise UserError(
      f'init.optimizer is set, but no optimizer state of {workdir}, which was trained with '
      f'optim.name={saved.read_config(workdir).optim.name}, fits this run with optim.name={config.optim.name}; leave '
      'init.optimizer out, or use the same optimizer'
    )
  logger.info(f'restored {count} tensors of its optimizer state; the schedule of the learning rate starts from step 0')
  return restored


def restore_matching(params: dict, source: dict, new: Collection[str] = ()) -> tuple[dict, list[match.Row]]:
  """`params` with every tensor of `source` that has the same path and shape, except for the layers in `new`.

  A tensor is restored (taken from `source`), new (keeps its value in `params`) or unused (only in `source`).

  Returns:
    The parameters, and what happens to each tensor.
  """
  mine, theirs = (traverse_util.flatten_dict(tree, sep='/') for tree in (params, source))
  restored = {
    name: theirs[name]
    for name, x in mine.items()
    if name in theirs and theirs[name].shape == x.shape and name.partition('/')[0] not in new
  }
  rows = []
  for name, x in mine.items():
    found = theirs[name].shape if name in theirs else None
    reason = '' if name in restored else match.why_new(name, x.shape, found)
    note = f'{list(found)} there' if reason and found is not None else ''
    rows.append(match.Row('new' if reason else 'restored', name, x.shape, note, reason=reason))
  rows += [match.Row('unused', name, theirs[name].shape) for name in sorted(theirs.keys() - restored.keys())]
  return traverse_util.unflatten_dict(mine | restored, sep='/'), rows
