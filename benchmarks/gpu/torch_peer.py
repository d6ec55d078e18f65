"""The same step and forward pass in PyTorch (extra `[bench]`), in bfloat16 on a batch that stays on the device.

  python -m benchmarks.gpu.torch_peer

The network is that of `benchmarks/peer_networks.py`. PyTorch's convolution of fc6 takes most of a step, and our network
computes fc6 as patches times a matrix, so the fair comparison is the configuration that does the same ('fc6 unfolded').
"""

import time

import torch
from absl import flags
from torch import nn
from torch.nn import functional

from benchmarks import turns
from benchmarks.gpu import rows
from benchmarks.peer import DEVICE
from benchmarks.peer_networks import FCN8s
from fcn_jax import cli
from fcn_jax.data.dataset import IGNORE

CLASSES = 21
# Configuration -> torch.compile, cudnn.benchmark, fc6 unfolded.
CONFIGURATIONS = {
  'plain': (False, False, False),
  'cudnn.benchmark': (False, True, False),
  'compiled': (True, True, False),
  'fc6 unfolded': (False, True, True),
  'fc6 unfolded, compiled': (True, True, True),
}


class Unfolded(nn.Module):
  """A convolution of stride 1 that keeps the size, as gathered patches times a matrix."""

  def __init__(self, convolution: nn.Conv2d):
    super().__init__()
    self.weight, self.bias = convolution.weight, convolution.bias

  def forward(self, x):
    """[B, C, H, W] to [B, channels, H, W]."""
    kernel = self.weight.shape[-1]
    patches = functional.unfold(x, kernel, padding=kernel // 2)  # [B, C * kernel * kernel, H * W]
    return (self.weight.flatten(1) @ patches + self.bias[:, None]).unflatten(2, x.shape[2:])


def make_net(*, unfolded: bool, small: bool = False) -> FCN8s:
  """The network, on the device, in channels-last memory format."""
  torch.manual_seed(0)
  net = FCN8s(CLASSES, 0.0625 if small else 1.0)
  if unfolded:
    net.fc6 = Unfolded(net.fc6)
  return net.to(DEVICE, memory_format=torch.channels_last)


def measure(configuration: str, *, small: bool = False) -> dict[str, float]:
  """Measures a step on 16 images of 500x500 and a forward pass of one; `small` makes batch, images and network tiny.

  Args:
    configuration: a key of `CONFIGURATIONS`.
    small: for trying the script on a CPU.

  Returns:
    step_ms, images_per_second, first_seconds (the first step, with compilation), peak_gib (0 on a CPU), forward_ms.
  """
  compiled, benchmark, unfolded = CONFIGURATIONS[configuration]
  torch.backends.cudnn.benchmark = benchmark
  torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
  batch, size, calls = (1, 64, 2) if small else (16, 500, 10)
  net = make_net(unfolded=unfolded, small=small)
  function = torch.compile(net) if compiled else net
  optimizer = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4, fused=True)
  images = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8, device=DEVICE)
  labels = torch.randint(0, CLASSES, (batch, size, size), device=DEVICE)

  def step() -> None:
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(DEVICE, torch.bfloat16):
      scores = function(normalized(images))
    pixels = scores.float().permute(0, 2, 3, 1).flatten(0, 2)
    functional.cross_entropy(pixels, labels.flatten(), ignore_index=IGNORE).backward()
    optimizer.step()

  def forward() -> None:
    with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16):
      function(normalized(images[:1]))

  if DEVICE == 'cuda':
    torch.cuda.reset_peak_memory_stats()
  begun = time.perf_counter()
  step()
  wait()
  found = {'first_seconds': time.perf_counter() - begun}
  seconds = turns.queued(step, wait, calls=calls)
  found |= {'step_ms': 1000 * seconds, 'images_per_second': batch / seconds}
  found['peak_gib'] = torch.cuda.max_memory_allocated() / 2**30 if DEVICE == 'cuda' else 0.0
  return found | {'forward_ms': 1000 * turns.queued(forward, wait, calls=3 * calls)}


def normalized(images: torch.Tensor) -> torch.Tensor:
  """uint8 [B, H, W, 3] to the network's input [B, 3, H, W]."""
  return images.permute(0, 3, 1, 2).float() - 120.0


def wait(_=None) -> None:
  """Returns when the device has done all its work."""
  if DEVICE == 'cuda':
    torch.cuda.synchronize()


def define_flags() -> None:
  """Defines the flags of the command."""
  rows.define_small()
  flags.DEFINE_multi_enum('configuration', list(CONFIGURATIONS), list(CONFIGURATIONS), 'What to measure; default: all.')


def main(_) -> None:
  """The command."""
  for name in flags.FLAGS.configuration:
    rows.show({'PyTorch': name} | measure(name, small=flags.FLAGS.small))


if __name__ == '__main__':
  cli.run(main, define_flags)
