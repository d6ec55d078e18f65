"""Files of VGG-16 and FCN weights from elsewhere, read into this network's names and layout.

`read` knows Caffe's .caffemodel, torchvision's and timm's .safetensors, .h5 of Keras applications and the .npz that
`write` makes, by the ending. No pickle is ever loaded. Kernels come out as [height, width, in, out] for RGB pictures,
whatever order of channels the file was trained on, with the preprocessing that belongs to them.
"""

import dataclasses
import os
import pathlib
import re

import numpy as np

from fcn_jax.errors import UserError
from fcn_jax.models.grid import SKIP_STRIDES
from fcn_jax.models.vgg import BLOCKS

CONVOLUTIONS = [f'conv{block + 1}_{i + 1}' for block, (_, count) in enumerate(BLOCKS) for i in range(count)]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, of RGB in 0..1
# Of the authors' networks (`net.py`), R, G, B. VGG-16's own differs by up to 1; the authors trained from it with this.
CAFFE_MEAN = (122.67892, 116.66877, 104.00699)
KERAS_MEAN = (123.68, 116.779, 103.939)  # keras.applications.vgg16.preprocess_input
# The classifier of ImageNet's classes, in each format: an FCN discards it (CVPR'15, section 4.1).
CLASSIFIERS = ('fc8', 'classifier.6', 'head.fc', 'predictions')
# The authors' names of the transposed convolutions of FCN-32s, 16s and 8s.
UPSAMPLING = {
  'upscore': 'upsample_to_1',
  'upscore2': 'upsample_to_16',
  'upscore16': 'upsample_to_1',
  'upscore_pool4': 'upsample_to_8',
  'upscore8': 'upsample_to_1',
}
_BATCH_NORM_EPSILON = 1e-5  # PyTorch's default, which both libraries keep


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor in this network's layout, its name in the file, and what was done to it, or ''."""

  value: np.ndarray
  source: str
  change: str = ''


@dataclasses.dataclass(frozen=True)
class Weights:
  """What a file holds.

  Attributes:
    tensors: by the path of the parameter, as trunk/conv1_1/kernel.
    others: shapes of what has no place in the network, by their names in the file.
    mean, std: of R, G, B in 0..255, subtracted and divided by.
    factors: constants that pools are multiplied by, as {'pool4': 0.01}: of FCN-8s at-once.
  """

  tensors: dict[str, Tensor]
  others: dict[str, tuple[int, ...]]
  mean: tuple[float, float, float]
  std: tuple[float, float, float] = (1.0, 1.0, 1.0)
  factors: dict[str, float] = dataclasses.field(default_factory=dict)


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


def _read_caffemodel(path) -> Weights:
  from fcn_jax.weights import caffe

  tensors, others, factors = {}, {}, {}
  for name, blobs in caffe.layers(path.read_bytes()):
    if name in UPSAMPLING:
      tensors[f'{UPSAMPLING[name]}/kernel'] = Tensor(_diagonal(blobs[0], name), name)
    elif name.removeprefix('scale_') in SKIP_STRIDES:
      factors[name.removeprefix('scale_')] = _constant(blobs[0], name)
    elif target := _place(name):
      tensors |= _layer(target, blobs[0], blobs[1] if len(blobs) > 1 else None, name, bgr=True)
    else:
      others |= {name if i == 0 else f'{name}[{i}]': blob.shape for i, blob in enumerate(blobs)}
  _check_whole(tensors, 'no layers named as those of VGG-16 (conv1_1 to conv5_3)')
  return Weights(tensors, others, CAFFE_MEAN, factors=factors)


def _place(name: str) -> str:
  """The path of a layer in this network from its Caffe name; '' where it has none."""
  if name in CONVOLUTIONS or name in ('fc6', 'fc7'):
    return f'trunk/{name}'
  return name if name == 'score_fr' or name.removeprefix('score_') in SKIP_STRIDES else ''


def _diagonal(kernel: np.ndarray, name: str) -> np.ndarray:
  """Caffe's transposed convolution, [C, C, k, k], as one kernel a class, [k, k, C]."""
  if kernel.ndim != 4 or kernel.shape[0] != kernel.shape[1]:
    raise UserError(f'{name} is {list(kernel.shape)}; expected [C, C, k, k]')
  own = np.eye(len(kernel), dtype=bool)
  if kernel[~own].any():
    raise UserError(
      f'{name} mixes classes, with weights up to {np.abs(kernel[~own]).max():.1e} off the diagonal; expected '
      'interpolation of each class alone'
    )
  return np.moveaxis(kernel[own], 0, -1)


def _constant(factor: np.ndarray, name: str) -> float:
  if np.ptp(factor) > 1e-6 * np.abs(factor).max():
    raise UserError(f'{name} is {factor.min():g} to {factor.max():g}; expected one constant')
  return float(factor.flat[0])


