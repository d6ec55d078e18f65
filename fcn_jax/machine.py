"""What runs side by side on one machine get of it: their own cores, GPUs or TPU chips."""

import ctypes
import dataclasses
import glob
import importlib.metadata
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FUSION = '--xla_cpu_experimental_ynn_fusion_type'
_DISABLED = '--xla_disable_hlo_passes'
_HUGE_PAGES = 'glibc.malloc.hugetlb'
# How the chips of a process lie: libtpu knows rectangles only.
_BOUNDS = {1: '1,1,1', 2: '1,2,1', 4: '2,2,1', 8: '2,4,1'}
_LEFTOVERS = ('TPU_CHIPS_PER_HOST_BOUNDS', 'TPU_HOST_BOUNDS')


def tune_for_cpu() -> None:
  """What makes jax fast on a CPU (`results/speed.md`), before it is imported; starts the program a second time."""
  # Convolutions by Eigen. By YNNPACK, jax 0.10's default, those of narrow networks run on one core. Of other releases
  # we do not know, and a flag that XLA does not know would end the process.
  flags = os.environ.get('XLA_FLAGS', '')
  if importlib.metadata.version('jaxlib').startswith('0.10.') and _FUSION not in flags:
    flags += f' {_FUSION}=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'
  # Barriers last until a program is scheduled. Else what the backward pass is to compute, as all of `model.remat`, is
  # computed right after the forward pass, and kept. Compilers for accelerators may count on their removal.
  on_cpu = os.environ.get('JAX_PLATFORMS') == 'cpu' or not (_gpus() or _chips())
  if _DISABLED not in flags and on_cpu:
    flags += f' {_DISABLED}=cse_barrier_expander'
  os.environ['XLA_FLAGS'] = flags.strip()
  # Each step gets its arrays from the kernel anew, which costs a fifth of a small step in pages of 4 KiB and next to
  # nothing in pages of 2 MiB. glibc can be told only before a program starts.
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  if sys.platform == 'linux' and _HUGE_PAGES not in tunables:
    os.environ['GLIBC_TUNABLES'] = f'{tunables}:{_HUGE_PAGES}=1'.strip(':')
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


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
  if slot.cores and hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, slot.cores)
  if sys.platform == 'linux':
    # The parent may be killed, with no time to stop it. SIGTERM, so that it saves.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
