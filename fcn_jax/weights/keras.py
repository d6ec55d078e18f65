"""Reads the VGG16 weights of Keras applications (.h5)."""

import re

import numpy as np

from fcn_jax.weights.tensors import KERAS_MEAN, Weights, _check_whole, _layer, _place


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
