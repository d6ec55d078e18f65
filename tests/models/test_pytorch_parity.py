"""ResNet against torchvision's, AlexNet and U-Net against plain networks in PyTorch, with the same random weights.

.ci/run installs PyTorch and torchvision for these tests.
"""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cheap import quick_jit

from fcn_jax.models.alexnet import AlexNet
from fcn_jax.models.resnet import ResNet18, ResNet50
from fcn_jax.models.unet import UNet

torch = pytest.importorskip('torch', reason='PyTorch is not installed')
from benchmarks import peer_networks  # noqa: E402

SIZES = ((64, 64), (97, 131), (33, 50))
WORST = 1e-5  # of the largest feature


def image(size) -> np.ndarray:
  return np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)


def compared(ours: dict, theirs: dict) -> None:
  for name, expected in theirs.items():
    expected = expected.numpy().transpose(0, 2, 3, 1)
    assert ours[name].shape == expected.shape
    assert np.abs(np.asarray(ours[name]) - expected).max() < WORST * np.abs(expected).max(), name


def parameters(layers: dict) -> dict:
  """The tensors of PyTorch's layers as our parameters, by name of the layer."""
  found = {path: {} for path in layers}
  for tensor in peer_networks.tensors(layers):
    path, _, name = tensor.path.rpartition('/')
    found[path][name] = tensor.numpy()
  return found


def torchvision_resnet(name: str):
  """A ResNet of torchvision with random statistics, and its parameters under our names."""
  if not importlib.util.find_spec('torchvision'):
    pytest.skip('torchvision is not installed')
  torch.manual_seed(0)
  net, layers = peer_networks.torchvision_resnet(name), {}
  for path, module in net.named_modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.running_mean.normal_(0, 0.1)
      module.running_var.uniform_(0.5, 1.5)
      module.weight.data.uniform_(0.5, 1.5)
      module.bias.data.normal_(0, 0.1)
    if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.Conv2d)):
      layers[path] = module
  return net, parameters(layers)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'ours'), [('resnet18', ResNet18), ('resnet50', ResNet50)])
def test_features_of_resnet_equal_those_of_torchvision_in_pytorch(name, ours):
  net, params = torchvision_resnet(name)
  apply = quick_jit(lambda x: ours(norm='frozen_batch').apply({'params': params}, x, lambda name: None, False))
  for size in SIZES:
    with torch.no_grad():
      x = net.relu(net.bn1(net.conv1(torch.from_numpy(image(size).transpose(0, 3, 1, 2)))))
      maps, x = {'conv1': x}, net.maxpool(x)
      for number in (1, 2, 3, 4):
        maps[f'stage{number}'] = x = getattr(net, f'layer{number}')(x)
    compared(apply(image(size)), maps)


@pytest.mark.slow
@pytest.mark.parametrize(('geometry', 'paddings'), [('caffe', (100, 0, 0)), ('aligned', (5, 1, 3))])
def test_features_of_alexnet_equal_those_of_pytorch(geometry, paddings):
  first, pool_padding, fc6 = paddings
  torch.manual_seed(0)
  nn = torch.nn
  convs = {
    'conv1': nn.Conv2d(3, 24, 11, 4, first),
    'conv2': nn.Conv2d(24, 64, 5, padding=2, groups=2),
    'conv3': nn.Conv2d(64, 96, 3, padding=1),
    'conv4': nn.Conv2d(96, 96, 3, padding=1, groups=2),
    'conv5': nn.Conv2d(96, 64, 3, padding=1, groups=2),
    'fc6': nn.Conv2d(64, 32, 6, padding=fc6),
    'fc7': nn.Conv2d(32, 32, 1),
  }
  params = parameters(convs)
  net = AlexNet(width=0.25, fc_channels=128, geometry=geometry, dropout=0.0, platform='cpu')
  apply = quick_jit(lambda x: net.apply({'params': params}, x, lambda name: None, False))

  def pool(x):
    return nn.functional.max_pool2d(x, 3, 2, padding=pool_padding, ceil_mode=not pool_padding)

  norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)
  for size in SIZES:
    pixels = 100 * image(size)
    with torch.no_grad():
      maps = {'conv1': torch.relu(convs['conv1'](torch.from_numpy(pixels.transpose(0, 3, 1, 2))))}
      maps['pool1'] = pool(maps['conv1'])
      maps['pool2'] = pool(torch.relu(convs['conv2'](norm(maps['pool1']))))
      x = norm(maps['pool2'])
      for name in ('conv3', 'conv4', 'conv5'):
        x = torch.relu(convs[name](x))
      maps['pool5'] = x = pool(x)
      for name in ('fc6', 'fc7'):
        x = torch.relu(convs[name](x))
    compared(apply(pixels), maps | {'fc7': x})


def test_scores_of_unet_equal_those_of_pytorch():
  torch.manual_seed(0)
  theirs = peer_networks.UNet(classes=5, width=0.125, depth=3)
  params = parameters(theirs.layers())
  plain = {'mean': {'rgb': (0.0,) * 3}, 'std': {'rgb': (1.0,) * 3}}
  net = UNet(heads={'semantic': 5}, depth=3, width=0.125, platform='cpu', **plain)
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(
    jnp.shape, jax.eval_shape(net.init, jax.random.key(0), net.example_inputs())['params']
  )
  apply = quick_jit(lambda x: {'scores': net.apply({'params': params}, {'rgb': x})['semantic']})
  for size in SIZES:
    with torch.no_grad():
      compared(apply(image(size)), {'scores': theirs(torch.from_numpy(image(size).transpose(0, 3, 1, 2)))})
