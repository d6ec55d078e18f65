"""Caffe's binary networks without Caffe: the few fields of its `caffe.proto` that hold weights, read with protobuf."""

import functools
from collections.abc import Iterator

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from fcn_jax.errors import UserError
from fcn_jax.models.grid import SKIP_STRIDES
from fcn_jax.weights.tensors import (
  CAFFE_MEAN,
  UPSAMPLING,
  Tensor,
  Weights,
  _check_whole,
  _constant,
  _diagonal,
  _layer,
  _place,
)

# Message, field: number and type; [] is repeated. Packed floats travel as their bytes, and are declared so: protobuf
# would make a Python number of each of the 138 million. Networks before 2015 have `layers`, later ones `layer`.
_FIELDS = {
  'BlobShape': {'dim': (1, ['int64'])},
  'BlobProto': {
    'num': (1, 'int32'),
    'channels': (2, 'int32'),
    'height': (3, 'int32'),
    'width': (4, 'int32'),
    'data': (5, 'bytes'),
    'shape': (7, 'BlobShape'),
    'double_data': (8, 'bytes'),
  },
  'V1LayerParameter': {'name': (4, 'string'), 'blobs': (6, ['BlobProto'])},
  'LayerParameter': {'name': (1, 'string'), 'blobs': (7, ['BlobProto'])},
  'NetParameter': {'layers': (2, ['V1LayerParameter']), 'layer': (100, ['LayerParameter'])},
}


def layers(content: bytes) -> Iterator[tuple[str, list[np.ndarray]]]:
  """Name and blobs, float32, of each layer that has any, in the order of the file.

  Raises:
    UserError: the content is not a network of Caffe's.
  """
  net = _net_parameter()()
  try:
    net.ParseFromString(content)
  except DecodeError as error:
    raise UserError('is not a whole network of Caffe') from error
  for layer in (*net.layers, *net.layer):
    if layer.blobs:
      yield layer.name, [_array(blob, layer.name) for blob in layer.blobs]


def _array(blob, name: str) -> np.ndarray:
  values = np.frombuffer(blob.data, '<f4') if blob.data else np.frombuffer(blob.double_data, '<f8').astype('<f4')
  if blob.HasField('shape'):
    shape = list(blob.shape.dim)
  else:  # of the first years: always four axes, those in front 1 where there are fewer
    shape = [blob.num, blob.channels, blob.height, blob.width]
    while len(shape) > 1 and shape[0] == 1 and (len(shape) > 2 or shape[1] == values.size):
      shape = shape[1:]
  if values.size != np.prod(shape):
    raise UserError(f'the layer {name} has {values.size} values for the shape {shape}')
  return values.reshape(shape)


@functools.cache
def _net_parameter():
  file = descriptor_pb2.FileDescriptorProto(name='fcn_jax/caffe.proto', package='fcn_jax.caffe', syntax='proto2')
  kinds = descriptor_pb2.FieldDescriptorProto
  for name, fields in _FIELDS.items():
    message = file.message_type.add(name=name)
    for field, (number, kind) in fields.items():
      repeated = isinstance(kind, list)
      kind = kind[0] if repeated else kind
      made = message.field.add(name=field, number=number)
      made.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
      if kind in _FIELDS:
        made.type, made.type_name = kinds.TYPE_MESSAGE, f'.fcn_jax.caffe.{kind}'
      else:
        made.type = getattr(kinds, f'TYPE_{kind.upper()}')
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(pool.FindMessageTypeByName('fcn_jax.caffe.NetParameter'))


def _read_caffemodel(path) -> Weights:
  tensors, others, factors = {}, {}, {}
  for name, blobs in layers(path.read_bytes()):
    if name in UPSAMPLING:
      tensors[f'{UPSAMPLING[name]}/kernel'] = Tensor(_diagonal(blobs[0], name), name)
    elif name.removeprefix('scale_') in SKIP_STRIDES:
      factors[name.removeprefix('scale_')] = _constant(blobs[0], name)
    elif target := _place(name):
      tensors |= _layer(target, blobs[0], blobs[1] if len(blobs) > 1 else None, name, bgr=True)
    else:
      others |= {name if i == 0 else f'{name}[{i}]': blob.shape for i, blob in enumerate(blobs)}
  _check_whole(tensors, 'no layers named as those of VGG-16 (conv1_1 to conv5_3)')
  return Weights(tensors, others, CAFFE_MEAN, factors=factors)
