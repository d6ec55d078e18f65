"""What runs side by side on one machine get of it: their own cores, GPUs or TPU chips."""

import ctypes
import dataclasses
import glob
import importlib.util
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclasses.dataclass(frozen=True)
class Slot:
  """The share of the machine that one run has.

  Attributes:
    cores: numbers of CPU cores.
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
    env = {}
    if gpus:
      env['CUDA_VISIBLE_DEVICES'] = ','.join(gpus[number::count]) or gpus[number % len(gpus)]
    elif chips:
      own = chips[number::count] or [chips[number % len(chips)]]
      env['TPU_VISIBLE_CHIPS'] = ','.join(own)
      # Without bounds of its own, a process takes the whole host for its part of the slice.
      env['TPU_CHIPS_PER_PROCESS_BOUNDS'], env['TPU_PROCESS_BOUNDS'] = f'1,{len(own)},1', '1,1,1'
    own_cores = cores[number * len(cores) // count : (number + 1) * len(cores) // count]
    shares.append(Slot(tuple(own_cores or [cores[number % len(cores)]]), env))
  return shares


def _gpus() -> list[str]:
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  if visible is not None:
    return [name for name in visible.split(',') if name.strip()]
  return [path.removeprefix('/dev/nvidia') for path in sorted(glob.glob('/dev/nvidia[0-9]*'))]


def _chips() -> list[str]:
  visible = os.environ.get('TPU_VISIBLE_CHIPS')
  if visible is not None:
    return [name for name in visible.split(',') if name.strip()]
  return [str(number) for number in range(len(glob.glob('/dev/accel[0-9]*') or glob.glob('/dev/vfio/[0-9]*')))]


def is_one_of_several() -> bool:
  """Whether this process is one of those that SLURM or a TPU pod has started for one run."""
  if int(os.environ.get('SLURM_STEP_NUM_TASKS', 1)) > 1:
    return True
  # A run of a sweep has bounds of its own, and is alone. Chips that jax cannot use are none.
  return bool(_chips()) and 'TPU_PROCESS_BOUNDS' not in os.environ and importlib.util.find_spec('libtpu') is not None


def settle(slot: Slot) -> None:
  """Called in a new process before its program: its cores, and its end with that of the process that started it."""
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, slot.cores)
  if sys.platform == 'linux':
    # The parent may be killed, with no time to stop it. SIGTERM, so that it saves.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
