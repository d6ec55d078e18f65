"""Training steps on a GPU: time, memory and kernels of our code and of variants of it.

  python -m benchmarks.gpu.training --out=gpu
  python -m benchmarks.gpu.training --out=gpu --part=variants --part=float32

Each row is one compiled step on random images. `ms` is the time with the batch on the device, `fed_ms` the time with
the batch copied from the host. The rows go to OUT/training.json, and the kernels of the part `base` to text files in
OUT. The first compilation of a step takes up to a minute.
"""

import dataclasses
import json
import os
import pathlib
import time

import jax
from absl import flags

from benchmarks import steps, turns
from benchmarks.gpu import kernels, peaks, variants
from fcn_jax import cli
from fcn_jax.config import default

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
  'float32': [('voc, float32', OURS)],
  'large': [('voc, batch 64', OURS)],
}


def define_flags() -> None:
  """Defines the flags of the command."""
  flags.DEFINE_string('out', 'gpu', 'Folder for the results.')
  flags.DEFINE_multi_enum('part', list(PARTS), list(PARTS), 'What to measure; everything by default.')
  flags.DEFINE_bool('small', False, 'Tiny networks, to try the script on a CPU.')


def main(_) -> None:
  """The command."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.9')
  given, out = flags.FLAGS, pathlib.Path(flags.FLAGS.out)
  out.mkdir(parents=True, exist_ok=True)
  found = {'device': jax.devices()[0].device_kind, 'jax': jax.__version__}
  found |= {'peaks': peaks.measure(small=given.small), 'rows': []}
  print(f'{found["device"]}, jax {found["jax"]}; {peaks.text(found["peaks"])}', flush=True)
  for part in given.part:
    for case, variant in PARTS[part]:
      row = {'case': case, 'variant': variant}
      try:
        row |= measure(case, variant, small=given.small, kernels_to=out if part == 'base' else None)
      except Exception as error:  # for example out of memory; the other rows are still of use
        row['error'] = f'{type(error).__name__}: {error}'[:400]
      found['rows'].append(row)
      print(text(row), flush=True)
      (out / 'training.json').write_text(json.dumps(found, indent=1) + '\n')


def make_side(case: Case, *, small: bool = False) -> steps.Side:
  """The step of a case, with its state; `small` makes batch, images and network tiny."""
  config = default(case.dataset)
  config.update_from_flattened_dict(case.changes)
  batch, size = case.batch, case.size
  if small:
    batch, size = 2 * jax.local_device_count(), (64, 64)
    config.model.update(width=0.0625, fc_channels=512, group_size=4)
  config.train.batch_size = batch
  return steps.Side(config, classes=case.classes, batch=batch, size=size)


def measure(name: str, variant: str, *, small: bool = False, kernels_to: pathlib.Path | None = None) -> dict:
  """Measures a step.

  Args:
    name: a key of `CASES`.
    variant: a key of `variants.VARIANTS`, or 'ours'.
    small: see `make_side`.
    kernels_to: a folder for the list of kernels; None does not profile.

  Returns:
    ms, fed_ms, images_per_second, tflops, share_of_peak (of a bfloat16 matrix product), compile_seconds and
    temporary_gib.
  """
  side = make_side(CASES[name], small=small)
  flop = 3 * side.flop()
  with variants.applied(variant):
    resident = side.arguments()
    begun = time.perf_counter()
    program = side.step.lower(side.state, *resident).compile()
    row = {'compile_seconds': time.perf_counter() - begun}
    row['temporary_gib'] = program.memory_analysis().temp_size_in_bytes / 2**30

    def step(arguments: tuple) -> jax.Array:
      side.state, numbers = program(side.state, *arguments)
      return numbers['loss']

    calls = 3 if small else 15
    seconds = turns.queued(lambda: step(resident), jax.block_until_ready, calls=calls)
    fed = turns.queued(lambda: step(side.arguments()), jax.block_until_ready, calls=calls, warmup=1)
    if kernels_to:
      path = kernels_to / f'kernels-{name.replace(", ", "-")}.txt'
      path.write_text(kernels.text(kernels.profile(lambda: step(resident))))
  row |= {'ms': 1000 * seconds, 'fed_ms': 1000 * fed, 'images_per_second': len(side.images) / seconds}
  peak = steps.matrix_peak('bfloat16', n=peaks.size(small=small))
  return row | {'tflops': flop / seconds / 1e12, 'share_of_peak': flop / seconds / peak}


def text(row: dict) -> str:
  """A row as one line."""
  title = f'{row["case"]:18s} {row["variant"]:24s}'
  if 'error' in row:
    return f'{title} failed: {row["error"]}'
  return (
    f'{title} {row["ms"]:8.2f} ms, fed {row["fed_ms"]:8.2f} ms, {row["images_per_second"]:7.1f} images/s, '
    f'{row["tflops"]:6.1f} TFLOP/s, {100 * row["share_of_peak"]:.0f} % of the peak, compiled in '
    f'{row["compile_seconds"]:.0f} s, temporary {row["temporary_gib"]:.2f} GiB'
  )


if __name__ == '__main__':
  cli.run(main, define_flags)
