"""Steps and forward passes: rows of `benchmarks/run.py`."""

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import turns
from fcn_jax import optim, train
from fcn_jax.config import default
from fcn_jax.models import fcn
from fcn_jax.models.vgg import max_pool
from fcn_jax.run import devices


@dataclasses.dataclass(frozen=True)
class Workload:
  """FCN-8s on pictures of a size (height, width), in SGD."""

  width: float
  batch: int
  size: tuple[int, int]
  classes: int = 21
  dtype: str = 'float32'
  remat: bool = False
  accumulation: int = 1


NARROW = Workload(0.25, 16, (120, 160))


class Side:
  """Our side of a workload: random parameters and pictures, on the devices.

  Attributes:
    config, model, state, step: of a run.
    images, labels: uint8, on the host.
  """

  def __init__(self, workload: Workload):
    self.workload, self.config = workload, default('voc2011')
    self.config.model.update(width=workload.width, dropout=0.0, dtype=workload.dtype, remat=workload.remat)
    self.config.optim.lr = 1e-6  # the numbers stay those of the start, whatever the number of steps
    self.config.train.accumulation = workload.accumulation
    self.model = fcn.from_config(self.config, workload.classes)
    optimizer = optim.make(self.config.optim, steps=10**6)
    state = devices.replicate(train.init_state(self.model, optimizer, seed=0))
    self.state = state.replace(params=with_scores(state.params))
    rng = np.random.default_rng(0)
    self.images = rng.integers(0, 256, (workload.batch, *workload.size, 3), np.uint8)
    self.labels = rng.integers(0, workload.classes, self.images.shape[:3]).astype(np.uint8)
    self.step = train.make_train_step(self.model, optimizer, self.config)

  def batch(self) -> dict:
    """On the devices."""
    size = np.tile(np.array(self.workload.size, np.int32), (len(self.images), 1))
    signal = np.zeros(len(self.images), np.int32)
    return devices.share({'image': self.images, 'label': self.labels, 'size': size, 'signal': signal})

  def train(self) -> float:
    """Takes a step, with its batch from the host; the loss."""
    self.state, numbers = self.step(self.state, self.batch())
    jax.block_until_ready(self.state)
    return float(numbers['loss'].addressable_data(0))

  def compiled(self) -> dict:
    """What XLA says of the step: seconds to compile, temporary memory."""
    return compiled(self.step.lower(self.state, self.batch()))

  def flop(self) -> int:
    """Of a forward pass of the whole batch, as the network needs them; a step needs three times that."""
    return fcn.flops(self.model, *self.workload.size) * len(self.images)

  def arrays(self) -> dict[str, np.ndarray]:
    """For `turns.Peer`."""
    return flat(self.state.params) | {'images': self.images, 'labels': self.labels}


def task(kind: str, model: fcn.FCN, config) -> dict:
  """For `turns.Peer`: the same network."""
  numbers = {'mean': model.mean, 'std': model.std, 'optim': config.optim.to_dict()}
  return numbers | {'kind': kind, 'classes': model.classes, 'width': config.model.width, 'dtype': config.model.dtype}


def with_scores(params: dict) -> dict:
  """The parameters with random score layers, which else start at zero and leave nothing to compare."""

  def fill(path, x):
    is_score = path[0].key.startswith('score') and path[-1].key == 'kernel'
    return 0.01 * jax.random.normal(jax.random.key(1), x.shape) if is_score else x

  return devices.replicate(jax.tree_util.tree_map_with_path(fill, params))


def flat(tree) -> dict[str, np.ndarray]:
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(x) for path, x in jax.tree.leaves_with_path(tree)
  }


def compiled(lowered) -> dict:
  begun = time.perf_counter()
  memory = lowered.compile().memory_analysis()
  return {'compile_seconds': time.perf_counter() - begun, 'temporary_gib': memory.temp_size_in_bytes / 2**30}


def training(workload: Workload, peak: Callable[[str], float], ways: list[str], rounds: int) -> dict:
  """A step; the same are the loss, and the momentum after the first step, which is the gradient with the decay."""
  side = Side(workload)
  said = side.compiled()
  arrays = side.arrays()  # before the step
  loss = side.train()
  trace = flat(optax.tree.get(side.state.opt_state, 'trace'))
  numbers = {'loss': np.float32(loss)} | turns.momentum(trace.items())
  row = turns.against_peer(side.train, task('train', side.model, side.config), arrays, numbers, ways, rounds)
  return row | said | rate(3 * side.flop(), row, peak(workload.dtype))


