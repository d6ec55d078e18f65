"""The same work in PyTorch, written for speed: the process that `benchmarks/turns.py` times.

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

from benchmarks import peer_networks, turns
from fcn_jax.data.augment import augment
from fcn_jax.data.dataset import IGNORE

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def make_net(task: dict, arrays) -> nn.Module:
  """The network with our parameters, in channels-last memory format."""
  net = peer_networks.NETWORKS[task['network']](task['classes'], task['width'])
  with torch.no_grad():
    for tensor in peer_networks.tensors(net.layers()):
      tensor.value.copy_(torch.tensor(arrays[tensor.path].transpose(tensor.axes)))
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
  """Steps of the same SGD: kernels decay, and biases of convolutions have another learning rate.

  At a fixed learning rate, Caffe's momentum and PyTorch's are the same.
  """
  net, optim = make_net(task, arrays), task['optim']
  trained = [tensor for tensor in peer_networks.tensors(net.layers()) if tensor.kind != 'statistic']
  rates = {'kernel': optim['lr'], 'bias': optim['lr'] * optim['bias_lr'], 'norm': optim['lr']}
  groups = [
    {
      'params': [tensor.value for tensor in trained if tensor.kind == kind],
      'lr': rate,
      'weight_decay': optim['weight_decay'] if kind == 'kernel' else 0.0,
    }
    for kind, rate in rates.items()
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
    for tensor in trained:
      yield tensor.path, -rates[tensor.kind] * tensor.numpy(optimizer.state[tensor.value]['momentum_buffer'])

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
