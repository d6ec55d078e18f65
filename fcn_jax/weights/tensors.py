"""What the readers of weights files share: types, layer names, layouts and the check of all shapes. No jax."""

import dataclasses

import numpy as np

from fcn_jax.errors import UserError
from fcn_jax.models import names

# The 3x3 convolutions of VGG-16, first to last: conv1_1 to conv5_3.
CONVOLUTIONS = [f'conv{block}_{i + 1}' for block, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(count)]
SKIPS = tuple(names.skip_strides('vgg16'))

# The classifier of the ImageNet classes in each format. An FCN discards it (CVPR'15, section 4.1).
CLASSIFIERS = ('fc8', 'classifier.6', 'head.fc', 'predictions')

# The layer that each layer reads.
_READS = dict(zip((*CONVOLUTIONS[1:], 'fc6', 'fc7', 'score_fr'), (*CONVOLUTIONS, 'fc6', 'fc7'), strict=True))
_READS |= {'score_pool4': 'conv4_3', 'score_pool3': 'conv3_3', 'score_pool2': 'conv2_2', 'score_pool1': 'conv1_2'}
# Channels of the blocks of VGG-16, relative to the first block.
_CHANNELS = {'1': 1, '2': 2, '3': 4, '4': 8, '5': 8}


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
    assumed: the library whose usual `mean` and `std` these are; '' if the file or the user gives them.
  """

  tensors: dict[str, Tensor]
  others: dict[str, tuple[int, ...]]
  mean: tuple[float, float, float]
  std: tuple[float, float, float] = (1.0, 1.0, 1.0)
  factors: dict[str, float] = dataclasses.field(default_factory=dict)
  assumed: str = ''


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
  tensors = {f'{path}/kernel': Tensor(np.ascontiguousarray(float32(kernel, source)), source, ', '.join(changes))}
  if bias is not None:
    tensors[f'{path}/bias'] = Tensor(float32(bias, source).reshape(-1), source, change)
  return tensors


def float32(x: np.ndarray, source: str) -> np.ndarray:
  """An array of floating-point numbers of any precision, in single precision.

  Raises:
    UserError: the numbers are of another kind, for example quantized ones.
  """
  if x.dtype.kind != 'f':
    raise UserError(f'{source} has the type {x.dtype}; expected float16, float32 or float64')
  with np.errstate(over='ignore'):  # `check` refuses infinity
    return x.astype(np.float32)


def check_complete(tensors: dict[str, Tensor], usual: str, others: list[str]) -> None:
  """Raises `UserError` unless all convolutions of VGG-16 are there.

  Args:
    tensors: by parameter path.
    usual: the names that such layers usually have in the file.
    others: the names of the other arrays in the file.
  """
  missing = [name for name in CONVOLUTIONS if f'trunk/{name}/kernel' not in tensors]
  if len(missing) == len(CONVOLUTIONS):
    found = f' (there are {", ".join(others[:3])}{", ..." if len(others) > 3 else ""})' if others else ''
    raise UserError(f'no layers named {usual}{found}; expected the convolutions of VGG-16')
  if missing:
    raise UserError(f'no {", ".join(missing)}; expected all {len(CONVOLUTIONS)} convolutions of VGG-16')


def check(weights: Weights) -> None:
  """Checks that the layers fit each other, as those of a VGG-16 of any width do, and that all values are finite.

  Raises:
    UserError: a kernel has another size or number of channels, a bias is missing, or a value is not finite.
  """
  tensors, first = weights.tensors, 0
  for path, tensor in tensors.items():
    if not np.isfinite(tensor.value).all():
      raise UserError(f'{tensor.source}, for {path}, has values that are not finite; use another file')
    backbone, _, layer = path.removesuffix('/kernel').rpartition('/')
    if not path.endswith('/kernel') or not (layer in CONVOLUTIONS or layer in _READS):
      continue
    if tensor.value.ndim != 4:
      raise UserError(f'{tensor.source} has {tensor.value.ndim} axes; expected a kernel with 4')
    folder = backbone or 'trunk'
    before = tensors.get(f'{folder}/{_READS[layer]}/kernel') if layer in _READS else None
    *side, inputs, outputs = tensor.value.shape
    expected = [*side, before.value.shape[-1] if before else inputs, outputs]
    if layer in CONVOLUTIONS:  # the side of fc6 is left to `match.fit`: some networks have a smaller one
      start = tensors.get(f'{folder}/conv1_1/kernel', tensor)
      expected = [3, 3, expected[2], start.value.shape[-1] * _CHANNELS[layer[4]]]
    if [*side, inputs, outputs] != expected:
      raise UserError(
        f'{tensor.source}, for {path}, is {[*side, inputs, outputs]} as [height, width, in, out]; expected {expected}'
      )
    bias = tensors.get(path.removesuffix('kernel') + 'bias')
    if bias is None or bias.value.shape != (outputs,):
      found = 'no bias' if bias is None else f'a bias of {list(bias.value.shape)}'
      raise UserError(f'{tensor.source}, for {path}, has {found}; expected a bias of [{outputs}]')
    first += inputs if layer == 'conv1_1' else 0
  if first and first != len(weights.mean):
    raise UserError(
      f'the first convolution reads {first} channels; expected {len(weights.mean)}, as many as the mean has'
    )
