"""Writes weights files in the formats of other libraries, from this network's parameters, for tests that read them.

The writers follow the description of each format and share no table with the readers, so that tests find mistakes in
the readers' tables.
"""

import json

import jax
import numpy as np
from PIL import Image

from fcn_jax import config as config_lib
from fcn_jax import models

CLASSES = 21
# The blocks have 4, 8, 16, 32 and 32 channels, fc6 and fc7 have 16.
SMALL = {'model.width': 1 / 16, 'model.fc_channels': 256, 'model.geometry': 'caffe'}
CONVOLUTIONS = [f'conv{block}_{i}' for block, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, count + 1)]
# Indices of the convolutions in torchvision's vgg16.features and vgg16_bn.features.
TORCH_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
TORCH_BN_PLACES = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
MEAN_BGR = (104.00699, 116.66877, 122.67892)  # of the authors' networks
UPSCORES = {
  32: {'upscore': 32},
  16: {'upscore2': 2, 'upscore16': 16},
  8: {'upscore2': 2, 'upscore_pool4': 2, 'upscore8': 8},
}


def config_for(stride: int = 8, dataset: str = 'voc2011', **changes):
  config = config_lib.default(dataset)
  config.model.stride = stride
  config.update_from_flattened_dict(SMALL | {name.replace('__', '.'): x for name, x in changes.items()})
  return config


def build(config, classes: int = CLASSES):
  return models.build(config.model, {'rgb': 3}, {'semantic': classes})


def network(config, seed: int = 0):
  """The network of a config, and random parameters of it as numpy arrays, none of them zero."""
  model = build(config)
  params = jax.eval_shape(model.init, jax.random.key(seed), model.example_inputs())['params']
  rng = np.random.default_rng(seed)

  def fill(path, x):
    if path[-1].key == 'bias':
      return rng.normal(0, 0.1, x.shape).astype(np.float32)
    return rng.normal(0, np.sqrt(2 / np.prod(x.shape[:-1])), x.shape).astype(np.float32)

  return model, jax.tree_util.tree_map_with_path(fill, params)


def smooth_image(height: int, width: int, seed: int = 0) -> np.ndarray:
  """Smooth random colors, uint8 [H, W, 3]."""
  coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
  return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def bilinear(factor: int) -> np.ndarray:
  """The kernel [2f, 2f], by the formula in the authors' `surgery.py`."""
  center = factor - 0.5
  along_axis = 1 - abs(np.arange(2 * factor) - center) / factor
  return along_axis[:, None] * along_axis[None]


# --- Caffe


def oihw(layer: dict, *, bgr: bool = False) -> np.ndarray:
  kernel = np.transpose(layer['kernel'], (3, 2, 0, 1))
  return kernel[:, ::-1] if bgr else kernel


def caffe_blobs(params: dict, stride: int, *, at_once: bool = False) -> dict[str, list[np.ndarray]]:
  """The blobs of the authors' network, by layer name."""
  backbone, blobs = params['trunk'], {}
  for name in (*CONVOLUTIONS, 'fc6', 'fc7'):
    blobs[name] = [oihw(backbone[name], bgr=name == 'conv1_1'), backbone[name]['bias']]
  for name in ('score_fr', 'score_pool4', 'score_pool3'):
    if name in params:
      blobs[name] = [oihw(params[name]), params[name]['bias']]
  for name, factor in UPSCORES[stride].items():
    kernel = np.zeros((CLASSES, CLASSES, 2 * factor, 2 * factor))
    kernel[range(CLASSES), range(CLASSES)] = bilinear(factor)
    blobs[name] = [kernel]
  if at_once:
    channels = {pool: backbone[last]['bias'].size for pool, last in (('pool4', 'conv4_3'), ('pool3', 'conv3_3'))}
    blobs |= {f'scale_{pool}': [np.full(channels[pool], x)] for pool, x in (('pool4', 0.01), ('pool3', 0.0001))}
  return blobs


def vgg_blobs(params: dict) -> dict[str, list[np.ndarray]]:
  """The blobs of VGG_ILSVRC_16_layers, with fc6 and fc7 fully connected, and with fc8."""
  blobs = {name: x for name, x in caffe_blobs(params, 32).items() if name in (*CONVOLUTIONS, 'fc6', 'fc7')}
  for name in ('fc6', 'fc7'):
    blobs[name][0] = blobs[name][0].reshape(len(blobs[name][0]), -1)
  return blobs | {'fc8': [np.ones((1000, len(blobs['fc7'][0]))), np.zeros(1000)]}


