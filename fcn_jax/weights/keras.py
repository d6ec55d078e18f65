"""Reads the VGG16 of Keras applications (.h5)."""

import pathlib
import re

import numpy as np

from fcn_jax.weights.tensors import KERAS_MEAN, Weights, check_complete, convert_layer, layer_path

_FULLY_CONNECTED = {'fc1': 'fc6', 'fc2': 'fc7'}


def read(path: pathlib.Path) -> Weights:
  """The weights of VGG16, with or without its classifier.

  Raises:
    UserError: the file does not have the 13 convolutions of VGG-16.
  """
  import h5py

  layers = {}

  def collect(name, item):
    if isinstance(item, h5py.Dataset):
      layers.setdefault(name.split('/')[-2] if '/' in name else name, []).append(item[()])

  with h5py.File(path, 'r') as file:
    file.visititems(collect)
  tensors, others = {}, {}
  for name, arrays in layers.items():
    target = layer_path(_FULLY_CONNECTED.get(name, re.sub(r'block(\d)_conv(\d)', r'conv\1_\2', name)))
    if target and len(arrays) == 2:
      bias, kernel = sorted(arrays, key=np.ndim)
      tensors |= convert_layer(target, kernel, bias, name, bgr=True, channels_last=True)
    else:
      others |= {name if i == 0 else f'{name}[{i}]': x.shape for i, x in enumerate(arrays)}
  check_complete(tensors, 'block1_conv1 to block5_conv3')
  return Weights(tensors, others, KERAS_MEAN)
