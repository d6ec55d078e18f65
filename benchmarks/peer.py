"""The same network in PyTorch, written for speed, and the process that `benchmarks/turns.py` times.

  python -m benchmarks.peer FOLDER

FOLDER contains `arrays.npz` and `task.json`, whose `kind` is a key of `KINDS`. The process computes once and writes the
results to `numbers.npz`. From then on, each line of its input starts a turn, and it answers with the seconds that the
turn took.
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
  """FCN-8s in the aligned geometry, without norm: normalized images [B, 3, H, W] to scores [B, C, H, W]."""

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


def upsampled(x, factor: int, size):
  """The bilinear transposed convolution with kernel 2 * factor, cropped, as interpolation of the zero-padded map.

  It is several times faster than `conv_transpose2d` with one group per class.
  """
  x = functional.interpolate(functional.pad(x, (1, 1, 1, 1)), scale_factor=factor, mode='bilinear', align_corners=False)
  return x[:, :, factor : factor + size[0], factor : factor + size[1]]


def named(net: FCN8s) -> dict[str, nn.Conv2d]:
  """The convolutions by the path of the same layer in our parameters."""
  convolutions = {
    f'trunk/conv{block}_{i + 1}': getattr(net, f'block{block}')[2 * i]
    for block, (_, count) in enumerate(BLOCKS, 1)
    for i in range(count)
  }
  convolutions |= {f'trunk/{name}': getattr(net, name) for name in ('fc6', 'fc7')}
  return convolutions | {name: getattr(net, name) for name in ('score_fr', 'score_pool4', 'score_pool3')}


def make_net(task: dict, arrays) -> FCN8s:
  """The network with our parameters, in channels-last memory format."""
  net = FCN8s(task['classes'], task['width'])
  with torch.no_grad():
    for path, convolution in named(net).items():
      convolution.weight.copy_(torch.tensor(np.transpose(arrays[f'{path}/kernel'], (3, 2, 0, 1))))
      convolution.bias.copy_(torch.tensor(arrays[f'{path}/bias']))
  return net.to(DEVICE, memory_format=torch.channels_last)


def normalized(images: np.ndarray, task: dict):
  """uint8 [B, H, W, 3] to the network's input [B, 3, H, W], in channels-last memory format."""
  x = torch.from_numpy(images).to(DEVICE).permute(0, 3, 1, 2).float()
  mean, std = (torch.tensor(task[name], device=DEVICE).view(1, 3, 1, 1) for name in ('mean', 'std'))
  return (x - mean) / std


def precision(task: dict):
  """A context in which PyTorch computes in the type of the task."""
  return torch.autocast(DEVICE, torch.bfloat16, enabled=task['dtype'] == 'bfloat16')


def train(task: dict, arrays):
  """Steps of the same SGD: biases do not decay and have another learning rate.

  At a fixed learning rate, Caffe's momentum and PyTorch's are the same.
  """
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
      scores = called(normalized(images, task))
    # Pixels x classes, the order in memory: up to three times faster than with the classes as the second of four axes.
    pixels = scores.float().permute(0, 2, 3, 1).flatten(0, 2)
    label = torch.from_numpy(labels).to(DEVICE).long().flatten()
    loss = functional.cross_entropy(pixels, label, ignore_index=IGNORE)
    loss.backward()
    optimizer.step()
    return loss.item()

  def momentum() -> Iterator[tuple[str, np.ndarray]]:
    """The momentum, multiplied by minus the learning rate as in our optimizer."""
    for path, convolution in named(net).items():
      kernel, bias = (optimizer.state[p]['momentum_buffer'].cpu() for p in (convolution.weight, convolution.bias))
      yield f'{path}/kernel', -optim['lr'] * kernel.permute(2, 3, 1, 0).numpy()
      yield f'{path}/bias', -optim['lr'] * optim['bias_lr'] * bias.numpy()

  return step, {'loss': step()} | turns.momentum(momentum())


def forward(task: dict, arrays):
  """Forward passes, with the scores copied to the host."""
  net, images = make_net(task, arrays), arrays['images']
  called = torch.compile(net) if task['compiled'] else net

  def scores() -> np.ndarray:
    with torch.inference_mode(), precision(task):
      return called(normalized(images, task)).float().permute(0, 2, 3, 1).contiguous().cpu().numpy()

  return scores, {'scores': scores()}


def evaluation(task: dict, arrays):
  """The confusion matrix of the test images, one image at a time, each at its original size."""
  from benchmarks import around

  net, classes = make_net(task, arrays), task['classes']
  called = torch.compile(net, dynamic=True) if task['compiled'] else net
  images = around.stanford_split(task['archive'], 'test')

  def matrix() -> np.ndarray:
    total = np.zeros((classes, classes), np.int64)
    with torch.inference_mode(), precision(task):
      for index in range(len(images)):
        image, label = images[index]['inputs']['rgb'], images[index]['labels']['semantic']
        prediction = called(normalized(image[None], task)).argmax(1)[0].cpu().numpy()
        labeled = label != IGNORE
        pairs = label[labeled].astype(np.int64) * classes + prediction[labeled]
        total += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return total

  return matrix, {'matrix': matrix()}


def reading(task: dict, arrays):
  """Batches of decoded and augmented images on one core, from a DataLoader, with pillow."""
  from benchmarks import around

  del arrays
  torch.set_num_threads(1)  # two threads on one core would wait for each other
  config = around.stanford(task['archive'])
  images = around.stanford_split(task['archive'], 'train', cache_gib=0.0)
  amounts = [config.data[name] for name in around.COLORS]
  config.data.update(dict.fromkeys(around.COLORS, 0.0))  # changed below instead, one after the other, like torchvision

  class Examples(torch.utils.data.Dataset):
    def __len__(self):
      return len(images)

    def __getitem__(self, index):
      rng = np.random.default_rng(index)
      example = augment(images[index], rng, config.data)
      image = Image.fromarray(example['inputs']['rgb'])
      for enhance, amount in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), amounts, strict=True
      ):
        image = enhance(image).enhance(rng.uniform(1 - amount, 1 + amount))
      return example | {'inputs': {'rgb': np.array(image)}}

  examples = Examples()
  sampler = torch.utils.data.RandomSampler(examples, num_samples=around.READ * around.READ_BATCH)
  loader = torch.utils.data.DataLoader(examples, around.READ_BATCH, sampler=sampler)

  def read() -> None:
    with around.one_core():
      around.read(iter(loader))

  return read, {}


KINDS = {'train': train, 'forward': forward, 'evaluation': evaluation, 'reading': reading}


def main(folder: str) -> None:
  """The command."""
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
