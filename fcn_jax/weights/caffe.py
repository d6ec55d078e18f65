"""Reads .caffemodel files: VGG-16 and the FCN authors' networks. Needs protobuf, not Caffe."""

import functools
from collections.abc import Iterator

import numpy as np

from fcn_jax.errors import UserError
from fcn_jax.models import names
from fcn_jax.weights.tensors import SKIPS, Tensor, Weights, check_complete, convert_layer, layer_path

# The fields of `caffe.proto` that hold weights, by message. Packed floats are declared as bytes, which have the same
# encoding: otherwise protobuf would make a Python number of each of the 138 million values. Networks from before 2015
# have `layers`, later ones `layer`.
_MESSAGES = {
  'BlobShape': 'repeated int64 dim = 1',
  'BlobProto': 'optional int32 num = 1; optional int32 channels = 2; optional int32 height = 3; '
  'optional int32 width = 4; optional bytes data = 5; optional BlobShape shape = 7; optional bytes double_data = 8',
  'V1LayerParameter': 'optional string name = 4; repeated BlobProto blobs = 6',
  'LayerParameter': 'optional string name = 1; repeated BlobProto blobs = 7',
  'NetParameter': 'repeated V1LayerParameter layers = 2; repeated LayerParameter layer = 100',
}

# The transposed convolutions of the authors' FCN-32s, 16s and 8s, with the strides that they upsample to.
_UPSAMPLING = {'upscore': 1, 'upscore2': 16, 'upscore16': 1, 'upscore_pool4': 8, 'upscore8': 1}


def read(content: bytes) -> Weights:
  """The weights of VGG-16 or of one of the authors' FCNs.

  Raises:
    UserError: the file is not a Caffe network, or not one of these.
  """
  tensors, others, factors = {}, {}, {}
  for name, blobs in _layers(content):
    if name in _UPSAMPLING:
      tensors[f'upsample_to_{_UPSAMPLING[name]}/kernel'] = Tensor(_kernel_per_class(blobs[0], name), name)
    elif name.removeprefix('scale_') in SKIPS:
      factors[name.removeprefix('scale_')] = _constant(blobs[0], name)
    elif target := layer_path(name):
      tensors |= convert_layer(target, blobs[0], blobs[1] if len(blobs) > 1 else None, name, bgr=True)
    else:
      others |= {name if i == 0 else f'{name}[{i}]': blob.shape for i, blob in enumerate(blobs)}
  check_complete(tensors, 'like those of VGG-16 (conv1_1 to conv5_3)', list(others))
  return Weights(tensors, others, *names.PREPROCESSING['caffe'], factors=factors, assumed='Caffe')


def _layers(content: bytes) -> Iterator[tuple[str, list[np.ndarray]]]:
  """Name and float32 blobs of each layer that has any, in the order of the file."""
  from google.protobuf.message import DecodeError

  net = _net_parameter()()
  try:
    net.ParseFromString(content)
  except DecodeError as error:
    raise UserError('not a complete Caffe network; download or convert the file again') from error
  for layer in (*net.layers, *net.layer):
    if layer.blobs:
      yield layer.name, [_array(blob, layer.name) for blob in layer.blobs]


def _array(blob, name: str) -> np.ndarray:
  values = np.frombuffer(blob.data, '<f4') if blob.data else np.frombuffer(blob.double_data, '<f8').astype('<f4')
  if blob.HasField('shape'):
    shape = list(blob.shape.dim)
  else:  # the old form always has four axes; leading ones are 1 if the array has fewer
    shape = [blob.num, blob.channels, blob.height, blob.width]
    while len(shape) > 1 and shape[0] == 1 and (len(shape) > 2 or shape[1] == values.size):
      shape = shape[1:]
  if values.size != np.prod(shape):
    raise UserError(f'the layer {name} has {values.size} values; expected {np.prod(shape)} for its shape {shape}')
  return values.reshape(shape)


@functools.cache
def _net_parameter():
  """The message class of a network with the fields in `_MESSAGES`."""
  from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

  file = descriptor_pb2.FileDescriptorProto(name='fcn_jax/caffe.proto', package='fcn_jax.caffe', syntax='proto2')
  for message, fields in _MESSAGES.items():
    described = file.message_type.add(name=message)
    for field in fields.split('; '):
      label, kind, name, _, number = field.split()
      field_type = {'type_name': f'.fcn_jax.caffe.{kind}'} if kind in _MESSAGES else {'type': f'TYPE_{kind.upper()}'}
      described.field.add(name=name, number=int(number), label=f'LABEL_{label.upper()}', **field_type)
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(pool.FindMessageTypeByName('fcn_jax.caffe.NetParameter'))


def _kernel_per_class(kernel: np.ndarray, name: str) -> np.ndarray:
  """A transposed convolution [C, C, k, k] that interpolates each class alone, as one kernel per class: [k, k, C]."""
  if kernel.ndim != 4 or kernel.shape[0] != kernel.shape[1]:
    raise UserError(f'{name} has shape {list(kernel.shape)}; expected [C, C, k, k]')
  diagonal = np.eye(len(kernel), dtype=bool)
  if kernel[~diagonal].any():
    raise UserError(
      f'{name} mixes classes: its weights between different classes reach {np.abs(kernel[~diagonal]).max():.1e}; '
      'expected 0'
    )
  return np.moveaxis(kernel[diagonal], 0, -1)


def _constant(factor: np.ndarray, name: str) -> float:
  if np.ptp(factor) > 1e-6 * np.abs(factor).max():
    raise UserError(
      f'{name} ranges from {factor.min():g} to {factor.max():g}; expected the same factor for all channels'
    )
  return float(factor.flat[0])