def caffemodel(blobs: dict[str, list[np.ndarray]], *, old: bool = False, double: bool = False) -> bytes:
  """The content of a .caffemodel; `old` is the form before 2015: V1LayerParameter, and always four axes."""
  layer_number, name_number, blobs_number = (2, 4, 6) if old else (100, 1, 7)
  content = _field(1, b'a network')
  for name, arrays in blobs.items():
    layer = _field(name_number, name.encode()) + (_varint(5 << 3) + _varint(4) if old else _field(2, b'Convolution'))
    content += _field(layer_number, layer + b''.join(_field(blobs_number, _blob(x, old, double)) for x in arrays))
  return content


def _blob(x: np.ndarray, old: bool, double: bool) -> bytes:
  values = _field(8, x.astype('<f8').tobytes()) if double else _field(5, x.astype('<f4').tobytes())
  if old:
    shape = (1,) * (4 - x.ndim) + x.shape
    return b''.join(_varint(number << 3) + _varint(n) for number, n in enumerate(shape, 1)) + values
  return values + _field(7, _field(1, b''.join(map(_varint, x.shape))))


def _field(number: int, content: bytes) -> bytes:
  """A field of wire type 2: its length, then its content."""
  return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
  digits = []
  while value > 127:
    digits.append(value & 127 | 128)
    value >>= 7
  return bytes([*digits, value])


def prototxt(params: dict, stride: int, height: int, width: int, *, at_once: bool = False) -> str:
  """The authors' network description (deploy.prototxt) for images of one size."""
  lines = [f'input: "data" input_shape {{ dim: 1 dim: 3 dim: {height} dim: {width} }}']

  def layer(kind, name, bottoms, more='', top=''):
    bottom = ' '.join(f'bottom: "{b}"' for b in bottoms)
    lines.append(f'layer {{ name: "{name}" type: "{kind}" {bottom} top: "{top or name}" {more} }}')

  def convolution(name, bottom, kernel, pad, relu=True):
    channels = params.get(name, params['trunk'].get(name))['bias'].size
    layer(
      'Convolution', name, [bottom], f'convolution_param {{ num_output: {channels} kernel_size: {kernel} pad: {pad} }}'
    )
    if relu:
      layer('ReLU', f'relu_{name}', [name], top=name)

  def upscore(name, bottom):
    factor = UPSCORES[stride][name]
    more = f'num_output: {CLASSES} kernel_size: {2 * factor} stride: {factor} bias_term: false'
    layer('Deconvolution', name, [bottom], f'convolution_param {{ {more} }}')

  def crop(name, bottom, like, offset):
    layer('Crop', name, [bottom, like], f'crop_param {{ axis: 2 offset: {offset} }}')

  bottom = 'data'
  for name in CONVOLUTIONS:
    convolution(name, bottom, 3, 100 if name == 'conv1_1' else 1)
    bottom = name
    if name in ('conv1_2', 'conv2_2', 'conv3_3', 'conv4_3', 'conv5_3'):
      bottom = f'pool{name[4]}'
      layer('Pooling', bottom, [name], 'pooling_param { pool: MAX kernel_size: 2 stride: 2 }')
  convolution('fc6', 'pool5', 7, 0)
  convolution('fc7', 'fc6', 1, 0)
  convolution('score_fr', 'fc7', 1, 0, relu=False)
  scores = 'score_fr'
  for pool, up, offset, at in (('pool4', 'upscore2', 5, 16), ('pool3', 'upscore_pool4', 9, 8)):
    if stride <= at:
      upscore(up, scores)
      source = pool
      if at_once:
        source = f'scale_{pool}'
        layer('Scale', source, [pool])
      convolution(f'score_{pool}', source, 1, 0, relu=False)
      crop(f'score_{pool}c', f'score_{pool}', up, offset)
      scores = f'fuse_{pool}'
      layer('Eltwise', scores, [up, f'score_{pool}c'], 'eltwise_param { operation: SUM }')
  last, offset = {32: ('upscore', 19), 16: ('upscore16', 27), 8: ('upscore8', 31)}[stride]
  upscore(last, scores)
  crop('score', last, 'data', offset)
  return '\n'.join(lines)


def write_caffemodel(path, params: dict, stride: int, *, at_once: bool = False):
  path.write_bytes(caffemodel(caffe_blobs(params, stride, at_once=at_once)))
  return path


def opencv_scores(folder, params: dict, stride: int, image: np.ndarray, *, at_once: bool = False) -> np.ndarray:
  """The scores [H, W, C] of the authors' network, computed by OpenCV from Caffe's files."""
  import cv2

  height, width = image.shape[:2]
  (folder / 'deploy.prototxt').write_text(prototxt(params, stride, height, width, at_once=at_once))
  weights = write_caffemodel(folder / 'opencv.caffemodel', params, stride, at_once=at_once)
  net = cv2.dnn.readNetFromCaffe(str(folder / 'deploy.prototxt'), str(weights))
  net.setInput((image[..., ::-1].astype(np.float32) - MEAN_BGR).transpose(2, 0, 1)[None].astype(np.float32))
  return net.forward('score')[0].transpose(1, 2, 0)


