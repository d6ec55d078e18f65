"""What the readers of weights files share: types, layer names, layouts."""

import dataclasses

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
