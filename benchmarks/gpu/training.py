"""Training steps on a GPU: time, memory and kernels of our code and of variants of it.

  python -m benchmarks.gpu.training
  python -m benchmarks.gpu.training --part=variants --part=float32

Each row is one step on random images, compiled once. `ms` is the time with the batch on the device, `fed_ms` the time
with the batch copied from the host. The part `kernels` has the kernels by name instead.
"""

import dataclasses
import os
from collections.abc import Callable

import jax
from absl import flags

from benchmarks import steps, turns
from benchmarks.gpu import kernels, peaks, rows, variants
from fcn_jax import cli
from fcn_jax.config import default
from fcn_jax.run import devices

OURS = 'ours'


@dataclasses.dataclass(frozen=True)
class Case:
  """FCN-8s of full width on a batch of images of one size (height, width).

  Attributes:
    dataset: whose recipe trains it.
    classes: number of classes.
    batch: images per step.
    size: height and width.
    changes: settings that differ from the recipe, by dotted name.
  """

  dataset: str
  classes: int
  batch: int
  size: tuple[int, int]
  changes: dict = dataclasses.field(default_factory=dict)


_VOC = Case('voc2011', 21, 16, (500, 500), {'model.dtype': 'bfloat16'})
_STANFORD = Case('stanford_background', 8, 16, (240, 320))
CASES = {
  'voc': _VOC,
  'voc, batch 64': dataclasses.replace(_VOC, batch=64),
  'voc, float32': Case('voc2011', 21, 20, (512, 512)),
  'stanford': _STANFORD,
  'stanford, no norm': dataclasses.replace(_STANFORD, changes={'model.norm': 'none'}),
}
# The case and the variant of each row.
PARTS = {
  'base': [('voc', OURS), ('stanford', OURS)],
  'variants': [
    *(('voc', name) for name in variants.VARIANTS if name != 'group_norm_sums'),
    ('stanford', 'group_norm_sums'),
    ('stanford, no norm', OURS),
  ],
  'kernels': [('voc', OURS), ('stanford', OURS)],
  'float32': [('voc, float32', OURS)],
  'large': [('voc, batch 64', OURS)],
}


def define_flags() -> None:
  """Defines the flags of the command."""
  rows.define_small()
  flags.DEFINE_multi_enum('part', list(PARTS), list(PARTS), 'What to measure; everything by default.')


def main(_) -> None:
  """The command."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.9')
  given = flags.FLAGS
  devices.enable_compilation_cache()
  for part in given.part:
    if part == 'base':
      rows.show(peaks.measure(small=given.small))
    for case, variant in PARTS[part]:
      try:
        for row in measure(case, variant, small=given.small, profiled=part == 'kernels'):
          rows.show({'step': case, 'variant': variant} | row)
      except Exception as error:  # for example out of memory; the other rows are still of use
        rows.show({'step': case, 'variant': variant, 'error': f'{type(error).__name__}: {error}'[:400]})


def make_side(case: Case, *, small: bool = False) -> steps.Side:
  """The step of a case, with its state; `small` makes batch, images and network tiny."""
  config = default(case.dataset)
  config.update_from_flattened_dict(case.changes)
  batch, size = case.batch, case.size
  if small:
    batch, size = 2 * jax.local_device_count(), (64, 64)
    config.model.update(rows.SMALL)
  config.train.batch_size = batch
  return steps.Side(config, classes=case.classes, batch=batch, size=size)


def measure(name: str, variant: str, *, small: bool = False, profiled: bool = False) -> list[dict]:
  """Measures a step.

  Args:
    name: a key of `CASES`.
    variant: a key of `variants.VARIANTS`, or 'ours'.
    small: see `make_side`.
    profiled: measures the kernels.

  Returns:
    A row with ms, fed_ms, images_per_second, tflops, share_of_peak (of a bfloat16 matrix product), compile_seconds
    (short if the program is in the compilation cache) and temporary_gib; or the rows of `kernels.as_rows`.
  """
  side = make_side(CASES[name], small=small)
  with variants.applied(variant):
    row = side.compiled()
  resident = side.arguments()

  def step(arguments: Callable[[], tuple]) -> jax.Array:
    side.state, numbers = side.step(side.state, *arguments())
    return numbers['loss']

  if profiled:
    return kernels.as_rows(kernels.profile(lambda: step(lambda: resident)))
  calls = 3 if small else 15
  seconds = turns.queued(lambda: step(lambda: resident), jax.block_until_ready, calls=calls)
  fed = turns.queued(lambda: step(side.arguments), jax.block_until_ready, calls=calls, warmup=1)
  tflops = 3 * side.flop() / seconds / 1e12
  return [
    {
      'ms': 1000 * seconds,
      'fed_ms': 1000 * fed,
      'images_per_second': len(side.images) / seconds,
      'tflops': tflops,
      'share_of_peak': 1e12 * tflops / steps.matrix_peak('bfloat16', n=peaks.size(small=small)),
    }
    | row
  ]


if __name__ == '__main__':
  cli.run(main, define_flags)
