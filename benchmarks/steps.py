"""Training steps and forward passes: rows of `benchmarks/run.py`."""

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import turns
from fcn_jax import models, optim, train
from fcn_jax.config import apply_recipe, default
from fcn_jax.models import cost, names
from fcn_jax.models.layers import max_pool
from fcn_jax.run import devices


class Side:
  """Our side of a comparison: a network with random parameters, and random images, on the devices.

  Attributes:
    config: the config of the run.
    model: the network.
    step: its training step.
    state: the current state.
    images: uint8 [B, H, W, 3], on the host.
    labels: uint8 [B, H, W], on the host.
  """

  def __init__(self, config, *, classes: int, batch: int, size: tuple[int, int]):
    self.config = config
    self.model = models.build(config.model, {'rgb': 3}, {'semantic': classes})
    optimizer = optim.make(config.optim, steps=10**6)
    state = devices.replicate(train.init_state(self.model, optimizer, seed=0))
    self.state = state.replace(params=with_scores(state.params))
    rng = np.random.default_rng(0)
    self.images = rng.integers(0, 256, (batch, *size, 3), np.uint8)
    self.labels = rng.integers(0, classes, self.images.shape[:3]).astype(np.uint8)
    self.step = train.make_train_step(self.model, optimizer, config)

  def arguments(self) -> tuple:
    """The batch and the signal of a step, copied from the host to the devices."""
    size = np.tile(np.array(self.labels.shape[1:], np.int32), (len(self.labels), 1))
    batch = {'inputs': {'rgb': self.images}, 'labels': {'semantic': self.labels}, 'size': size}
    return devices.shard(batch), no_signal()

  def train(self) -> float:
    """Takes a step, including the copy of its batch from the host; returns the loss."""
    self.state, numbers = self.step(self.state, *self.arguments())
    jax.block_until_ready(self.state)
    return float(numbers['loss'].addressable_data(0))

  def compiled(self) -> dict:
    """Compiles the step, which is not compiled again when it is called; returns the numbers of `compiled`."""
    self.step, measured = compiled(self.step.lower(self.state, *self.arguments()))
    return measured

  def flop(self) -> int:
    """FLOPs that a forward pass of the whole batch requires; a step requires three times as many."""
    return cost.flops(self.model, self.labels.shape[1:]) * len(self.labels)

  def arrays(self) -> dict[str, np.ndarray]:
    """The arrays that `turns.Peer` gets."""
    return flat(self.state.params) | {'images': self.images, 'labels': self.labels}


@dataclasses.dataclass(frozen=True)
class Workload:
  """A network, trained by SGD on images of one size (height, width); `network` is FCN-8s's backbone, or 'unet'."""

  width: float
  batch: int
  size: tuple[int, int]
  network: str = 'vgg16'
  classes: int = 21
  dtype: str = 'float32'
  remat: bool = False
  accumulation: int = 1

  def side(self) -> Side:
    """Our side of this workload."""
    config = default('voc2011')
    config.model.update(width=self.width, dropout=0.0, dtype=self.dtype, remat=self.remat)
    config.model.update({'name': 'unet'} if self.network == 'unet' else {'backbone': self.network})
    config.model.norm = names.pretrained_norm(config.model)
    config.optim.lr = 1e-6  # so small that the numbers stay near those of the start, however many steps follow
    config.train.accumulation = self.accumulation
    return Side(config, classes=self.classes, batch=self.batch, size=self.size)


NARROW = Workload(0.25, 16, (120, 160))


def no_signal() -> jax.Array:
  """The argument `signal` of a step if no host has received a signal."""
  return devices.shard(np.zeros(jax.local_device_count(), np.int32))


def task(kind: str, model, config) -> dict:
  """The task that `turns.Peer` gets, with the same network."""
  numbers = {'mean': model.mean['rgb'], 'std': model.std['rgb'], 'optim': config.optim.to_dict()}
  network = 'unet' if config.model.name == 'unet' else config.model.backbone
  size = {'network': network, 'classes': model.heads['semantic'], 'width': config.model.width}
  return numbers | size | {'kind': kind, 'dtype': config.model.dtype}


