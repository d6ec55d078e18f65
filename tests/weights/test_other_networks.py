"""AlexNet from Caffe's files, compared with OpenCV, and ResNets from torchvision's; every tensor is accounted for."""

import sys

import jax
import numpy as np
import pytest
import tiny
import weight_formats
from cheap import shapes_of
from PIL import Image
from weight_formats import CLASSES, build, check_close, config_for, network, oihw, smooth_image

from fcn_jax import config as config_lib
from fcn_jax.errors import UserError
from fcn_jax.weights import formats, match

POOLED = {'conv1': 'pool1', 'conv2': 'pool2', 'conv5': 'pool5'}
CONVOLUTIONS = {'conv1': (11, 100, 4, 1), 'conv2': (5, 2, 1, 2), 'conv3': (3, 1, 1, 1)}  # kernel, pad, stride, groups
CONVOLUTIONS |= {'conv4': (3, 1, 1, 2), 'conv5': (3, 1, 1, 2)}


def alexnet():
  return config_for(32, model__backbone='alexnet', model__width=1 / 8, model__fc_channels=4096)


def blobs(params, *, upsampling: bool = True) -> dict:
  """The blobs of the authors' FCN-AlexNet, by layer name."""
  backbone = params['trunk']
  found = {name: [oihw(backbone[name], bgr=name == 'conv1'), backbone[name]['bias']] for name in backbone}
  found['score_fr'] = [oihw(params['score_fr']), params['score_fr']['bias']]
  if upsampling:
    along_axis = 1 - abs(np.arange(63) - 31) / 32
    kernel = np.zeros((CLASSES, CLASSES, 63, 63))
    kernel[range(CLASSES), range(CLASSES)] = along_axis[:, None] * along_axis
    found['upscore'] = [kernel]
  return found


def prototxt(params, height: int, width: int) -> str:
  """The authors' network description for images of one size."""
  lines, bottom = [f'input: "data" input_shape {{ dim: 1 dim: 3 dim: {height} dim: {width} }}'], 'data'

  def layer(kind, name, more, *, top=''):
    nonlocal bottom
    lines.append(f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top or name}" {more} }}')
    bottom = top or name

  def convolution(name, kernel, pad, stride=1, groups=1, relu=True):
    owner = params if name in params else params['trunk']
    more = f'num_output: {owner[name]["bias"].size} kernel_size: {kernel} pad: {pad} stride: {stride} group: {groups}'
    layer('Convolution', name, f'convolution_param {{ {more} }}')
    if relu:
      layer('ReLU', f'relu_{name}', '', top=name)

  for name, shape in CONVOLUTIONS.items():
    convolution(name, *shape)
    if name in POOLED:
      layer('Pooling', POOLED[name], 'pooling_param { pool: MAX kernel_size: 3 stride: 2 }')
    if name in ('conv1', 'conv2'):
      layer('LRN', f'norm{name[4]}', 'lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }')
  convolution('fc6', 6, 0)
  convolution('fc7', 1, 0)
  convolution('score_fr', 1, 0, relu=False)
  layer(
    'Deconvolution',
    'upscore',
    f'convolution_param {{ num_output: {CLASSES} kernel_size: 63 stride: 32 bias_term: false }}',
  )
  crop = 'bottom: "upscore" bottom: "data" top: "score" crop_param { axis: 2 offset: 18 }'
  lines.append(f'layer {{ name: "score" type: "Crop" {crop} }}')
  return '\n'.join(lines)


def opencv_scores(folder, params, image: np.ndarray) -> np.ndarray:
  """The scores [H, W, C] that OpenCV computes from Caffe's files."""
  import cv2

  (folder / 'deploy.prototxt').write_text(prototxt(params, *image.shape[:2]))
  (folder / 'opencv.caffemodel').write_bytes(weight_formats.caffemodel(blobs(params)))
  net = cv2.dnn.readNetFromCaffe(str(folder / 'deploy.prototxt'), str(folder / 'opencv.caffemodel'))
  net.setInput(
    (image[..., ::-1].astype(np.float32) - weight_formats.MEAN_BGR).transpose(2, 0, 1)[None].astype(np.float32)
  )
  return net.forward('score')[0].transpose(1, 2, 0)


