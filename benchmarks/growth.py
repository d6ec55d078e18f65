"""How a training step grows with the batch, the picture, the classes and the devices: a table, and a plot of it.

  python -m benchmarks.growth --out=growth

Each point is a process of its own, since memory is that of the process at its peak (of the device, where it has its
own). Devices of a CPU are faked and share its cores, so that they show what sharing out a batch costs, not a gain.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

from absl import app, flags

from fcn_jax import machine
from fcn_jax.sweep import slots

machine.tune_for_cpu()  # as all commands do, before jax is imported

import matplotlib
from matplotlib import pyplot

from benchmarks import steps, turns
from fcn_jax.run.clock import peak_memory

BASE = {'width': 0.25, 'batch': 8, 'size': (120, 160)}
FULL = {'width': 1.0, 'batch': 1}
SIZES = ((60, 80), (120, 160), (240, 320), (480, 640))
# Each axis: what is on it, and how it changes the workload; `devices` is no field of it.
AXES = {
  'pictures a batch': {n: BASE | {'batch': n} for n in (1, 2, 4, 8, 16, 32)},
  'pixels a picture': {h * w: BASE | {'size': (h, w)} for h, w in SIZES},
  'pixels, full width': {h * w: FULL | {'size': (h, w)} for h, w in ((120, 160), (240, 320), (500, 500))},
  'classes': {n: BASE | {'classes': n} for n in (2, 8, 21, 60, 150)},
  'devices': {n: BASE | {'devices': n} for n in (1, 2, 4, 8)},
}
MEASURED = {
  'ms': 'ms a step',
  'peak_gib': 'peak memory, GiB',
  'temporary_gib': 'temporary, GiB',
  'compile_seconds': 'compile, s',
}

_AXIS = flags.DEFINE_multi_enum('axis', list(AXES), list(AXES), 'What to vary; all by default.')
_OUT = flags.DEFINE_string('out', 'growth', 'Where the table (.json) and the plot (.png) go.')
_POINT = flags.DEFINE_string('point', '', 'A workload, as JSON, to be measured in this process.')


def main(_) -> None:
  if _POINT.value:
    print(json.dumps(measure(steps.Workload(**json.loads(_POINT.value)))))
    return
  found, out = {}, pathlib.Path(_OUT.value)
  print(f'| axis | | {" | ".join(MEASURED.values())} |\n|{"---|" * (len(MEASURED) + 2)}')
  for axis in _AXIS.value:
    found[axis] = {}
    for x, point in AXES[axis].items():
      found[axis][x] = values = in_own_process(dict(point))
      print(f'| {axis} | {x} | {" | ".join(f"{values[name]:.3g}" for name in MEASURED)} |', flush=True)
      out.with_suffix('.json').write_text(json.dumps(found, indent=1) + '\n')
  plot(found, out.with_suffix('.png'))


def measure(workload: steps.Workload) -> dict:
  side = steps.Side(workload)
  said = side.compiled()
  seconds = turns.interleaved({'step': turns.timed(side.train)}, 7)['step']
  return said | {'ms': 1000 * statistics.median(seconds), 'peak_gib': peak_memory()}


def in_own_process(point: dict) -> dict:
  devices = point.pop('devices', 1)
  env = os.environ | {'JAX_COMPILATION_CACHE_DIR': ''}
  shares = slots.slots(None)  # one a GPU
  if gpus := [slot.env['CUDA_VISIBLE_DEVICES'] for slot in shares if 'CUDA_VISIBLE_DEVICES' in slot.env]:
    env |= slots.accelerators(gpus[:devices], [])
  else:
    env['XLA_FLAGS'] += f' --xla_force_host_platform_device_count={devices}'
  command = [sys.executable, '-m', 'benchmarks.growth', f'--point={json.dumps(point)}']
  done = subprocess.run(command, cwd=turns.ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def plot(found: dict, path: pathlib.Path) -> None:
  """Time above, memory below, an axis a column, all of them from 0: growth in proportion is a straight line."""
  matplotlib.use('Agg')
  figure, panels = pyplot.subplots(2, len(found), figsize=(3 * len(found), 5), squeeze=False, sharex='col')
  for row, name in zip(panels, ('ms', 'peak_gib'), strict=True):
    row[0].set_ylabel(MEASURED[name])
    for panel, points in zip(row, found.values(), strict=True):
      panel.plot(points.keys(), [values[name] for values in points.values()], 'o-')
      panel.set(xlim=(0, None), ylim=(0, None))
      panel.grid(alpha=0.3)
  for panel, axis in zip(panels[-1], found, strict=True):
    panel.set_xlabel(axis)
  figure.tight_layout()
  figure.savefig(path, dpi=80)
  pyplot.close(figure)


if __name__ == '__main__':
  app.run(main)
