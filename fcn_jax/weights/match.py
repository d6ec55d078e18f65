"""Weights from a file for a network: found or fetched, their preprocessing taken over, every tensor accounted for."""

import dataclasses
import os
import pathlib
import re

import jax
import ml_collections
import numpy as np

from fcn_jax import config as config_lib
from fcn_jax.errors import UserError
from fcn_jax.models import fcn, grid
from fcn_jax.weights import formats, tensors


@dataclasses.dataclass(frozen=True)
class Row:
  """What becomes of a tensor: loaded, reshaped, fresh or left over; its name, shape and more; whether that is wrong."""

  fate: str
  name: str
  shape: tuple[int, ...]
  note: str = ''
  refused: bool = False


@dataclasses.dataclass(frozen=True)
class Known:
  """A file that has a name here: where it is fetched from, and its checksum as 'algorithm:digits'."""

  url: str
  checksum: str


KNOWN = {
  # VGG-16 as its authors trained it in Caffe (Simonyan and Zisserman, ICLR 2015), in the file of Keras applications,
  # with the checksum that Keras has for it.
  'vgg16': Known(
    'https://storage.googleapis.com/tensorflow/keras-applications/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5',
    'md5:64373286793e3c8b2b4e3219cbf3544b',
  ),
}


def read(name: str) -> tensors.Weights:
  """The weights of a file, or of a key of `KNOWN`, which is fetched once."""
  return formats.read(_fetched(name) if name in KNOWN else name)


def _fetched(name: str) -> pathlib.Path:
  """The file of a key of `KNOWN`, from the cache or by its URL."""
  known, folder = KNOWN[name], _cache()
  file = pathlib.PurePosixPath(known.url).name
  try:
    import pooch

    pooch.get_logger().setLevel('ERROR')  # it would tell of each step
    return pathlib.Path(pooch.retrieve(known.url, known.checksum, fname=file, path=folder, progressbar=True))
  except ModuleNotFoundError as error:
    raise UserError(f"fetching {name} wants {error.name}: pip install 'fcn_jax[weights]'") from error
  except Exception as error:  # of requests, urllib3, pooch and the file system, but there is one thing to say
    reason = str(error).split('\n')[0]
    raise UserError(
      f'cannot fetch {known.url}: {reason}. If you have the file, put it into {folder}, or name it: '
      f'--config.init.weights=/path/{file}'
    ) from error


def _cache() -> pathlib.Path:
  return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'fcn_jax' / 'weights'


def with_preprocessing(config, source, name: str):
  """The config with the `mean` and `std` of `source`, the weights of the file `name` or the data of the run `name`.

  Raises:
    UserError: the config has other ones, which are not just the data set's defaults.
  """
  config, usual = config.copy_and_resolve_references().unlock(), config_lib.default(config.data.name)
  for field in ('mean', 'std'):
    own, theirs = tuple(config.data[field]), tuple(getattr(source, field))
    if own not in (theirs, tuple(usual.data[field])):
      raise UserError(
        f'data.{field} is {own}, but {name} was trained with {theirs}; leave data.{field} out, and it is taken over'
      )
    config.data[field] = theirs
  return config.lock()


def fit(shapes: dict, weights: tensors.Weights, config, name: str, say, *, whole: bool = False) -> dict:
  """The parameters of a network from the weights of the file `name`.

  Args:
    shapes: the parameters that the network starts with, or with `whole` their shapes.
    config: of the run; `init.without` names the layers of the network or of the file that may go without each other.
    say: told of every tensor whether it is loaded, reshaped, fresh (stays as it is) or left over.
    whole: nothing may stay fresh.

  Raises:
    UserError: the file is one of another network, or something that was not asked for would be fresh or left over.
  """
  _check_factors(weights, config.model, name)
  own = {
    jax.tree_util.keystr(path, simple=True, separator='/'): x for path, x in jax.tree_util.tree_leaves_with_path(shapes)
  }
  without = config.init.without.split('+') if config.init.without else []
  rows = [_row(path, x, weights.tensors.get(path), without, whole) for path, x in own.items()]
  rows += left_over(weights, without, of=own)
  for row in rows:
    say(f'  {row.fate:<9}  {row.name} {list(row.shape)}{"  " if row.note else ""}{row.note}')
  refuse(rows, name, asking='' if whole else '--config.init.without')
  taken = {row.name for row in rows if row.fate in ('loaded', 'reshaped')}
  leaves = [weights.tensors[path].value if path in taken else x for path, x in own.items()]
  return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _row(path: str, own, tensor: tensors.Tensor | None, without: list[str], whole: bool) -> Row:
  """What becomes of a parameter of the network."""
  if tensor is not None and tensor.value.shape == own.shape:
    fate = 'reshaped' if 'reshaped' in tensor.change else 'loaded'
    return Row(fate, path, own.shape, ', '.join(filter(None, (tensor.source, tensor.change))))
  # That a trunk comes without scores is what a training starts from; that it is not whole should be no accident.
  refused = whole or ((tensor is not None or path.startswith('trunk/')) and layer_of(path) not in without)
  note = f'{tensor.source} is {list(tensor.value.shape)}' if tensor is not None else ''
  return Row('fresh', path, own.shape, note, refused)