@pytest.mark.slow
def test_predict_gives_the_scores_of_caffes_fcn_alexnet_in_opencv(tmp_path):
  _, params = network(alexnet())
  (tmp_path / 'F.caffemodel').write_bytes(weight_formats.caffemodel(blobs(params)))
  images = {f'photo{index}': smooth_image(*size) for index, size in enumerate([(67, 90), (101, 53), (33, 141)])}
  for name, image in images.items():
    Image.fromarray(image).save(tmp_path / f'{name}.png')
  flags = [f'--config={tiny.ROOT}/experiments/paper/fcn_alexnet.py', '--config.model.width=0.125']
  flags += ['--weights=F.caffemodel', '--save_scores']
  files = [f'{name}.png' for name in images]
  done = tiny.run([sys.executable, '-m', 'fcn_jax.predict', *flags, *files], cwd=tmp_path)
  assert (done.returncode, done.stderr) == (0, '')
  for name, image in images.items():
    with np.load(tmp_path / 'predictions' / f'{name}.scores.npz') as file:
      check_close(file['scores'], opencv_scores(tmp_path, params, image))


def test_fully_connected_layers_of_caffenet_become_convolutions(tmp_path):
  _, params = network(alexnet())
  stored = blobs(params, upsampling=False)
  for name in ('fc6', 'fc7'):
    stored[name][0] = stored[name][0].reshape(len(stored[name][0]), -1)
  stored['fc8'] = [np.ones((1000, len(stored['fc7'][0]))), np.zeros(1000)]
  del stored['score_fr']
  path = tmp_path / 'caffenet.caffemodel'
  path.write_bytes(weight_formats.caffemodel(stored))
  read = formats.read(path)
  for name, layer in params['trunk'].items():
    np.testing.assert_array_equal(read.tensors[f'trunk/{name}/kernel'].value, layer['kernel'])
  assert set(read.others) == {'fc8', 'fc8[1]'}
  del stored['conv3']
  path.write_bytes(weight_formats.caffemodel(stored))
  with pytest.raises(UserError, match='no conv3; expected all 5 convolutions of AlexNet'):
    formats.read(path)


def torchvision(params) -> dict[str, np.ndarray]:
  """The state of torchvision's or timm's ResNet."""
  kinds = {'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}
  state = {'fc.weight': np.zeros((1000, 8), np.float32), 'fc.bias': np.zeros(1000, np.float32)}
  for layer, tensors in params['trunk'].items():
    for kind, x in tensors.items():
      state[f'{layer}.weight' if kind == 'kernel' else f'{layer}.{kinds[kind]}'] = (
        oihw(tensors) if kind == 'kernel' else x
      )
    if 'mean' in tensors:
      state[f'{layer}.num_batches_tracked'] = np.array(7)
  return {name: np.ascontiguousarray(x) for name, x in state.items()}


@pytest.mark.parametrize('backbone', ['resnet18', 'resnet50'])
def test_every_tensor_of_a_resnet_is_loaded(tmp_path, backbone):
  from safetensors.numpy import save_file

  config = config_lib.default('voc2012')
  config.model.update(backbone=backbone, norm='frozen_batch', width=1 / 16, stride=8)
  config.init.weights = str(tmp_path / 'resnet.safetensors')
  config_lib.validate(config)
  shapes, rng = shapes_of(build(config)), np.random.default_rng(0)
  params = jax.tree.map(lambda x: rng.uniform(0.5, 1.5, x.shape).astype(np.float32), shapes)
  state = torchvision(params)
  save_file(state, config.init.weights)
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
  loaded, _ = match.fit(zeros, match.read(config.init.weights), config, 'resnet.safetensors')
  jax.tree.map(np.testing.assert_array_equal, loaded['trunk'], params['trunk'])
  assert not any(np.any(x) for name, layer in loaded.items() if name != 'trunk' for x in layer.values())

  del state['layer2.0.bn1.running_var']
  save_file(state, config.init.weights)
  with pytest.raises(UserError, match=r'trunk/layer2\.0\.bn1/var .* would be newly initialized'):
    match.fit(zeros, match.read(config.init.weights), config, 'resnet.safetensors')


def test_weights_of_a_resnet_require_its_batch_norm():
  config = config_lib.default('scenes')
  config.model.backbone = 'resnet18'
  config.init.weights = 'resnet18.safetensors'
  with pytest.raises(UserError, match=r"model\.norm is 'group'; .* batch norm: set model\.norm=frozen_batch"):
    config_lib.validate(config)
