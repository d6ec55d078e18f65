"""How a training step grows with the batch, the image, the classes and the devices: a table and a plot.

  python -m benchmarks.growth --out=growth

Each point is a separate process, because memory is measured as the peak of a process (or of the device, if it reports
one). Devices of a CPU are simulated and share its cores: they show the cost of splitting a batch, not a gain.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

import matplotlib
from absl import flags
from matplotlib import pyplot

from benchmarks import steps, turns
from fcn_jax import cli
from fcn_jax.run.clock import peak_memory
from fcn_jax.sweep import slots

BASE = {'width': 0.25, 'batch': 8, 'size': (120, 160)}
FULL = {'width': 1.0, 'batch': 1}
SIZES = ((60, 80), (120, 160), (240, 320), (480, 640))
# Each axis: its values, and how each changes the workload; `devices` is not a field of the workload.
AXES = {
  'images per batch': {n: BASE | {'batch': n} for n in (1, 2, 4, 8, 16, 32)},
  'pixels per image': {h * w: BASE | {'size': (h, w)} for h, w in SIZES},
  'pixels, full width': {h * w: FULL | {'size': (h, w)} for h, w in ((120, 160), (240, 320), (500, 500))},
  'classes': {n: BASE | {'classes': n} for n in (2, 8, 21, 60, 150)},
  'devices': {n: BASE | {'devices': n} for n in (1, 2, 4, 8)},
}
MEASURED = {
  'ms': 'ms per step',
  'peak_gib': 'peak memory, GiB',
  'temporary_gib': 'temporary, GiB',
  'compile_seconds': 'compile, s',
}


def define_flags() -> None:
  """Defines the flags of the command."""
  flags.DEFINE_multi_enum('axis', list(AXES), list(AXES), 'What to vary; all by default.')
  flags.DEFINE_string('out', 'growth', 'Where to write the table (.json) and the plot (.png).')
  flags.DEFINE_string('point', '', 'A workload, as JSON, to measure in this process.')


def main(_) -> None:
  """The command."""
  given = flags.FLAGS
  if given.point:
    print(json.dumps(measure(steps.Workload(**json.loads(given.point)))))
    return
  found, out = {}, pathlib.Path(given.out)
  print(f'| axis | | {" | ".join(MEASURED.values())} |\n|{"---|" * (len(MEASURED) + 2)}')
  for axis in given.axis:
    found[axis] = {}
    for x, point in AXES[axis].items():
      found[axis][x] = values = in_own_process(dict(point))
      print(f'| {axis} | {x} | {" | ".join(f"{values[name]:.3g}" for name in MEASURED)} |', flush=True)
      out.with_suffix('.json').write_text(json.dumps(found, indent=1) + '\n')
  plot(found, out.with_suffix('.png'))


def measure(workload: steps.Workload) -> dict:
  """The values of `MEASURED` for a workload."""
  side = workload.side()
  measured = side.compiled()
  seconds = turns.interleaved({'step': turns.timed(side.train)}, 7)['step']
  return measured | {'ms': 1000 * statistics.median(seconds), 'peak_gib': peak_memory()}


def in_own_process(point: dict) -> dict:
  """`measure` in a new process, with `point['devices']` devices (default 1)."""
  devices = point.pop('devices', 1)
  env = os.environ | {'JAX_COMPILATION_CACHE_DIR': ''}
  per_gpu = slots.slots(None)
  if gpus := [slot.env['CUDA_VISIBLE_DEVICES'] for slot in per_gpu if 'CUDA_VISIBLE_DEVICES' in slot.env]:
    env |= slots.accelerators(gpus[:devices], [])
  else:
    env['XLA_FLAGS'] = f'{env.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={devices}'
  command = [sys.executable, '-m', 'benchmarks.growth', f'--point={json.dumps(point)}']
  done = subprocess.run(command, cwd=turns.ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def plot(found: dict, path: pathlib.Path) -> None:
  """One column per axis, time above memory, all from 0, so that proportional growth is a straight line."""
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
  cli.run(main, define_flags)
