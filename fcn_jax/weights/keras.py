"""Reads the VGG16 of Keras applications (.h5), written by `save_weights` or `model.save`, with or without optimizer."""

import io
import re

import numpy as np

from fcn_jax.errors import UserError
from fcn_jax.weights.tensors import Weights, check_complete, convert_layer, layer_path

_MEAN = (123.68, 116.779, 103.939)  # keras.applications.vgg16.preprocess_input
_FULLY_CONNECTED = {'fc1': 'fc6', 'fc2': 'fc7'}


def read(content: bytes) -> Weights:
  """The weights of VGG16, with or without its classifier.

  Raises:
    UserError: the file does not have the 13 convolutions of VGG-16, or has them in Theano's order.
  """
  tensors, others = {}, {}
  for name, arrays in _layers(content).items():
    target = layer_path(_FULLY_CONNECTED.get(name, re.sub(r'block(\d)_conv(\d)', r'conv\1_\2', name)))
    if target:
      if len(arrays) != 2:
        shapes = ', '.join(str(list(x.shape)) for x in arrays)
        raise UserError(f'{name} has {len(arrays)} arrays ({shapes}); expected 2: a kernel and a bias')
      bias, kernel = sorted(arrays, key=np.ndim)
      if kernel.ndim == 4 and kernel.shape[:2] != (3, 3) and kernel.shape[2:] == (3, 3):
        raise UserError(
          f"{name} has shape {list(kernel.shape)}, which is Theano's order (out, in, height, width); expected (height, "
          'width, in, out). Kernels in that order may also be rotated, which the file does not say: save the model '
          'again with Keras and channels_last'
        )
      tensors |= convert_layer(target, kernel, bias, name, bgr=True, channels_last=True)
    else:
      others |= {name if i == 0 else f'{name}[{i}]': x.shape for i, x in enumerate(arrays)}
  check_complete(tensors, 'block1_conv1 to block5_conv3', list(others))
  return Weights(tensors, others, _MEAN, assumed='Keras applications')


def _layers(content: bytes) -> dict[str, list[np.ndarray]]:
  """The arrays of each layer. `model.save` puts them beside the state of the optimizer, which has the same names."""
  import h5py

  layers = {}

  def collect(name, item):
    if isinstance(item, h5py.Dataset):
      folders = [part for part in name.split('/')[:-1] if part != 'vars']  # Keras 3: layers/conv2d/vars/0
      layers.setdefault(folders[-1] if folders else name, []).append(item[()])

  with h5py.File(io.BytesIO(content), 'r') as file:
    root = file.get('model_weights', file)
    if isinstance(root, h5py.Dataset):
      raise UserError('model_weights is an array; expected a group with the layers of the model')
    root.visititems(collect)
  return layers
