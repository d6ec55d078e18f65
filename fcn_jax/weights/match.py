"""Loads a weights file into a network: downloads it and accounts for every tensor."""

import dataclasses
import logging
import os
import pathlib
import posixpath
import re
from collections.abc import Collection

import jax
import ml_collections
import numpy as np
from flax import traverse_util

from fcn_jax import models
from fcn_jax.config import normalization
from fcn_jax.errors import UserError
from fcn_jax.models import fcn, grid, names
from fcn_jax.weights import formats
from fcn_jax.weights.tensors import CLASSIFIERS, Tensor, Weights

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Row:
  """What happens to one tensor of the network or of the file.

  Attributes:
    outcome: loaded; reshaped (loaded in another shape than it has in the file); new (the network keeps its initial
      value); or unused (the network has no place for it).
    name: parameter path, or the name in the file if the tensor has no place in the network.
    shape: in the network's layout, or in the file's if the tensor has no place in the network.
    note: further information for the user, or ''.
    refused: the outcome is an error.
    reason: why it is new, or ''.
  """

  outcome: str
  name: str
  shape: tuple[int, ...]
  note: str = ''
  refused: bool = False
  reason: str = ''


# Name -> URL, and the checksum of the file there as 'algorithm:digits'.
KNOWN = {
  # VGG-16 as its authors trained it in Caffe (Simonyan and Zisserman, ICLR 2015), converted by Keras applications, with
  # the checksum that Keras lists.
  'vgg16': (
    'https://storage.googleapis.com/tensorflow/keras-applications/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5',
    'md5:64373286793e3c8b2b4e3219cbf3544b',
  ),
}

OF_CLASSES = ('score', 'upsample_')  # the names of layers whose last axis is the classes start with these


def read(name: str, preprocessing: str = 'from_file') -> Weights:
  """The weights in the file `name`, or those of a key of `KNOWN`; see `formats.read`.

  Raises:
    UserError: the file cannot be downloaded or read.
  """
  if name in KNOWN:
    return dataclasses.replace(formats.read(fetch(name), preprocessing), assumed='')
  return formats.read(name, preprocessing)


def fetch(name: str) -> pathlib.Path:
  """The file of a key of `KNOWN`, downloaded into the cache on first use."""
  url, checksum = KNOWN[name]
  folder = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'fcn_jax' / 'weights'
  try:
    import pooch

    pooch.get_logger().setLevel('ERROR')  # by default it reports each step
    return pathlib.Path(pooch.retrieve(url, checksum, posixpath.basename(url), folder, progressbar=True))
  except ModuleNotFoundError as error:
    raise UserError(f"downloading {name} requires {error.name}: pip install 'fcn_jax[weights]'") from error
  except Exception as error:  # requests, urllib3, pooch and the file system each raise different exceptions
    reason = str(error).split('\n')[0]
    raise UserError(
      f'cannot download {url}: {reason}. If you have the file, move it to {folder}, or give its path instead '
      f'of {name!r}'
    ) from error


def fit(
  params: dict,
  weights: Weights,
  config,
  name: str,
  *,
  whole: bool = False,
  allow: str = '--config.init.allow_mismatch={}',
) -> tuple[dict, list[Row]]:
  """The parameters of a network with the tensors of a weights file.

  Args:
    params: the initial parameters of the network; with `whole`, their shapes are enough.
    weights: of the file.
    config: of the run. `init.allow_mismatch` names the layers that may be missing from the file or unused.
    name: of the file, for messages.
    whole: the file must have every parameter.
    allow: how a person allows layers to be missing or unused, for messages; {} stands for the layers.

  Returns:
    The parameters, and what happens to each tensor.

  Raises:
    UserError: the file is for another network, or tensors would stay new or unused that the config does not allow.
  """
  _check_factors(weights, config.model, name)
  allowed = config.init.allow_mismatch.split('+') if config.init.allow_mismatch else []
  by_path = traverse_util.flatten_dict(params, sep='/')  # path, for example trunk/conv1_1/kernel
  rows = [_row(path, x, weights.tensors.get(path), allowed, whole) for path, x in by_path.items()]
  rows += unused(weights, allowed, by_path)
  refuse(rows, name, allow='' if whole else allow, other=_other_sizes(weights, by_path))
  loaded = {path: weights.tensors[path].value for path in by_path.keys() & restored(rows)}
  return traverse_util.unflatten_dict(by_path | loaded, sep='/'), rows


