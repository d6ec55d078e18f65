"""Time of a forward pass of one image: FCN-32s, FCN-16s and FCN-8s.

  python benchmarks/forward.py --geometry=caffe --out=forward.json

The papers time a 500x500 image on a Tesla K40c: about 175 ms for FCN-8s (CVPR 2015, table 3), later about 100 ms (PAMI
2016, abstract). Compilation and `--warmup` passes are not timed; image and scores stay on the device. The weights are
random, which does not affect the time.
"""

import json
import pathlib
import statistics
import time

from absl import flags

from fcn_jax import cli


def define_flags() -> None:
  """Defines the flags of the command."""
  flags.DEFINE_integer('size', 500, 'Height and width of the image in pixels.', lower_bound=1)
  flags.DEFINE_float('width', 1.0, "Scales the channels of the network; 1 is the paper's width.", lower_bound=1 / 64)
  flags.DEFINE_integer('classes', 21, 'Number of classes; VOC has 21.', lower_bound=1)
  flags.DEFINE_enum('geometry', 'aligned', ['aligned', 'caffe'], "caffe has the papers' padding of 100 pixels.")
  flags.DEFINE_enum('dtype', 'float32', ['float32', 'bfloat16'], 'Type of the computation.')
  flags.DEFINE_multi_integer('stride', [32, 16, 8], 'Networks: 32 is FCN-32s.')
  flags.DEFINE_integer('repeats', 7, 'Timed passes.', lower_bound=7)
  flags.DEFINE_integer('warmup', 2, 'Passes before the timed ones.', lower_bound=1)
  flags.DEFINE_string('out', '', 'A JSON file to write.')


def main(_) -> None:
  """The command."""
  import jax

  given = flags.FLAGS
  device = jax.devices()[0].device_kind
  size, found = f'{given.size}x{given.size}', {}
  print(f'{size}, width {given.width:g}, {given.geometry}, {given.dtype}, 1 x {device}, jax {jax.__version__}')
  print('| net | GFLOP | median, ms | fastest | slowest |\n|---|---|---|---|---|')
  for stride in given.stride:
    gflop, seconds = measure(stride)
    median, least, most = (1000 * f(seconds) for f in (statistics.median, min, max))
    print(f'| FCN-{stride}s | {gflop:.1f} | {median:.1f} | {least:.1f} | {most:.1f} |', flush=True)
    found[f'FCN-{stride}s'] = {'gflop': gflop, 'seconds': seconds}
  if given.out:
    settings = {name: given[name].value for name in ('size', 'width', 'classes', 'geometry', 'dtype')}
    written = settings | {'device': device, 'jax': jax.__version__, 'networks': found}
    pathlib.Path(given.out).write_text(json.dumps(written, indent=1) + '\n')


def measure(stride: int) -> tuple[float, list[float]]:
  """GFLOP of a network's forward pass, and the seconds of each timed pass."""
  import jax
  import numpy as np

  from fcn_jax import models, optim, train
  from fcn_jax.config import default, validate
  from fcn_jax.models import cost
  from fcn_jax.run import devices

  given = flags.FLAGS
  config = default('voc2011_sbd')
  config.model.update(stride=stride, width=given.width, geometry=given.geometry, dtype=given.dtype)
  validate(config)
  devices.enable_compilation_cache()
  model = models.build(config.model, {'rgb': 3}, {'semantic': given.classes})
  params = train.init_state(model, optim.make(config.optim, 1), seed=0).params
  shape = (1, given.size, given.size, 3)
  image = jax.device_put(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
  forward = jax.jit(lambda params, image: model.apply({'params': params}, {'rgb': image}))
  seconds = []
  for _ in range(given.warmup + given.repeats):
    begun = time.perf_counter()
    jax.block_until_ready(forward(params, image))
    seconds.append(time.perf_counter() - begun)
  return cost.flops(model, (given.size, given.size)) / 1e9, seconds[given.warmup :]


if __name__ == '__main__':
  cli.run(main, define_flags)