def forward(workload: Workload, peak: Callable[[str], float], ways: list[str], rounds: int) -> dict:
  side = Side(workload)
  params, images = side.state.params, side.images
  function = jax.jit(lambda params, images: side.model.apply({'params': params}, images))
  said = compiled(function.lower(params, images))

  def scores() -> np.ndarray:
    return np.asarray(function(params, images))

  known = task('forward', side.model, side.config)
  row = turns.against_peer(scores, known, side.arrays(), {'scores': scores()}, ways, rounds)
  return row | said | rate(side.flop(), row, peak(workload.dtype))


def rate(flop: int, row: dict, peak: float) -> dict:
  """The achieved FLOP/s over the FLOPs that the network needs, and their share of the peak of a product of matrices."""
  per_second = 1000 * flop / row['ours_ms']
  return {'gflops': per_second / 1e9, 'share_of_peak': per_second / peak}


def accumulation(parts: int, rounds: int) -> dict:
  """A step in parts beside so many steps of the size of a part."""
  accumulated = Side(dataclasses.replace(NARROW, accumulation=parts))
  small = Side(dataclasses.replace(NARROW, batch=NARROW.batch // parts))

  def steps() -> None:
    for _ in range(parts):
      small.train()

  return turns.against_ourselves(accumulated.train, steps, f'{parts} steps', rounds)


def pooling(shape: tuple[int, ...], rounds: int) -> dict:
  """Max-pooling and its gradient, beside XLA's own, select-and-scatter."""
  x = jax.device_put(np.random.default_rng(0).random(shape, np.float32))

  def xla(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID')

  def both(pool):
    gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(pool(x) ** 2)))
    return lambda: jax.block_until_ready(gradient(x))

  np.testing.assert_allclose(both(max_pool)()[1], both(xla)()[1])
  return turns.against_ourselves(both(max_pool), both(xla), 'reduce_window', rounds)


def remat(workload: Workload, rounds: int) -> dict:
  """A step with `model.remat` beside one without; the temporary memory of both is in the row."""
  saving, plain = Side(dataclasses.replace(workload, remat=True)), Side(workload)
  said = saving.compiled() | {'temporary_gib_without': plain.compiled()['temporary_gib']}
  return said | turns.against_ourselves(saving.train, plain.train, 'without', rounds)


SUITES = {
  'cpu': {
    'train, narrow': (training, NARROW),
    'train, 150 classes': (training, Workload(0.25, 4, (240, 320), classes=150)),
    'train, paper size, batch 1': (training, Workload(1.0, 1, (240, 320))),
    'train, paper size, batch 4': (training, Workload(1.0, 4, (240, 320))),
    'forward, one picture': (forward, Workload(1.0, 1, (500, 500))),
  },
  'gpu': {
    'train, batch 16': (training, Workload(1.0, 16, (500, 500), dtype='bfloat16')),
    'train, batch 32': (training, Workload(1.0, 32, (500, 500), dtype='bfloat16')),
    'forward, one picture': (forward, Workload(1.0, 1, (500, 500), dtype='bfloat16')),
  },
}


def rows(suite: str, peak: Callable[[str], float], ways: list[str], rounds: int) -> dict[str, Callable[[], dict]]:
  """Functions that measure a row each, by its name."""
  found = {
    name: functools.partial(measure, workload, peak, ways, rounds)
    for name, (measure, workload) in SUITES[suite].items()
  }
  if suite == 'cpu':
    found |= {
      'accumulation in 4, narrow': functools.partial(accumulation, 4, rounds),
      'max-pooling, 120x160x16, batch 16': functools.partial(pooling, (16, 120, 160, 16), rounds),
      'max-pooling, 240x320x64': functools.partial(pooling, (1, 240, 320, 64), rounds),
      'remat, narrow': functools.partial(remat, NARROW, rounds),
      'remat, one picture of 500x500': functools.partial(remat, Workload(1.0, 1, (500, 500)), rounds),
    }
  return found
