"""Time of a forward pass of one picture: FCN-32s, FCN-16s and FCN-8s.

  python benchmarks/forward.py --geometry=caffe --out=forward.json

The papers' is a 500x500 picture on a Tesla K40c: FCN-8s in about 175 ms (CVPR'15, table 3), and in about 100 ms later
(PAMI'16, abstract). Compilation and `--warmup` passes come before; the picture lies on the device, and so do the
scores. Weights are random, which costs the same.
"""

import json
import pathlib
import statistics
import time

from absl import app, flags

from fcn_jax import machine

_SIZE = flags.DEFINE_integer('size', 500, 'Height and width of the picture, pixels.', lower_bound=1)
_WIDTH = flags.DEFINE_float('width', 1.0, "Of the network; 1 is the paper's.", lower_bound=1 / 64)
_CLASSES = flags.DEFINE_integer('classes', 21, "The number of classes; VOC's are 21.", lower_bound=1)
_GEOMETRY = flags.DEFINE_enum('geometry', 'aligned', ['aligned', 'caffe'], "caffe has the papers' 100 pixels of zeros.")
_DTYPE = flags.DEFINE_enum('dtype', 'float32', ['float32', 'bfloat16'], 'Of the computation.')
_STRIDES = flags.DEFINE_multi_integer('stride', [32, 16, 8], 'Networks: 32 is FCN-32s.')
_REPEATS = flags.DEFINE_integer('repeats', 7, 'Timed passes.', lower_bound=7)
_WARMUP = flags.DEFINE_integer('warmup', 2, 'Passes before them.', lower_bound=1)
_OUT = flags.DEFINE_string('out', '', 'A JSON file to write too.')


def main(_) -> None:
  machine.tune_for_cpu()  # as all commands do, before jax is imported
  import jax

  device = jax.devices()[0].device_kind
  size, found = f'{_SIZE.value}x{_SIZE.value}', {}
  print(f'{size}, width {_WIDTH.value:g}, {_GEOMETRY.value}, {_DTYPE.value}, 1 x {device}, jax {jax.__version__}')
  print('| net | GFLOP | median, ms | fastest | slowest |\n|---|---|---|---|---|')
  for stride in _STRIDES.value:
    gflop, seconds = measure(stride)
    median, least, most = (1000 * f(seconds) for f in (statistics.median, min, max))
    print(f'| FCN-{stride}s | {gflop:.1f} | {median:.1f} | {least:.1f} | {most:.1f} |', flush=True)
    found[f'FCN-{stride}s'] = {'gflop': gflop, 'seconds': seconds}
  if _OUT.value:
    settings = {flag.name: flag.value for flag in (_SIZE, _WIDTH, _CLASSES, _GEOMETRY, _DTYPE)}
    written = settings | {'device': device, 'jax': jax.__version__, 'networks': found}
    pathlib.Path(_OUT.value).write_text(json.dumps(written, indent=1) + '\n')


def measure(stride: int) -> tuple[float, list[float]]:
  """GFLOP of a network's forward pass, and the seconds of each of the passes."""
  import jax
  import numpy as np

  from fcn_jax import optim, train
  from fcn_jax.config import default, validate
  from fcn_jax.models import fcn
  from fcn_jax.run import devices

  config = default('voc2011_sbd')
  config.model.update(stride=stride, width=_WIDTH.value, geometry=_GEOMETRY.value, dtype=_DTYPE.value)
  validate(config)
  devices.keep_compilations()
  model = fcn.from_config(config, _CLASSES.value)
  params = train.init_state(model, optim.make(config.optim, 1), seed=0).params
  shape = (1, _SIZE.value, _SIZE.value, 3)
  image = jax.device_put(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
  forward = jax.jit(lambda params, image: model.apply({'params': params}, image))
  seconds = []
  for _ in range(_WARMUP.value + _REPEATS.value):
    begun = time.perf_counter()
    jax.block_until_ready(forward(params, image))
    seconds.append(time.perf_counter() - begun)
  return fcn.flops(model, _SIZE.value, _SIZE.value) / 1e9, seconds[_WARMUP.value :]


if __name__ == '__main__':
  app.run(main)
