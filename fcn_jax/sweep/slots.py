"""The shares of a machine that concurrent runs get: their own cores, GPUs or TPU chips."""

import ctypes
import dataclasses
import os
import signal
import sys
from collections.abc import Sequence

from fcn_jax.machine import _chips, _gpus

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


# How the chips of a process lie: libtpu knows rectangles only.
_BOUNDS = {1: '1,1,1', 2: '1,2,1', 4: '2,2,1', 8: '2,4,1'}


_LEFTOVERS = ('TPU_CHIPS_PER_HOST_BOUNDS', 'TPU_HOST_BOUNDS')


@dataclasses.dataclass(frozen=True)
class Slot:
  """The share of the machine that one run has.

  Attributes:
    cores: numbers of CPU cores; none where another has seen to that.
    env: variables that leave it its own accelerators only.
  """

  cores: tuple[int, ...]
  env: dict[str, str]


def slots(count: int | None) -> list[Slot]:
  """The machine in `count` shares: by default one a GPU or TPU chip, else one a core, eight at most.

  One run on each of two cores trains faster than two runs that share them, one after the other.
  """
  cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else list(range(os.cpu_count() or 1))
  gpus, chips = _gpus(), _chips()
  count = count or len(gpus) or len(chips) or min(len(cores), 8)
  shares = []
  for number in range(count):
    own_gpus, own_chips = (x[number::count] or x[number % len(x) :][:1] if x else [] for x in (gpus, chips))
    own_cores = cores[number * len(cores) // count : (number + 1) * len(cores) // count]
    shares.append(Slot(tuple(own_cores or [cores[number % len(cores)]]), accelerators(own_gpus, own_chips)))
  return shares


def accelerators(gpus: Sequence[str], chips: Sequence[str], cpus: float | None = None) -> dict[str, str]:
  """Variables that leave a process these GPUs or TPU chips only, and so many cores to libraries that ask."""
  env = {'OMP_NUM_THREADS': str(max(1, int(cpus)))} if cpus else {}
  if gpus:
    env['CUDA_VISIBLE_DEVICES'] = ','.join(gpus)
  elif chips:
    env['TPU_VISIBLE_CHIPS'] = ','.join(chips)
    # Without bounds of its own, a process takes the whole host for its part of the slice.
    env['TPU_CHIPS_PER_PROCESS_BOUNDS'] = _BOUNDS.get(len(chips), f'1,{len(chips)},1')
    env['TPU_PROCESS_BOUNDS'] = '1,1,1'
  return env


def environment(slot: Slot) -> dict[str, str]:
  """All variables of a process in the slot, without what Ray leaves behind about the whole host."""
  left = {name: value for name, value in os.environ.items() if name not in _LEFTOVERS}
  return left | slot.env


def settle(slot: Slot) -> None:
  """Called in a new process before its program: its cores, and its end with that of the process that started it."""
  if slot.cores and hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, slot.cores)
  if sys.platform == 'linux':
    # The parent may be killed, with no time to stop it. SIGTERM, so that it saves.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