def restored(rows: list[Row]) -> set[str]:
  """The names of the parameters that the file or the other run gives."""
  return {row.name for row in rows if row.outcome not in ('new', 'unused')}


def summary_line(rows: list[Row], source: str) -> str:
  """How many layers of the network come from `source`, which ones are new and why, and what is unused there."""
  layers: dict[str, str] = {}  # the reason why the layer is new, or ''
  for row in rows:
    if row.outcome != 'unused':
      layers[_folder(row)] = row.reason or layers.get(_folder(row), '')
  text = f'restored {list(layers.values()).count("")} of {len(layers)} layers from {source}'
  by_reason = {
    reason: [layer_of(name) for name, why in layers.items() if why == reason] for reason in layers.values() if reason
  }
  new = ', '.join(f'{_some(names)} ({reason})' for reason, names in by_reason.items())
  unused = _some([layer_of(row.name) for row in rows if row.outcome == 'unused' and _folder(row) not in layers])
  return '; '.join([text, *(f'{word}: {names}' for word, names in (('new', new), ('unused', unused)) if names)])


def _folder(row: Row) -> str:
  return posixpath.dirname(row.name)


def _some(names: list[str]) -> str:
  unique = list(dict.fromkeys(names))
  return ', '.join(unique[:6]) + (f' and {len(unique) - 6} more' if len(unique) > 6 else '')


def why_new(name: str, shape: tuple[int, ...], found: tuple[int, ...] | None) -> str:
  """Why a parameter is new for which the file or the other run has a tensor of the shape `found`, or none."""
  if found is None:
    return 'missing there'
  if shape == found:
    return 'other classes'
  of_classes = name.startswith(OF_CLASSES) and shape[:-1] == found[:-1]
  return 'other number of classes' if of_classes else 'other shape'


def row_text(row: Row) -> str:
  """A line about a tensor, for people."""
  return f'{row.outcome:<8}  {row.name} {list(row.shape)}{"  " if row.note else ""}{row.note}'


def _row(path: str, parameter, tensor: Tensor | None, allowed: list[str], whole: bool) -> Row:
  """What happens to a parameter of the network."""
  if tensor is not None and tensor.value.shape == parameter.shape:
    outcome = 'reshaped' if 'reshaped' in tensor.change else 'loaded'
    return Row(outcome, path, parameter.shape, ', '.join(filter(None, (tensor.source, tensor.change))))
  # Training usually starts from a file with only a backbone. A file with a part of a backbone is probably a mistake.
  required = tensor is not None or path.startswith(('trunk/', 'trunk_'))
  note = f'{tensor.source} is {list(tensor.value.shape)} in the file' if tensor is not None else ''
  reason = why_new(path, parameter.shape, tensor.value.shape if tensor is not None else None)
  return Row('new', path, parameter.shape, note, whole or (required and layer_of(path) not in allowed), reason)


