"""What the readers of weights files share: types, layer names, preprocessing constants and layouts. No jax."""

import dataclasses

import numpy as np

from fcn_jax.errors import UserError
from fcn_jax.models import names

# The 3x3 convolutions of VGG-16, first to last: conv1_1 to conv5_3.
CONVOLUTIONS = [f'conv{block}_{i + 1}' for block, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(count)]
SKIPS = tuple(names.skip_strides('vgg16'))

# The classifier of the ImageNet classes in each format. An FCN discards it (CVPR'15, section 4.1).
CLASSIFIERS = ('fc8', 'classifier.6', 'head.fc', 'predictions')

# Preprocessing of R, G, B in 0..255, except for torchvision's, which is of R, G, B in 0..1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# From the FCN authors' `net.py`. The mean of VGG-16 itself differs by up to 1; the authors fine-tuned with this one.
CAFFE_MEAN = (122.67892, 116.66877, 104.00699)
KERAS_MEAN = (123.68, 116.779, 103.939)  # keras.applications.vgg16.preprocess_input


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor in this network's layout.

  Attributes:
    value: float32; a kernel is [height, width, in, out], an upsampling kernel [height, width, classes].
    source: its name in the file.
    change: what the reader changed, for the log; '' if nothing.
  """

  value: np.ndarray
  source: str
  change: str = ''


@dataclasses.dataclass(frozen=True)
class Weights:
  """The content of a weights file.

  Attributes:
    tensors: by parameter path, for example trunk/conv1_1/kernel.
    others: shapes of the arrays that have no place in the network, by their names in the file.
    mean: of R, G, B in 0..255, subtracted from images.
    std: of R, G, B in 0..255, which images are then divided by.
    factors: constants that pools are multiplied by, for example {'pool4': 0.01}; only in FCN-8s at-once.
  """

  tensors: dict[str, Tensor]
  others: dict[str, tuple[int, ...]]
  mean: tuple[float, float, float]
  std: tuple[float, float, float] = (1.0, 1.0, 1.0)
  factors: dict[str, float] = dataclasses.field(default_factory=dict)


def layer_path(name: str) -> str:
  """The parameter path of a layer from its Caffe name, for example trunk/fc6; '' if the network has no such layer."""
  if name in CONVOLUTIONS or name in ('fc6', 'fc7'):
    return f'trunk/{name}'
  return name if name == 'score_fr' or name.removeprefix('score_') in SKIPS else ''


def convert_layer(
  path: str, kernel, bias, source: str, *, bgr: bool = False, channels_last: bool = False, change: str = ''
) -> dict[str, Tensor]:
  """The kernel and bias of a layer in this network's layout, by parameter path.

  Args:
    path: parameter path of the layer.
    kernel: [out, in, height, width] or [out, in]; with `channels_last` [height, width, in, out] or [in, out].
    bias: any shape with `out` elements, or None.
    source: name of the layer in the file.
    bgr: the first convolution of the file takes B, G, R; its input channels are reversed.
    change: what was done to the layer already.

  Raises:
    UserError: the kernel has another number of axes, or its inputs do not fit the 7x7 feature map of fc6.
  """
  shape, changes = list(kernel.shape), [change] if change else []
  if kernel.ndim == 2:  # fully connected: a convolution whose kernel covers the whole feature map of the classifier
    side = 7 if path.endswith('fc6') else 1
    if shape[0 if channels_last else 1] % side**2:
      raise UserError(f'{source} has shape {shape}; expected a multiple of {side**2} inputs')
    kernel = kernel.reshape((side, side, -1, shape[1]) if channels_last else (shape[0], -1, side, side))
    changes.append(f'reshaped from {shape}')
  if kernel.ndim != 4:
    raise UserError(f'{source} has shape {shape}; expected a kernel with 2 or 4 axes')
  if not channels_last:
    kernel = kernel.transpose(2, 3, 1, 0)
  if bgr and path == 'trunk/conv1_1':
    kernel = kernel[:, :, ::-1]
    changes.append('BGR reversed to RGB')
  tensors = {f'{path}/kernel': Tensor(np.ascontiguousarray(kernel, np.float32), source, ', '.join(changes))}
  if bias is not None:
    tensors[f'{path}/bias'] = Tensor(np.asarray(bias, np.float32).reshape(-1), source, change)
  return tensors


def check_complete(tensors: dict[str, Tensor], names_in_file: str) -> None:
  """Raises `UserError` unless all convolutions of VGG-16 are there; `names_in_file` describes their usual names."""
  missing = [name for name in CONVOLUTIONS if f'trunk/{name}/kernel' not in tensors]
  if len(missing) == len(CONVOLUTIONS):
    raise UserError(f'no layers named {names_in_file}; expected the convolutions of VGG-16')
  if missing:
    raise UserError(f'no {", ".join(missing)}; expected all {len(CONVOLUTIONS)} convolutions of VGG-16')