def with_scores(params: dict) -> dict:
  """The parameters with random score layers; those of a new network are zero and leave nothing to compare."""

  def fill(path, x):
    is_score = path[0].key.startswith('score') and path[-1].key == 'kernel'
    return 0.01 * jax.random.normal(jax.random.key(1), x.shape) if is_score else x

  return devices.replicate(jax.tree_util.tree_map_with_path(fill, params))


def flat(tree) -> dict[str, np.ndarray]:
  """The arrays of a tree by path, for example 'trunk/conv1_1/kernel'."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(x) for path, x in jax.tree.leaves_with_path(tree)
  }


def compiled(lowered) -> tuple[Callable, dict]:
  """Compiles a lowered function: the program, and its compile_seconds and temporary_gib.

  Time the program: a call of the function itself may compile it again, depending on the version of jax.
  """
  begun = time.perf_counter()
  program = lowered.compile()
  seconds, memory = time.perf_counter() - begun, program.memory_analysis()
  return program, {'compile_seconds': seconds, 'temporary_gib': memory.temp_size_in_bytes / 2**30}


@functools.cache
def matrix_peak(dtype: str, precision: str | None = None, n: int | None = None) -> float:
  """FLOP/s of the best of seven products of square matrices.

  Args:
    dtype: of both matrices.
    precision: of the product, as in `jnp.matmul`.
    n: rows and columns; by default 2048 on a CPU, else 8192.
  """
  n = n or (2048 if jax.default_backend() == 'cpu' else 8192)
  x = jax.device_put(np.random.default_rng(0).normal(size=(n, n))).astype(jnp.dtype(dtype))
  product = jax.jit(functools.partial(jnp.matmul, precision=precision))
  turn = turns.timed(lambda: jax.block_until_ready(product(x, x)))
  return 2 * n**3 / min(turn() for _ in range(7))


def first_step(side: Side) -> dict[str, np.ndarray]:
  """The numbers of the first step: the loss, and the momentum of each parameter, its gradient with the decay."""
  loss = side.train()
  trace = flat(optax.tree.get(side.state.opt_state, 'trace'))
  trained = {path: x for path, x in trace.items() if path.split('/')[-1] not in ('mean', 'var')}  # of frozen norms
  return {'loss': np.float32(loss)} | turns.momentum(trained.items())


def training(workload: Workload, ways: list[str], rounds: int) -> dict:
  """A step. Both sides must agree on the numbers of the first one."""
  side = workload.side()
  measured = side.compiled()
  arrays = side.arrays()  # before the step
  numbers = first_step(side)
  row = turns.against_peer(side.train, task('train', side.model, side.config), arrays, numbers, ways, rounds)
  return row | measured | rate(3 * side.flop(), row, workload.dtype)


def forward(workload: Workload, ways: list[str], rounds: int) -> dict:
  """A forward pass. Both sides must agree on the scores."""
  side = workload.side()
  params, images = side.state.params, side.images
  function = jax.jit(lambda params, images: side.model.apply({'params': params}, {'rgb': images})['semantic'])
  program, measured = compiled(function.lower(params, images))

  def scores() -> np.ndarray:
    return np.asarray(program(params, images))

  described = task('forward', side.model, side.config)
  row = turns.against_peer(scores, described, side.arrays(), {'scores': scores()}, ways, rounds)
  return row | measured | rate(side.flop(), row, workload.dtype)


def small(recipe: str, ways: list[str], rounds: int) -> dict:
  """A step on `scenes` with the network of a recipe, or the default one; nothing is compared (`ways` is not used)."""
  del ways
  config = default('scenes')
  side = Side(apply_recipe(config, recipe) if recipe else config, classes=8, batch=8, size=(128, 160))
  measured = side.compiled()
  row = turns.against_peer(side.train, {}, {}, {}, [], rounds)
  per_second = 1000 * len(side.images) / row['ours_ms']
  return row | measured | rate(3 * side.flop(), row, 'float32') | {'images_per_second': per_second}


def rate(flop: int, row: dict, dtype: str) -> dict:
  """GFLOP/s, from the FLOPs that the network requires, and their share of the peak of a matrix product."""
  per_second = 1000 * flop / row['ours_ms']
  return {'gflops': per_second / 1e9, 'share_of_peak': per_second / matrix_peak(dtype)}


def accumulation(parts: int, rounds: int) -> dict:
  """A step in parts, compared with as many steps on batches of the size of a part."""
  accumulated = dataclasses.replace(NARROW, accumulation=parts).side()
  small = dataclasses.replace(NARROW, batch=NARROW.batch // parts).side()

  def steps() -> None:
    for _ in range(parts):
      small.train()

  return turns.against_ourselves(accumulated.train, steps, f'{parts} steps', rounds)


def pooling(shape: tuple[int, ...], rounds: int) -> dict:
  """Max-pooling and its gradient, compared with XLA's (select-and-scatter)."""
  x = jax.device_put(np.random.default_rng(0).random(shape, np.float32))

  def xla(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID')

  def both(pool):
    gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(pool(x) ** 2)))
    return lambda: jax.block_until_ready(gradient(x))

  np.testing.assert_allclose(both(max_pool)()[1], both(xla)()[1])
  return turns.against_ourselves(both(max_pool), both(xla), 'reduce_window', rounds)