def _read_safetensors(path) -> Weights:
  """torchvision's and timm's VGG-16, with or without batch norm, which is folded into the convolutions."""
  from safetensors.numpy import load_file

  arrays = load_file(path)
  numbers = sorted(int(m[1]) for name, x in arrays.items() if (m := _FEATURE.fullmatch(name)) and x.ndim == 4)
  if len(numbers) != len(CONVOLUTIONS):
    raise UserError(f'has {len(numbers)} convolutions named features.N.weight; expected the 13 of VGG-16')
  sources = {f'trunk/{name}': f'features.{number}' for name, number in zip(CONVOLUTIONS, numbers, strict=True)}
  for layer, names in (('fc6', ('classifier.0', 'pre_logits.fc1')), ('fc7', ('classifier.3', 'pre_logits.fc2'))):
    sources |= {f'trunk/{layer}': name for name in names if f'{name}.weight' in arrays}
  tensors = {}
  for target, source in sources.items():
    kernel, bias = (arrays.pop(f'{source}.{kind}') for kind in ('weight', 'bias'))
    change = ''
    if match := re.fullmatch(r'features\.(\d+)', source):
      norm = f'features.{int(match[1]) + 1}'
      if f'{norm}.running_mean' in arrays:
        kernel, bias = _folded(kernel, bias, arrays, norm)
        change = f'batch norm {norm} folded in'
    tensors |= _layer(target, kernel, bias, source, change=change)
  mean, std = (tuple(255 * x for x in values) for values in (IMAGENET_MEAN, IMAGENET_STD))
  return Weights(tensors, {name: x.shape for name, x in arrays.items()}, mean, std)


_FEATURE = re.compile(r'features\.(\d+)\.weight')


def _folded(kernel, bias, arrays: dict, norm: str) -> tuple:
  """A convolution [O, I, h, w] that does what itself and a batch norm after it do; takes that out of `arrays`."""
  gain, shift, mean, variance = (
    arrays.pop(f'{norm}.{name}') for name in ('weight', 'bias', 'running_mean', 'running_var')
  )
  arrays.pop(f'{norm}.num_batches_tracked', None)
  factor = gain / np.sqrt(variance + _BATCH_NORM_EPSILON)
  return kernel * factor[:, None, None, None], (bias - mean) * factor + shift


def _read_h5(path) -> Weights:
  """Keras applications' VGG16, with or without its top."""
  import h5py

  layers = {}

  def collect(name, item):
    if isinstance(item, h5py.Dataset):
      layers.setdefault(name.split('/')[-2] if '/' in name else name, []).append(item[()])

  with h5py.File(path, 'r') as file:
    file.visititems(collect)
  tensors, others = {}, {}
  for name, arrays in layers.items():
    target = _KERAS.get(name, re.sub(r'block(\d)_conv(\d)', r'conv\1_\2', name))
    if _place(target) and len(arrays) == 2:
      bias, kernel = sorted(arrays, key=np.ndim)
      tensors |= _layer(_place(target), kernel, bias, name, bgr=True, channels_last=True)
    else:
      others |= {name if i == 0 else f'{name}[{i}]': x.shape for i, x in enumerate(arrays)}
  _check_whole(tensors, 'no layers named block1_conv1 to block5_conv3')
  return Weights(tensors, others, KERAS_MEAN)


_KERAS = {'fc1': 'fc6', 'fc2': 'fc7'}


def _layer(target: str, kernel, bias, source: str, *, bgr=False, channels_last=False, change='') -> dict[str, Tensor]:
  """A layer's tensors, in this network's layout.

  Args:
    target: path of the layer.
    kernel: [out, in, height, width] or [out, in]; with `channels_last` [height, width, in, out] or [in, out].
    bias: any shape of `out` elements, or None.
    source: name in the file.
    bgr: the file's first convolution takes B, G, R.
    change: what was done to the layer already.
  """
  found, changes = list(kernel.shape), [change] if change else []
  if kernel.ndim == 2:  # a fully connected layer, as a convolution that sees the whole of the classifier's 7x7 map
    side = 7 if target.endswith('fc6') else 1
    kernel = kernel if channels_last else kernel.T
    if len(kernel) % side**2:
      raise UserError(f'{source} is {found}; expected a multiple of {side**2} inputs')
    inside = (side, side, -1) if channels_last else (-1, side, side)
    kernel = kernel.reshape(*inside, kernel.shape[-1])
    kernel = kernel if channels_last else kernel.transpose(1, 2, 0, 3)
    changes.append(f'reshaped from {found}')
  elif kernel.ndim == 4:
    kernel = kernel if channels_last else kernel.transpose(2, 3, 1, 0)
  else:
    raise UserError(f'{source} is {found}; expected a kernel of 2 or 4 axes')
  if bgr and target == 'trunk/conv1_1':
    kernel = kernel[:, :, ::-1]
    changes.append('BGR turned to RGB')
  tensors = {f'{target}/kernel': Tensor(np.ascontiguousarray(kernel, np.float32), source, ', '.join(changes))}
  if bias is not None:
    tensors[f'{target}/bias'] = Tensor(np.asarray(bias, np.float32).reshape(-1), source, change)
  return tensors


def _check_whole(tensors: dict, otherwise: str) -> None:
  missing = [name for name in CONVOLUTIONS if f'trunk/{name}/kernel' not in tensors]
  if len(missing) == len(CONVOLUTIONS):
    raise UserError(f'has {otherwise}')
  if missing:
    raise UserError(f'has no {", ".join(missing)}; expected all convolutions of VGG-16')


READERS = {
  '.caffemodel': _read_caffemodel,
  '.safetensors': _read_safetensors,
  '.h5': _read_h5,
  '.npz': _read_npz,
}
