"""Files of VGG-16 and FCN weights from elsewhere, read into this network's names and layout.

`read` knows Caffe's .caffemodel, torchvision's and timm's .safetensors, .h5 of Keras applications and the .npz that
`write` makes, by the ending. No pickle is ever loaded. Kernels come out as [height, width, in, out] for RGB pictures,
whatever order of channels the file was trained on, with the preprocessing that belongs to them.
"""

import os
import pathlib

import numpy as np

from fcn_jax.errors import UserError
from fcn_jax.weights.caffe import _read_caffemodel
from fcn_jax.weights.keras import _read_h5
from fcn_jax.weights.safetensors import _read_safetensors
from fcn_jax.weights.tensors import Tensor, Weights


def read(path) -> Weights:
  """The weights in a file.

  Raises:
    UserError: there is no such file, it is of another kind or damaged, or holds another network.
  """
  path = pathlib.Path(path).expanduser()
  if path.suffix in ('.pth', '.pt', '.bin', '.pkl'):
    raise UserError(
      f'{path} is a pickle, which can run any code, and is not loaded; where you trust it, convert it with '
      f"python -c \"import torch; from safetensors.torch import save_file; save_file(torch.load('{path.name}', "
      f"map_location='cpu', weights_only=True), '{path.stem}.safetensors')\""
    )
  if path.suffix not in READERS:
    raise UserError(f'{path} ends in {path.suffix!r}; expected one of {", ".join(READERS)}')
  if not path.is_file():
    raise UserError(f'there is no file {path}')
  try:
    weights = READERS[path.suffix](path)
  except ModuleNotFoundError as error:
    raise UserError(f"reading {path.suffix} wants {error.name}: pip install 'fcn_jax[weights]'") from error
  except UserError as error:
    raise UserError(f'{path}: {error}') from error
  except Exception as error:  # whatever a damaged file makes a library raise
    reason = str(error).split('\n')[0]
    raise UserError(f'{path} cannot be read as {path.suffix}: {reason}; expected a whole file') from error
  for name, tensor in weights.tensors.items():
    if not np.isfinite(tensor.value).all():
      raise UserError(f'{path}: {tensor.source}, for {name}, holds values that are not finite')
  return weights


def write(path, weights: Weights) -> None:
  """Writes an .npz that `read` reads."""
  arrays = {name: tensor.value for name, tensor in weights.tensors.items()}
  arrays |= {'preprocessing/mean': np.array(weights.mean), 'preprocessing/std': np.array(weights.std)}
  arrays |= {f'factor/{pool}': np.array(factor) for pool, factor in weights.factors.items()}
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    with partial.open('wb') as file:
      np.savez(file, **arrays)
    partial.replace(path)
  finally:
    partial.unlink(missing_ok=True)


def _read_npz(path) -> Weights:
  with np.load(path, allow_pickle=False) as file:
    arrays = {name: file[name] for name in file.files}
  try:
    mean, std = (tuple(arrays.pop(f'preprocessing/{name}').tolist()) for name in ('mean', 'std'))
  except KeyError as error:
    raise UserError('has no preprocessing; expected a file that python -m fcn_jax.weights has written') from error
  factors = {name.removeprefix('factor/'): float(arrays.pop(name)) for name in list(arrays) if name[:7] == 'factor/'}
  return Weights({name: Tensor(x, name) for name, x in arrays.items()}, {}, mean, std, factors)


READERS = {
  '.caffemodel': _read_caffemodel,
  '.safetensors': _read_safetensors,
  '.h5': _read_h5,
  '.npz': _read_npz,
}
