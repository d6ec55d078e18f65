"""Divides a machine among runs that train at the same time: CPU cores, GPUs and TPU chips."""

import ctypes
import dataclasses
import os
import signal
import sys
from collections.abc import Sequence

from fcn_jax import machine

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_CHIP_BOUNDS = {1: '1,1,1', 2: '1,2,1', 4: '2,2,1', 8: '2,4,1'}  # libtpu accepts rectangles of chips only
MEMORY = machine.MEMORY_PARTS[0]
_MEMORY_OF_RUNS = 0.9  # of a GPU that several runs share; CUDA itself and its libraries use the rest
_RAY_VARIABLES = ('TPU_CHIPS_PER_HOST_BOUNDS', 'TPU_HOST_BOUNDS')  # Ray sets them for the whole host


@dataclasses.dataclass(frozen=True)
class Slot:
  """The part of a machine that one run uses.

  Attributes:
    cores: numbers of CPU cores; empty if the scheduler assigns cores itself.
    env: environment variables that restrict the run to its accelerators, its memory and its number of threads.
  """

  cores: tuple[int, ...]
  env: dict[str, str]


def slots(count: int | None) -> list[Slot]:
  """Divides this machine into `count` slots.

  By default there is one slot per GPU, else one per TPU chip, else one per core, at most eight. On two cores, two runs
  side by side finish sooner than two runs in sequence that use both cores. Runs that share a GPU share its memory.
  """
  cores, usable, gpus, chips = machine.cores(), machine.core_count(), machine.gpus(), machine.chips()
  count = count or len(gpus) or len(chips) or min(usable, 8)
  # With the quota of a container, the kernel chooses the cores: other containers may compute on the same ones.
  threads = usable / count if usable < len(cores) else None
  divided = []
  for number in range(count):
    slot_gpus, slot_chips = (x[number::count] or x[number % len(x) :][:1] if x else [] for x in (gpus, chips))
    share = 1 / len(range(number % len(gpus), count, len(gpus))) if gpus else 1
    slot_cores = cores[number * len(cores) // count : (number + 1) * len(cores) // count]
    slot_cores = [] if threads else slot_cores or [cores[number % len(cores)]]
    env = accelerators(slot_gpus, slot_chips, threads, share)
    divided.append(Slot(tuple(slot_cores), env | ({'NPROC': env['OMP_NUM_THREADS']} if threads else {})))  # of XLA
  return divided


def accelerators(
  gpus: Sequence[str], chips: Sequence[str], cpus: float | None = None, share: float = 1
) -> dict[str, str]:
  """Environment variables that restrict a process to these GPUs or TPU chips.

  Args:
    gpus: as CUDA_VISIBLE_DEVICES names them.
    chips: numbers of TPU chips.
    cpus: how many threads libraries other than XLA start; by default one per core that the process may use.
    share: the part of each GPU that the process uses. If it is below 1, the process gets that part of 90 % of the
      memory, unless the environment of this process already sets a part.
  """
  env = {'OMP_NUM_THREADS': str(max(1, int(cpus)))} if cpus else {}
  if gpus:
    env['CUDA_VISIBLE_DEVICES'] = ','.join(gpus)
    if share < 1 and not machine.memory_is_divided():
      env[MEMORY] = f'{_MEMORY_OF_RUNS * share:.3f}'
  elif chips:
    env['TPU_VISIBLE_CHIPS'] = ','.join(chips)
    # Without these bounds, a process assumes that it has all chips of the host.
    env['TPU_CHIPS_PER_PROCESS_BOUNDS'] = _CHIP_BOUNDS.get(len(chips), f'1,{len(chips)},1')
    env['TPU_PROCESS_BOUNDS'] = '1,1,1'
  return env


def environment(slot: Slot) -> dict[str, str]:
  """The environment of a process in the slot, without the variables that Ray sets for the whole host."""
  return {name: value for name, value in os.environ.items() if name not in _RAY_VARIABLES} | slot.env


def enter(slot: Slot) -> None:
  """Called in a new process before its program starts: sets its cores, and ends it when its parent ends."""
  if slot.cores and hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, slot.cores)
  if sys.platform == 'linux':
    # A parent that is killed cannot stop its children. SIGTERM lets them save.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
