"""Reads the VGG-16 of torchvision and of timm (.safetensors)."""

import re

import numpy as np

from fcn_jax.errors import UserError
from fcn_jax.models import names
from fcn_jax.weights.tensors import CONVOLUTIONS, Weights, convert_layer, float32

_CONVOLUTION = re.compile(r'features\.(\d+)\.weight')
_FULLY_CONNECTED = {'fc6': ('classifier.0', 'pre_logits.fc1'), 'fc7': ('classifier.3', 'pre_logits.fc2')}
_BATCH_NORM_EPSILON = 1e-5  # PyTorch's default, which both libraries use
_TYPES = {'F16': '<f2', 'F32': '<f4', 'F64': '<f8', 'BOOL': '?', 'U8': 'u1', 'I8': 'i1', 'I32': '<i4', 'I64': '<i8'}


def read(content: bytes) -> Weights:
  """The weights of VGG-16 for R, G, B. Batch norm, if there is any, is folded into the convolutions.

  Raises:
    UserError: the file does not have the 13 convolutions of VGG-16.
  """
  arrays = _arrays(content)
  numbers = sorted(int(m[1]) for name, x in arrays.items() if (m := _CONVOLUTION.fullmatch(name)) and x.ndim == 4)
  if len(numbers) != len(CONVOLUTIONS):
    raise UserError(f'{len(numbers)} convolutions named features.N.weight; expected the {len(CONVOLUTIONS)} of VGG-16')
  sources = {f'trunk/{name}': f'features.{number}' for name, number in zip(CONVOLUTIONS, numbers, strict=True)}
  for layer, usual in _FULLY_CONNECTED.items():
    sources |= {f'trunk/{layer}': name for name in usual if f'{name}.weight' in arrays}
  tensors = {}
  for target, source in sources.items():
    kernel, bias, change = arrays.pop(f'{source}.weight'), arrays.pop(f'{source}.bias', None), ''
    if target.startswith('trunk/fc') and not np.isfinite(kernel).any():  # torchvision's file of the features alone
      continue
    if match := re.fullmatch(r'features\.(\d+)', source):
      norm = f'features.{int(match[1]) + 1}'
      if f'{norm}.running_mean' in arrays:
        kernel, bias = _fold(kernel, bias, arrays, norm)
        change = f'batch norm {norm} folded in'
    tensors |= convert_layer(target, kernel, bias, source, change=change)
  others = {name: x.shape for name, x in arrays.items()}
  return Weights(tensors, others, *names.PREPROCESSING['torchvision'], assumed='torchvision')


def _arrays(content: bytes) -> dict[str, np.ndarray]:
  """The arrays of a file by name. bfloat16, which numpy lacks, is read as float32."""
  from safetensors import deserialize

  arrays = {}
  for name, array in deserialize(content):
    if array['dtype'] == 'BF16':
      values = (np.frombuffer(array['data'], '<u2').astype('<u4') << 16).view('<f4')
    elif array['dtype'] in _TYPES:
      values = np.frombuffer(array['data'], _TYPES[array['dtype']])
    else:
      raise UserError(f'{name} has the type {array["dtype"]}; expected F16, BF16, F32 or F64')
    arrays[name] = values.reshape(array['shape'])
  return arrays


def _fold(kernel, bias, arrays: dict, norm: str) -> tuple:
  """The kernel [O, I, h, w] and bias of a convolution with the batch norm after it; removes `norm` from `arrays`."""
  gain, shift, mean, variance = (
    float32(arrays.pop(f'{norm}.{name}'), norm) for name in ('weight', 'bias', 'running_mean', 'running_var')
  )
  arrays.pop(f'{norm}.num_batches_tracked', None)
  factor = gain / np.sqrt(variance + _BATCH_NORM_EPSILON)
  return kernel * factor[:, None, None, None], ((0 if bias is None else bias) - mean) * factor + shift