def check_close(found: np.ndarray, expected: np.ndarray) -> None:
  """Asserts that two arrays agree up to 0.1 % of the largest value."""
  assert found.shape == expected.shape and np.ptp(expected) > 0
  assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


# --- PyTorch and Keras


def torchvision(params: dict, *, batch_norm: dict | None = None, timm: bool = False) -> dict[str, np.ndarray]:
  """The state of torchvision's or timm's vgg16, or of vgg16_bn if `batch_norm` has the norm of each convolution."""
  backbone, state = params['trunk'], {}
  for name, place in zip(CONVOLUTIONS, TORCH_BN_PLACES if batch_norm else TORCH_PLACES, strict=True):
    state |= {f'features.{place}.weight': oihw(backbone[name]), f'features.{place}.bias': backbone[name]['bias']}
    if batch_norm:
      state |= {f'features.{place + 1}.{key}': x for key, x in batch_norm[name].items()}
  names = ('pre_logits.fc1', 'pre_logits.fc2', 'head.fc') if timm else ('classifier.0', 'classifier.3', 'classifier.6')
  for name, layer in zip(names, ('fc6', 'fc7'), strict=False):
    kernel = oihw(backbone[layer])
    state |= {
      f'{name}.weight': kernel if timm else kernel.reshape(len(kernel), -1),
      f'{name}.bias': backbone[layer]['bias'],
    }
  classifier = np.zeros((1000, backbone['fc7']['bias'].size), np.float32)
  state |= {f'{names[2]}.weight': classifier, f'{names[2]}.bias': np.zeros(1000, np.float32)}
  return {name: np.ascontiguousarray(x) for name, x in state.items()}


def random_batch_norm(params: dict, seed: int = 0) -> dict:
  rng, norms = np.random.default_rng(seed), {}
  for name in CONVOLUTIONS:
    channels = params['trunk'][name]['bias'].size
    norms[name] = {
      'weight': rng.uniform(0.5, 1.5, channels).astype(np.float32),
      'bias': rng.normal(0, 0.1, channels).astype(np.float32),
      'running_mean': rng.normal(0, 0.5, channels).astype(np.float32),
      'running_var': rng.uniform(0.5, 2, channels).astype(np.float32),
      'num_batches_tracked': np.array(7),
    }
  return norms


def bfloat16_safetensors(state: dict[str, np.ndarray]) -> bytes:
  """The content of a .safetensors file with the upper half of each float32."""
  header, data = {}, b''
  for name, x in state.items():
    half = (x.view(np.uint32) >> 16).astype('<u2').tobytes()
    header[name] = {'dtype': 'BF16', 'shape': x.shape, 'data_offsets': [len(data), len(data) + len(half)]}
    data += half
  text = json.dumps(header).encode()
  return len(text).to_bytes(8, 'little') + text + data


def write_keras_model(path, params: dict, *, inside: str, state: str) -> None:
  """An .h5 file of `model.save`: the layers at `inside`, and the state of an optimizer at `state`, with their name."""
  import h5py

  with h5py.File(path, 'w') as file:
    for name in CONVOLUTIONS:
      layer, kernel = f'block{name[4]}_conv{name[6]}', params['trunk'][name]['kernel']
      kernel = kernel[:, :, ::-1] if name == 'conv1_1' else kernel
      file[f'model_weights/{inside.format(layer)}/kernel:0'] = kernel
      file[f'model_weights/{inside.format(layer)}/bias:0'] = params['trunk'][name]['bias']
      file[state.format(layer)] = np.ones_like(kernel)
    file['optimizer_weights/iteration'] = 3


def write_keras(path, params: dict, *, top: bool = True, nested: bool = False) -> None:
  """The .h5 of keras.applications.VGG16; `nested` names the weights like later releases."""
  import h5py

  layers = {
    f'block{name[4]}_conv{name[6]}': (params['trunk'][name]['kernel'], params['trunk'][name]['bias'])
    for name in CONVOLUTIONS
  }
  layers['block1_conv1'] = layers['block1_conv1'][0][:, :, ::-1], layers['block1_conv1'][1]
  if top:
    for name, layer in (('fc1', 'fc6'), ('fc2', 'fc7')):
      kernel = params['trunk'][layer]['kernel']
      layers[name] = kernel.reshape(-1, kernel.shape[-1]), params['trunk'][layer]['bias']
    layers['predictions'] = np.zeros((len(params['trunk']['fc7']['bias']), 1000)), np.zeros(1000)
  with h5py.File(path, 'w') as file:
    for name, (kernel, bias) in layers.items():
      names = (f'{name}/kernel:0', f'{name}/bias:0') if nested else (f'{name}_W_1:0', f'{name}_b_1:0')
      for leaf, x in zip(names, (kernel, bias), strict=True):
        file[f'{name}/{leaf}'] = x