def unused(weights: Weights, allowed: Collection[str], parameters: Collection[str]) -> list[Row]:
  """The tensors of a file that a network has no place for.

  Args:
    weights: of the file.
    allowed: layers that may be unused. Others are refused, except for the ImageNet classifier and bilinear kernels.
    parameters: the paths of the network's parameters.
  """
  rows = []
  for path, tensor in weights.tensors.items():
    if path not in parameters:
      kernel, upsampling = tensor.value, path.startswith('upsample_to_')
      # Equal to upsampling without parameters.
      bilinear = upsampling and np.allclose(
        kernel, grid.bilinear_kernel((len(kernel) + 1) // 2, len(kernel))[..., None], atol=1e-4
      )
      refused = not bilinear and layer_of(path) not in allowed
      rows.append(Row('unused', path, kernel.shape, f'{tensor.source}{", bilinear" * bilinear}', refused))
  for source, shape in weights.others.items():
    classifier = layer_of(source) in CLASSIFIERS
    note = 'the ImageNet classifier' if classifier else ''
    rows.append(Row('unused', source, shape, note, not classifier and layer_of(source) not in allowed))
  return rows


def refuse(rows: list[Row], name: str, *, allow: str, other: str = '') -> None:
  """Raises `UserError` if any row is refused.

  Args:
    rows: all tensors of the network and of the file.
    name: of the file.
    allow: how a person would allow it, with {} for the layers; '' if nothing does.
    other: what to do instead, or ''.
  """
  wrong = [row for row in rows if row.refused]
  if not wrong:
    return
  listed = '; '.join(
    f'{row.name} {list(row.shape)} would be {"unused" if row.outcome == "unused" else "newly initialized"}'
    f'{f" ({row.note})" if row.note else ""}'
    for row in wrong[:4]
  )
  more = f'; and {len(wrong) - 4} more' if len(wrong) > 4 else ''
  layers = '+'.join(dict.fromkeys(layer_of(row.name) for row in wrong))
  hint = f'if you intend that, pass {allow.format(layers)}' if allow else 'expected a file with exactly its parameters'
  hint = '; or, '.join(filter(None, (other, hint)))
  raise UserError(f'{name} does not fit the network: {listed}{more}; {hint}')


def _other_sizes(weights: Weights, parameters: dict) -> str:
  """What to do if the file has a VGG-16 of another width than the network; '' otherwise."""
  first, last = (f'trunk/{layer}/bias' for layer in ('conv1_1', 'fc6'))
  if not {first, last} <= weights.tensors.keys() & parameters.keys():
    return ''
  sizes = [weights.tensors[path].value.shape for path in (first, last)]
  if sizes == [parameters[path].shape for path in (first, last)]:
    return ''
  width = sizes[0][0] / names.BACKBONES['vgg16'].channels
  return f'the file is for model.width={width:g} and model.fc_channels={sizes[1][0] / width:g}: set both'


def layer_of(name: str) -> str:
  """The layer of a parameter path or of a name in a file: fc6 for trunk/fc6/kernel."""
  return re.sub(r'^trunk(_[^/]+)?/|/(kernel|bias|scale|mean|var)$|\.(weight|bias)$|\[\d+\]$', '', name)


def _check_factors(weights: Weights, model, name: str) -> None:
  """Raises `UserError` if an FCN in the file has other factors than the network; a backbone alone fits any network."""
  expected = fcn.AT_ONCE if model.at_once else {}
  is_fcn = 'score_pool4/kernel' in weights.tensors
  close = expected.keys() == weights.factors.keys() and all(
    np.isclose(weights.factors[pool], factor, rtol=1e-4) for pool, factor in expected.items()
  )
  if not close and (is_fcn or weights.factors):
    raise UserError(
      f'{name} multiplies the pools by {weights.factors or "nothing"}, but the network multiplies them by '
      f'{expected or "nothing"}; set model.at_once={not model.at_once}'
    )


def load(config, inputs: dict[str, int], heads: dict, name: str) -> tuple[ml_collections.ConfigDict, dict]:
  """A network whose parameters all come from a weights file.

  Args:
    config: of a run.
    inputs: channels of each input stream.
    heads: classes of each head.
    name: the file, or a key of `KNOWN`.

  Returns:
    The config with the preprocessing of the file, and the parameters.

  Raises:
    UserError: see `normalization.resolve` and `fit`; also if the file lacks a part of the network.
  """
  weights = read(name, config.init.preprocessing)
  config = normalization.resolve(config, weights, name)
  model = models.build(config.model, inputs, heads)
  shapes = jax.eval_shape(model.init, jax.random.key(0), model.example_inputs())['params']
  params, rows = fit(shapes, weights, config, name, whole=True)
  logger.info(summary_line(rows, name))
  return config, params
