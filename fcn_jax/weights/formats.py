"""Reads and writes weights files; the suffix decides the format.

`read` takes .caffemodel (Caffe), .safetensors (torchvision, timm), .h5 (Keras applications) and .npz (`write`), but no
pickles. Kernels are returned as [height, width, in, out] for RGB images, whatever the channel order of the file,
together with the preprocessing that the file was trained with. The order in a file is that of its library: B, G, R in
.caffemodel and .h5, R, G, B in .safetensors.
"""

import dataclasses
import io
import os

import numpy as np
from etils import epath

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.models import names
from fcn_jax.run import saved
from fcn_jax.weights import caffe, keras, safetensors
from fcn_jax.weights.tensors import CONVOLUTIONS, Tensor, Weights, check, check_complete, float32


def refuse_run(path: epath.Path) -> None:
  """Raises `UserError` if the path is a run directory, which is used in other ways than a weights file."""
  if saved.is_run(path):
    raise UserError(
      f'{path} is a run, not a weights file. To start another run from its parameters, train with '
      f'--config.init.run={path}; to segment images or to score it, run python -m fcn_jax.predict or fcn_jax.evaluate '
      f'with --workdir={path}; in Python, use fcn_jax.load_run'
    )


def read(given: os.PathLike | str, preprocessing: str = 'from_file') -> Weights:
  """The weights in a file.

  Args:
    given: path of the file.
    preprocessing: a key of `models.names.PREPROCESSING` that replaces the file's mean and std, or 'from_file'.

  Raises:
    UserError: the file does not exist, has another format, is damaged, or has the weights of another network.
  """
  path = files.path(given)
  refuse_run(path)
  suffix = path.suffix.lower()
  if suffix in ('.pth', '.pt', '.bin', '.pkl'):
    raise UserError(
      f'{path} is a pickle, which can run any code when it is loaded; expected one of {", ".join(READERS)}. If you '
      'trust the file, convert it with '
      f"python -c \"import torch; from safetensors.torch import save_file; save_file(torch.load('{path.name}', "
      f"map_location='cpu', weights_only=True), '{path.stem}.safetensors')\""
    )
  if suffix not in READERS:
    raise UserError(f'{path} has the suffix {path.suffix!r}; expected one of {", ".join(READERS)}')
  if not files.exists(path):
    raise UserError(f'there is no weights file {path}')
  content = files.read(path)
  try:
    weights = READERS[suffix](content)
    check(weights)
  except ModuleNotFoundError as error:
    raise UserError(f"reading {suffix} requires {error.name}: pip install 'fcn_jax[weights]'") from error
  except UserError as error:
    raise UserError(f'{path}: {error}') from error
  except KeyError as error:
    raise UserError(f'{path} has no array {error.args[0]!r}; expected a complete file') from error
  except Exception as error:  # whatever the libraries raise for a damaged file
    reason = str(error).split('\n')[0]
    raise UserError(
      f'{path} cannot be read as {suffix}: {reason}; expected a complete file: download or convert it again'
    ) from error
  if preprocessing != 'from_file':
    mean, std = names.PREPROCESSING[preprocessing]
    weights = dataclasses.replace(weights, mean=mean, std=std, assumed='')
  return weights


def write(path: os.PathLike | str, weights: Weights) -> None:
  """Writes an .npz file that `read` reads."""
  arrays = {name: tensor.value for name, tensor in weights.tensors.items()}
  arrays |= {'preprocessing/mean': np.array(weights.mean), 'preprocessing/std': np.array(weights.std)}
  arrays |= {f'factor/{pool}': np.array(factor) for pool, factor in weights.factors.items()}
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  files.write(files.path(path), buffer.getvalue())


def _read_npz(content: bytes) -> Weights:
  with np.load(io.BytesIO(content), allow_pickle=False) as file:
    arrays = {name: file[name] for name in file.files}
  try:
    mean, std = (_numbers(arrays.pop(name), name, 1) for name in ('preprocessing/mean', 'preprocessing/std'))
  except KeyError as error:
    raise UserError(f'no array {error.args[0]!r}; expected a file written by python -m fcn_jax.weights') from error
  if len(std) != len(mean) or min(std, default=0) <= 0:
    raise UserError(f'preprocessing/std is {std}; expected numbers above 0, as many as in preprocessing/mean, {mean}')
  names_of_factors = [name for name in arrays if name.startswith('factor/')]
  factors = {name.removeprefix('factor/'): _numbers(arrays.pop(name), name, 0) for name in names_of_factors}
  tensors = {name: Tensor(float32(x, name), name) for name, x in arrays.items()}
  if any(f'trunk/{layer}/bias' in tensors for layer in CONVOLUTIONS):  # VGG-16
    check_complete(tensors, 'trunk/conv1_1 to trunk/conv5_3', [])
  return Weights(tensors, {}, mean, std, factors)


def _numbers(x: np.ndarray, name: str, axes: int):
  """The numbers in an array: a tuple, or without axes one number. Raises: UserError: there are no such numbers."""
  if x.dtype.kind not in 'fiu' or x.ndim != axes or not np.isfinite(x).all():
    expected = 'a list of finite numbers' if axes else 'one finite number'
    raise UserError(f'{name} is {np.array2string(x, threshold=4, separator=", ")}; expected {expected}')
  return tuple(x.tolist()) if axes else float(x)


READERS = {'.caffemodel': caffe.read, '.safetensors': safetensors.read, '.h5': keras.read, '.npz': _read_npz}
