"""The same network in PyTorch, written for speed: what `benchmarks/run.py` compares with."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class FCN8s(nn.Module):
  """FCN-8s in the aligned geometry, without norm: images float32 [B, 3, H, W], normalised, to scores [B, C, H, W]."""

  def __init__(self, classes: int, width: float):
    super().__init__()
    channels, layers = 3, []
    for index, (outside, count) in enumerate(BLOCKS):
      block = []
      for _ in range(count):
        block += [nn.Conv2d(channels, round(outside * width), 3, padding=1), nn.ReLU(inplace=True)]
        channels = round(outside * width)
      layers.append(nn.Sequential(*block, nn.MaxPool2d(2, ceil_mode=True)))
      setattr(self, f'block{index + 1}', layers[-1])
    inside = round(4096 * width)
    self.fc6, self.fc7 = nn.Conv2d(channels, inside, 7, padding=3), nn.Conv2d(inside, inside, 1)
    self.score_fr = nn.Conv2d(inside, classes, 1)
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


def upsampled(x, factor: int, size):
  """The bilinear transposed convolution of kernel 2*factor, cropped: interpolation of the map within zeros.

  Several times faster than `conv_transpose2d` with a group a class.
  """
  x = functional.interpolate(functional.pad(x, (1, 1, 1, 1)), scale_factor=factor, mode='bilinear', align_corners=False)
  return x[:, :, factor : factor + size[0], factor : factor + size[1]]


def from_ours(params: dict, classes: int, width: float) -> FCN8s:
  """The network with our parameters, nested dicts of arrays, and with the channels last in memory."""
  net = FCN8s(classes, width)
  convolutions = [
    (f'trunk/conv{block}_{i + 1}', getattr(net, f'block{block}')[2 * i])
    for block, (_, count) in enumerate(BLOCKS, 1)
    for i in range(count)
  ]
  convolutions += [(f'trunk/{name}', getattr(net, name)) for name in ('fc6', 'fc7')]
  convolutions += [(name, getattr(net, name)) for name in ('score_fr', 'score_pool4', 'score_pool3')]
  with torch.no_grad():
    for path, convolution in convolutions:
      layer = params
      for key in path.split('/'):
        layer = layer[key]
      convolution.weight.copy_(torch.tensor(np.transpose(layer['kernel'], (3, 2, 0, 1))))
      convolution.bias.copy_(torch.tensor(np.asarray(layer['bias'])))
  return net.to(memory_format=torch.channels_last)


def normalised(images: np.ndarray, mean, std):
  """uint8 [B, H, W, 3] as the network takes it; its memory stays in that order, which is channels last."""
  x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
  return (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def make_optimizer(net: FCN8s, optim):
  """SGD as ours: no decay of biases, and their own rate. Caffe's and PyTorch's momentum are one at a fixed rate."""
  biases = [p for name, p in net.named_parameters() if name.endswith('bias')]
  kernels = [p for name, p in net.named_parameters() if name.endswith('weight')]
  groups = [
    {'params': kernels, 'weight_decay': optim.weight_decay},
    {'params': biases, 'lr': optim.lr * optim.bias_lr, 'weight_decay': 0.0},
  ]
  return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, fused=True)


def make_train_step(net, optimizer, mean, std):
  """`step(images uint8 [B, H, W, 3], labels uint8 [B, H, W])`: the loss."""

  def step(images, labels):
    optimizer.zero_grad(set_to_none=True)
    scores = net(normalised(images, mean, std))
    loss = functional.cross_entropy(scores, torch.from_numpy(labels).long(), ignore_index=255)
    loss.backward()
    optimizer.step()
    return loss.item()

  return step