def left_over(weights: tensors.Weights, without: list[str], *, of: dict) -> list[Row]:
  """What the file has and the parameters `of` a network have not."""
  rows = []
  for path, tensor in weights.tensors.items():
    if path not in of:
      bilinear = _is_bilinear(path, tensor.value)  # as the upsampling that has no parameters
      refused = not bilinear and layer_of(path) not in without
      rows.append(Row('left over', path, tensor.value.shape, f'{tensor.source}{", bilinear" * bilinear}', refused))
  for source, shape in weights.others.items():
    known = layer_of(source) in tensors.CLASSIFIERS
    note = "the classifier of ImageNet's classes" if known else ''
    rows.append(Row('left over', source, shape, note, not known and layer_of(source) not in without))
  return rows


def refuse(rows: list[Row], name: str, *, asking: str) -> None:
  """Raises `UserError` where a tensor's fate was not asked for, by the flag `asking`; '' where it cannot be."""
  wrong = [row for row in rows if row.refused]
  if not wrong:
    return
  told = '; '.join(
    f'{row.name} {list(row.shape)} would be {row.fate}{f" ({row.note})" if row.note else ""}' for row in wrong[:4]
  )
  more = f'; and {len(wrong) - 4} more' if len(wrong) > 4 else ''
  layers = '+'.join(dict.fromkeys(layer_of(row.name) for row in wrong))
  hint = f'where that is meant, say so: {asking}={layers}' if asking else 'expected a file with all of it'
  raise UserError(f'{name} does not fit the network: {told}{more}; {hint}')


def layer_of(name: str) -> str:
  """fc6 of trunk/fc6/kernel, and the same of a name in a file."""
  return re.sub(r'^trunk/|/(kernel|bias)$|\.(weight|bias)$|\[\d+\]$', '', name)


def _is_bilinear(path: str, kernel: np.ndarray) -> bool:
  if not path.startswith('upsample_to_'):
    return False
  return np.allclose(kernel, grid.bilinear_kernel(len(kernel) // 2)[..., None], atol=1e-4)


def _check_factors(weights: tensors.Weights, model, name: str) -> None:
  """An FCN-8s at-once is one in both, or in neither; a trunk alone may become either."""
  expected = fcn.AT_ONCE if model.at_once else {}
  is_fcn = 'score_pool4/kernel' in weights.tensors
  close = expected.keys() == weights.factors.keys() and all(
    np.isclose(weights.factors[pool], factor, rtol=1e-4) for pool, factor in expected.items()
  )
  if not close and (is_fcn or weights.factors):
    raise UserError(
      f'{name} multiplies the pools by {weights.factors or "nothing"}, the network by {expected or "nothing"}; '
      f'set model.at_once={not model.at_once}'
    )


def load(config, classes: int, name: str, say) -> tuple[ml_collections.ConfigDict, dict]:
  """The config with the preprocessing of a file, and all parameters of its network for that many classes.

  Raises:
    UserError: as `with_preprocessing` and `fit`; the file lacks a part of the network.
  """
  weights = read(name)
  config = with_preprocessing(config, weights, name)
  model = fcn.from_config(config, classes)
  shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 1, 1, 3), np.uint8))['params']
  return config, fit(shapes, weights, config, name, say, whole=True)
