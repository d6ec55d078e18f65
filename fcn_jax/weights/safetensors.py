"""Reads torchvision's and timm's VGG-16 (.safetensors)."""

import re

import numpy as np

from fcn_jax.errors import UserError
from fcn_jax.weights.tensors import _BATCH_NORM_EPSILON, CONVOLUTIONS, IMAGENET_MEAN, IMAGENET_STD, Weights, _layer


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
