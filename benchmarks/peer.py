"""The same network in PyTorch, written for speed, and the process that takes its turns (`benchmarks/turns.py`).

  python -m benchmarks.peer FOLDER

The folder has `task.json`, with `kind`, a key of `KINDS`, and what that needs, and `arrays.npz`. The process computes
once and writes what came out to `numbers.npz`; then each line that it reads is a turn, and each that it writes the
seconds that it took.
"""

import json
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import nn
from torch.nn import functional

from benchmarks import turns
from fcn_jax.data.augment import augment
from fcn_jax.data.dataset import IGNORE

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


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


def named(net: FCN8s) -> dict[str, nn.Conv2d]:
  """The convolutions by the path of their parameters in ours."""
  convolutions = {
    f'trunk/conv{block}_{i + 1}': getattr(net, f'block{block}')[2 * i]
    for block, (_, count) in enumerate(BLOCKS, 1)
    for i in range(count)
  }
  convolutions |= {f'trunk/{name}': getattr(net, name) for name in ('fc6', 'fc7')}
  return convolutions | {name: getattr(net, name) for name in ('score_fr', 'score_pool4', 'score_pool3')}


def make_net(task: dict, arrays) -> FCN8s:
  """The network with our parameters, and with the channels last in memory."""
  net = FCN8s(task['classes'], task['width'])
  with torch.no_grad():
    for path, convolution in named(net).items():
      convolution.weight.copy_(torch.tensor(np.transpose(arrays[f'{path}/kernel'], (3, 2, 0, 1))))
      convolution.bias.copy_(torch.tensor(arrays[f'{path}/bias']))
  return net.to(DEVICE, memory_format=torch.channels_last)


def normalised(images: np.ndarray, task: dict):
  """uint8 [B, H, W, 3] as the network takes it; its memory stays in that order, which is channels last."""
  x = torch.from_numpy(images).to(DEVICE).permute(0, 3, 1, 2).float()
  mean, std = (torch.tensor(task[name], device=DEVICE).view(1, 3, 1, 1) for name in ('mean', 'std'))
  return (x - mean) / std


def precision(task: dict):
  return torch.autocast(DEVICE, torch.bfloat16, enabled=task['dtype'] == 'bfloat16')


def train(task: dict, arrays):
  """Steps of SGD as ours: no decay of biases, and their own rate. Caffe's and PyTorch's momentum are one at a fixed
  rate."""
  net, optim = make_net(task, arrays), task['optim']
  biases = [p for name, p in net.named_parameters() if name.endswith('bias')]
  kernels = [p for name, p in net.named_parameters() if name.endswith('weight')]
  groups = [
    {'params': kernels, 'weight_decay': optim['weight_decay']},
    {'params': biases, 'lr': optim['lr'] * optim['bias_lr'], 'weight_decay': 0.0},
  ]
  optimizer = torch.optim.SGD(groups, lr=optim['lr'], momentum=optim['momentum'], fused=True)
  called = torch.compile(net) if task['compiled'] else net
  images, labels = arrays['images'], arrays['labels']

  def step() -> float:
    optimizer.zero_grad(set_to_none=True)
    with precision(task):
      scores = called(normalised(images, task))
    # Pixels in a row, as they lie in memory: up to three times faster than with the classes as the second of four axes.
    pixels = scores.float().permute(0, 2, 3, 1).flatten(0, 2)
    label = torch.from_numpy(labels).to(DEVICE).long().flatten()
    loss = functional.cross_entropy(pixels, label, ignore_index=IGNORE)
    loss.backward()
    optimizer.step()
    return loss.item()

  def momentum() -> Iterator[tuple[str, np.ndarray]]:
    """With the rate and its sign inside, as ours has it."""
    for path, convolution in named(net).items():
      kernel, bias = (optimizer.state[p]['momentum_buffer'].cpu() for p in (convolution.weight, convolution.bias))
      yield f'{path}/kernel', -optim['lr'] * kernel.permute(2, 3, 1, 0).numpy()
      yield f'{path}/bias', -optim['lr'] * optim['bias_lr'] * bias.numpy()

  return step, {'loss': step()} | turns.momentum(momentum())


def forward(task: dict, arrays):
  net, images = make_net(task, arrays), arrays['images']
  called = torch.compile(net) if task['compiled'] else net

  def scores() -> np.ndarray:
    with torch.inference_mode(), precision(task):
      return called(normalised(images, task)).float().permute(0, 2, 3, 1).contiguous().cpu().numpy()

  return scores, {'scores': scores()}


def evaluation(task: dict, arrays):
  """One picture after the other, in its own size."""
  from benchmarks import around

  net, classes = make_net(task, arrays), task['classes']
  called = torch.compile(net, dynamic=True) if task['compiled'] else net
  pictures = around.pictures(task['archive'], 'test')

  def matrix() -> np.ndarray:
    total = np.zeros((classes, classes), np.int64)
    with torch.inference_mode(), precision(task):
      for index in range(len(pictures)):
        image, label = pictures[index]['image'], pictures[index]['label']
        prediction = called(normalised(image[None], task)).argmax(1)[0].cpu().numpy()
        known = label != IGNORE
        pairs = label[known].astype(np.int64) * classes + prediction[known]
        total += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return total

  return matrix, {'matrix': matrix()}


def reading(task: dict, arrays):
  """Batches of decoded and augmented pictures on one core, from a DataLoader, with pillow."""
  from benchmarks import around

  del arrays
  torch.set_num_threads(1)  # two on one core would wait for each other
  config = around.stanford(task['archive'])
  pictures = around.pictures(task['archive'], 'train', cache=0.0)
  amounts = [config.data[name] for name in around.COLOURS]
  config.data.update(dict.fromkeys(around.COLOURS, 0.0))  # done below, as torchvision does it

  class Examples(torch.utils.data.Dataset):
    def __len__(self):
      return len(pictures)

    def __getitem__(self, index):
      picture, rng = pictures[index], np.random.default_rng(index)
      example = augment(picture['image'], picture['label'], rng, config.data)
      image = Image.fromarray(example['image'])
      for enhance, amount in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), amounts, strict=True
      ):
        image = enhance(image).enhance(rng.uniform(1 - amount, 1 + amount))
      return example | {'image': np.array(image)}

  loader = torch.utils.data.DataLoader(Examples(), around.READ_BATCH, shuffle=True, drop_last=True)

  def read() -> None:
    with around.one_core():
      around.read(iter(loader))

  return read, {}


KINDS = {'train': train, 'forward': forward, 'evaluation': evaluation, 'reading': reading}


def main(folder: str) -> None:
  folder = pathlib.Path(folder)
  task = json.loads((folder / 'task.json').read_text())
  with np.load(folder / 'arrays.npz') as arrays:
    function, numbers = KINDS[task['kind']](task, dict(arrays))
  np.savez(folder / 'numbers.npz', **numbers)
  turn = turns.timed(function)
  print('ready', flush=True)
  for _ in sys.stdin:
    print(turn(), flush=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
