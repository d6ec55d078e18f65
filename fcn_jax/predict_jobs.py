"""The images that `predict` segments: what is to be written, the memory that it takes, and what became of it."""

import collections
import dataclasses
import logging
import math
import sys

from etils import epath

from fcn_jax import machine, predict_outputs
from fcn_jax.run import messages

logger = logging.getLogger(__name__)

IMAGE_BYTES = 32  # of memory per pixel that an image takes in addition to the forward pass and its scores, measured
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Job:
  """An image to segment: its height and width, and its outputs that are to be written, of each head.

  The outputs are those of `predict_outputs.endings`: by ending, the name that people read.
  """

  path: epath.Path
  size: tuple[int, int]
  name: str
  outputs: dict[str, dict[str, str]]


@dataclasses.dataclass
class Tally:
  """The numbers of images that are done, skipped and failed, and of outputs that were kept, and written, by name."""

  done: int = 0
  skipped: int = 0
  failed: int = 0
  kept: int = 0
  written: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

  def fail(self, reason: object) -> None:
    """Counts and reports an image or an argument that cannot be used; `reason` names it."""
    self.failed += 1
    sys.stderr.write(messages.wrapped(f'failed: {reason}', terminal=sys.stderr.isatty()) + '\n')

  def show(self, out: epath.Path) -> None:
    """Prints what was written to the folder `out`, and the numbers of images."""
    if self.written:
      listed = ', '.join(f'{name} ({count})' for name, count in self.written.items())
      logger.info('wrote %s files to %s: %s', self.written.total(), out, listed)
    logger.info('%s', self)

  def __str__(self) -> str:
    text = f'{self.done} done, {self.skipped} skipped, {self.failed} failed'
    if self.kept:
      text += (
        f'; kept {self.kept} outputs that exist, perhaps of another image or network (--overwrite makes them again)'
      )
    return text


def fits(job: Job, predictor, tally: Tally) -> bool:
  """Whether an image can be segmented with the memory that is available; if not, the image is counted as failed."""
  from fcn_jax import api

  pixels = math.prod(job.size)
  if pixels <= api.BATCH_PIXELS:  # as much as a batch of small images
    return True
  forward = predictor.memory(job.size)
  of_heads = {head: 4 * len(classes) * pixels for head, classes in predictor.heads.items()}
  scores, copied = sum(of_heads.values()), [x * predict_outputs.copies(job.outputs[h]) for h, x in of_heads.items()]
  outputs = pixels * IMAGE_BYTES + max(copied)
  on_host_only = outputs + (scores if predictor.config.data.get('resize') else 0)  # enlarged after the forward pass
  on_host, on_device = machine.available_memory(), predictor.available_memory()
  parts = [(forward + on_host_only, on_host)] if _is_on_cpu() else [(forward, on_device), (scores + outputs, on_host)]
  for required, available in parts:
    if required > available:
      tally.fail(
        f'{job.path}: its {job.size[1]}x{job.size[0]} pixels require {required / _GIB:.1f} GiB of memory, but '
        f'{available / _GIB:.1f} GiB are available; {_way_out()}'
      )
      return False
  return True


def _is_on_cpu() -> bool:
  import jax

  return jax.default_backend() == 'cpu'


def _way_out() -> str:
  other = 'a machine with more memory' if _is_on_cpu() else 'JAX_PLATFORMS=cpu, which uses the memory of the machine'
  return f'use a smaller copy of the image, or {other}'


def no_memory(job: Job) -> str:
  """Why an image failed, if the memory was not sufficient although `fits` expected that."""
  return f'{job.path}: the memory that is available is not sufficient; {_way_out()}'