def remat(workload: Workload, rounds: int) -> dict:
  """A step with `model.remat`, compared with one without; the row has the temporary memory of both."""
  saving, plain = dataclasses.replace(workload, remat=True).side(), workload.side()
  measured = saving.compiled() | {'temporary_gib_without': plain.compiled()['temporary_gib']}
  return measured | turns.against_ourselves(saving.train, plain.train, 'without', rounds)


SUITES = {
  'cpu': {
    'train, narrow': (training, NARROW),
    'train, 150 classes': (training, Workload(0.25, 4, (240, 320), classes=150)),
    'train, paper size, batch 1': (training, Workload(1.0, 1, (240, 320))),
    'train, paper size, batch 4': (training, Workload(1.0, 4, (240, 320))),
    'forward, one image': (forward, Workload(1.0, 1, (500, 500))),
    'train, ResNet-50': (training, Workload(1.0, 4, (240, 320), network='resnet50')),
    'forward, ResNet-50, one image': (forward, Workload(1.0, 1, (500, 500), network='resnet50')),
    'train, U-Net of width 0.5': (training, Workload(0.5, 4, (240, 320), network='unet')),
    'forward, U-Net, one image': (forward, Workload(1.0, 1, (500, 500), network='unet')),
  },
  'gpu': {
    'train, batch 16': (training, Workload(1.0, 16, (500, 500), dtype='bfloat16')),
    'train, batch 32': (training, Workload(1.0, 32, (500, 500), dtype='bfloat16')),
    'forward, one image': (forward, Workload(1.0, 1, (500, 500), dtype='bfloat16')),
  },
  'networks': {'scenes, vgg16': (small, '')}
  | {f'scenes, {name}': (small, f'small_{name}') for name in ('resnet18', 'resnet50', 'alexnet', 'unet')},
}


def rows(suite: str, ways: list[str], rounds: int) -> dict[str, Callable[[], dict]]:
  """Functions that measure one row each, by its name."""
  found = {
    name: functools.partial(measure, workload, ways, rounds) for name, (measure, workload) in SUITES[suite].items()
  }
  if suite == 'cpu':
    found |= {
      'accumulation in 4, narrow': functools.partial(accumulation, 4, rounds),
      'max-pooling, 120x160x16, batch 16': functools.partial(pooling, (16, 120, 160, 16), rounds),
      'max-pooling, 240x320x64': functools.partial(pooling, (1, 240, 320, 64), rounds),
      'remat, narrow': functools.partial(remat, NARROW, rounds),
      'remat, one image of 500x500': functools.partial(remat, Workload(1.0, 1, (500, 500)), rounds),
    }
  return found
