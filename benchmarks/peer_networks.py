"""The networks of `benchmarks/peer.py` in PyTorch: FCN-8s over VGG-16 or torchvision's ResNet-50, and U-Net.

Each takes normalized images [B, 3, H, W] and returns scores [B, C, H, W], and its `layers` maps the paths of our
parameters to its modules.
"""

from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # of VGG-16: channels and number of convolutions
STAGES = {'stage3': 1024, 'stage2': 512}  # the skip connections of ResNet-50, and their channels


class FCN8s(nn.Module):
  """FCN-8s over VGG-16 in the aligned geometry, without norm."""

  def __init__(self, classes: int, width: float):
    super().__init__()
    channels, layers = 3, []
    for index, (full, count) in enumerate(BLOCKS):
      block = []
      for _ in range(count):
        block += [nn.Conv2d(channels, round(full * width), 3, padding=1), nn.ReLU(inplace=True)]
        channels = round(full * width)
      layers.append(nn.Sequential(*block, nn.MaxPool2d(2, ceil_mode=True)))
      setattr(self, f'block{index + 1}', layers[-1])
    fc = round(4096 * width)
    self.fc6, self.fc7 = nn.Conv2d(channels, fc, 7, padding=3), nn.Conv2d(fc, fc, 1)
    self.score_fr = nn.Conv2d(fc, classes, 1)
    self.score_pool4 = nn.Conv2d(round(512 * width), classes, 1)
    self.score_pool3 = nn.Conv2d(round(256 * width), classes, 1)

  def forward(self, x):
    height, width = x.shape[2:]
    pool3 = self.block3(self.block2(self.block1(x)))
    pool4 = self.block4(pool3)
    x = functional.relu(self.fc6(self.block5(pool4)), inplace=True)
    x = self.score_fr(functional.relu(self.fc7(x), inplace=True))
    x = upsampled(x, 2, pool4.shape[2:]) + self.score_pool4(pool4)
    x = upsampled(x, 2, pool3.shape[2:]) + self.score_pool3(pool3)
    return upsampled(x, 8, (height, width))

  def layers(self) -> dict[str, nn.Module]:
    """The modules by the path of the same layer in our parameters."""
    convolutions = {
      f'trunk/conv{block}_{i + 1}': getattr(self, f'block{block}')[2 * i]
      for block, (_, count) in enumerate(BLOCKS, 1)
      for i in range(count)
    }
    convolutions |= {f'trunk/{name}': getattr(self, name) for name in ('fc6', 'fc7')}
    return convolutions | {name: getattr(self, name) for name in ('score_fr', 'score_pool4', 'score_pool3')}


def upsampled(x, factor: int, size, *, corners: bool = False):
  """The bilinear transposed convolution, cropped, as interpolation of the zero-padded map.

  It is several times faster than `conv_transpose2d` with one group per class.

  Args:
    x: [B, C, h, w].
    factor: the stride.
    size: height and width of the result.
    corners: the first features of both maps are at the same place (kernel 2 * factor - 1), as in ResNet; otherwise
      their first cells begin at the same place (kernel 2 * factor), as in VGG.
  """
  x = functional.pad(x, (1, 1, 1, 1))
  full = [factor * (n - 1) + 1 if corners else factor * n for n in x.shape[2:]]
  x = functional.interpolate(x, full, mode='bilinear', align_corners=corners)
  return x[:, :, factor : factor + size[0], factor : factor + size[1]]


def torchvision_resnet(name: str) -> nn.Module:
  """A ResNet of torchvision with random parameters, which normalizes with its stored statistics."""
  with mock.patch.object(torch.library, 'register_fake', lambda *_, **__: lambda function: function):
    # The registration fails if torchvision was built for another variant of PyTorch; ResNets do not need it.
    from torchvision.models import resnet
  return getattr(resnet, name)().eval()


