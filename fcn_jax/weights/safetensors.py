"""Reads the VGG-16 of torchvision and of timm (.safetensors)."""

import pathlib
import re

import numpy as np

from fcn_jax.errors import UserError
from fcn_jax.weights.tensors import CONVOLUTIONS, IMAGENET_MEAN, IMAGENET_STD, Weights, convert_layer

_CONVOLUTION = re.compile(r'features\.(\d+)\.weight')
_FULLY_CONNECTED = {'fc6': ('classifier.0', 'pre_logits.fc1'), 'fc7': ('classifier.3', 'pre_logits.fc2')}
_BATCH_NORM_EPSILON = 1e-5  # PyTorch's default, which both libraries use


def read(path: pathlib.Path) -> Weights:
  """The weights of VGG-16. Batch norm, if there is any, is folded into the convolutions.

  Raises:
    UserError: the file does not have the 13 convolutions of VGG-16.
  """
  from safetensors.numpy import load_file

  arrays = load_file(path)
  numbers = sorted(int(m[1]) for name, x in arrays.items() if (m := _CONVOLUTION.fullmatch(name)) and x.ndim == 4)
  if len(numbers) != len(CONVOLUTIONS):
    raise UserError(f'{len(numbers)} convolutions named features.N.weight; expected the {len(CONVOLUTIONS)} of VGG-16')
  sources = {f'trunk/{name}': f'features.{number}' for name, number in zip(CONVOLUTIONS, numbers, strict=True)}
  for layer, names in _FULLY_CONNECTED.items():
    sources |= {f'trunk/{layer}': name for name in names if f'{name}.weight' in arrays}
  tensors = {}
  for target, source in sources.items():
    kernel, bias = (arrays.pop(f'{source}.{kind}') for kind in ('weight', 'bias'))
    change = ''
    if match := re.fullmatch(r'features\.(\d+)', source):
      norm = f'features.{int(match[1]) + 1}'
      if f'{norm}.running_mean' in arrays:
        kernel, bias = _fold(kernel, bias, arrays, norm)
        change = f'batch norm {norm} folded in'
    tensors |= convert_layer(target, kernel, bias, source, change=change)
  mean, std = (tuple(255 * x for x in values) for values in (IMAGENET_MEAN, IMAGENET_STD))
  return Weights(tensors, {name: x.shape for name, x in arrays.items()}, mean, std)


def _fold(kernel, bias, arrays: dict, norm: str) -> tuple:
  """The kernel [O, I, h, w] and bias of a convolution with the batch norm after it; removes `norm` from `arrays`."""
  gain, shift, mean, variance = (
    arrays.pop(f'{norm}.{name}') for name in ('weight', 'bias', 'running_mean', 'running_var')
  )
  arrays.pop(f'{norm}.num_batches_tracked', None)
  factor = gain / np.sqrt(variance + _BATCH_NORM_EPSILON)
  return kernel * factor[:, None, None, None], (bias - mean) * factor + shift