class ResNetFCN8s(nn.Module):
  """FCN-8s over ResNet-50 with frozen statistics of its BatchNorm."""

  def __init__(self, classes: int, width: float):
    super().__init__()
    if width != 1:
      raise ValueError(f'the width of ResNet-50 is {width}; torchvision has only 1')
    self.trunk = torchvision_resnet('resnet50')
    self.trunk.fc = nn.Identity()
    self.score_fr = nn.Conv2d(2048, classes, 1)
    self.score_stage3, self.score_stage2 = (nn.Conv2d(channels, classes, 1) for channels in STAGES.values())

  def forward(self, x):
    size, net = x.shape[2:], self.trunk
    stage2 = net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x))))))
    stage3 = net.layer3(stage2)
    x = self.score_fr(net.layer4(stage3))
    x = upsampled(x, 2, stage3.shape[2:], corners=True) + self.score_stage3(stage3)
    x = upsampled(x, 2, stage2.shape[2:], corners=True) + self.score_stage2(stage2)
    return upsampled(x, 8, size, corners=True)

  def layers(self) -> dict[str, nn.Module]:
    """The modules by the path of the same layer in our parameters."""
    trunk = {
      f'trunk/{name}': module
      for name, module in self.trunk.named_modules()
      if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
    }
    return trunk | {name: getattr(self, name) for name in ('score_fr', 'score_stage3', 'score_stage2')}


class UNet(nn.Module):
  """U-Net with padded convolutions, without norm."""

  def __init__(self, classes: int, width: float, depth: int = 4):
    super().__init__()
    widths = [round(64 * width * 2**level) for level in range(depth + 1)]
    self.down = nn.ModuleList(self._level(a, b) for a, b in zip([3, *widths], widths, strict=False))
    self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, 2) for width in widths[:-1])
    self.after = nn.ModuleList(self._level(2 * width, width) for width in widths[:-1])
    self.score = nn.Conv2d(widths[0], classes, 1)

  def _level(self, before: int, after: int):
    convolutions = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
    return nn.Sequential(convolutions[0], nn.ReLU(inplace=True), convolutions[1], nn.ReLU(inplace=True))

  def forward(self, x):
    skips = [x := self.down[0](x)]
    for level in self.down[1:]:
      skips.append(x := level(functional.max_pool2d(x, 2, ceil_mode=True)))
    for number in reversed(range(len(self.up))):
      height, width = skips[number].shape[2:]
      x = torch.cat([skips[number], self.up[number](x)[:, :, :height, :width]], 1)
      x = self.after[number](x)
    return self.score(x)

  def layers(self) -> dict[str, nn.Module]:
    """The modules by the path of the same layer in our parameters."""
    found = {f'up{number}': module for number, module in enumerate(self.up)} | {'score': self.score}
    for name, levels in (('down', self.down), ('up', self.after)):
      for number, level in enumerate(levels):
        found |= {f'{name}{number}_conv1': level[0], f'{name}{number}_conv2': level[2]}
    return found


NETWORKS = {'vgg16': FCN8s, 'resnet50': ResNetFCN8s, 'unet': UNet}


class Tensor(NamedTuple):
  """A tensor of a layer.

  Attributes:
    path: of the same array in our parameters, such as 'trunk/conv1_1/kernel'.
    value: the tensor.
    axes: of our array, in the order of PyTorch's.
    kind: 'kernel', 'bias' of a convolution, 'norm' (its scale and bias), or 'statistic' of a norm.
  """

  path: str
  value: torch.Tensor
  axes: tuple[int, ...]
  kind: str

  def numpy(self, value: torch.Tensor | None = None) -> np.ndarray:
    """The tensor, or one of the same shape, with its axes in our order."""
    value = self.value if value is None else value
    return value.detach().cpu().numpy().transpose(np.argsort(self.axes))


def tensors(layers: dict[str, nn.Module]) -> Iterator[Tensor]:
  """The tensors of layers, which are given by their paths in our parameters."""
  for path, module in layers.items():
    if isinstance(module, nn.BatchNorm2d):
      yield Tensor(f'{path}/scale', module.weight, (0,), 'norm')
      yield Tensor(f'{path}/bias', module.bias, (0,), 'norm')
      yield Tensor(f'{path}/mean', module.running_mean, (0,), 'statistic')
      yield Tensor(f'{path}/var', module.running_var, (0,), 'statistic')
      continue
    axes = (2, 3, 0, 1) if isinstance(module, nn.ConvTranspose2d) else (3, 2, 0, 1)
    yield Tensor(f'{path}/kernel', module.weight, axes, 'kernel')
    if module.bias is not None:
      yield Tensor(f'{path}/bias', module.bias, (0,), 'bias')
