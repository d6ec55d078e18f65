"""What jax will find on this machine, checked without importing jax: GPUs, TPU chips, other processes of the run."""

import contextlib
import glob
import importlib.metadata
import importlib.util
import math
import os
import pathlib
import sys

_FUSION = '--xla_cpu_experimental_ynn_fusion_type'
_DISABLED = '--xla_disable_hlo_passes'
# Limit and usage in bytes, of control groups of version 2 and 1.
_MEMORY_OF_CONTAINER = (
  ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory.current'),
  ('/sys/fs/cgroup/memory/memory.limit_in_bytes', '/sys/fs/cgroup/memory/memory.usage_in_bytes'),
)
_HUGE_PAGES = 'glibc.malloc.hugetlb'


def tune_for_cpu() -> None:
  """Tunes jax and glibc for a CPU (`results/speed.md`); restarts the program if glibc is not tuned yet.

  Commands call it before they import jax; importing the package changes nothing. With FCN_JAX_TUNE_CPU=0 in the
  environment it does nothing. Flags that are set already keep their values.
  """
  if os.environ.get('FCN_JAX_TUNE_CPU') == '0':
    return
  # Convolutions by Eigen: YNNPACK, the default of jax 0.10, computes convolutions of narrow networks on one core. Other
  # releases are untested, and XLA ends the process at an unknown flag.
  flags = os.environ.get('XLA_FLAGS', '')
  if importlib.metadata.version('jaxlib').startswith('0.10.') and _FUSION not in flags:
    flags += f' {_FUSION}=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'
  # Keep optimization barriers until the program is scheduled. Otherwise XLA moves work of the backward pass, including
  # all of `model.remat`, to right after the forward pass and keeps its results. Compilers for accelerators may rely on
  # the pass that removes the barriers.
  on_cpu = os.environ.get('JAX_PLATFORMS') == 'cpu' or not (gpus() or chips())
  if _DISABLED not in flags and on_cpu:
    flags += f' {_DISABLED}=cse_barrier_expander'
  os.environ['XLA_FLAGS'] = flags.strip()
  # Each step gets fresh memory from the kernel. With pages of 4 KiB, this takes a fifth of the time of a small step;
  # with pages of 2 MiB, next to nothing. glibc reads this setting only when a program starts.
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  if sys.platform == 'linux' and _HUGE_PAGES not in tunables:
    os.environ['GLIBC_TUNABLES'] = f'{tunables}:{_HUGE_PAGES}=1'.strip(':')
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def available_memory() -> float:
  """The bytes that this process can still use: of the machine, or of its container; infinity if that is unknown."""
  found = [math.inf]
  with contextlib.suppress(OSError, StopIteration):
    lines = pathlib.Path('/proc/meminfo').read_text().splitlines()
    found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable:')))
  for limit, usage in _MEMORY_OF_CONTAINER:
    with contextlib.suppress(OSError, ValueError):  # there is no such file, or it says 'max'
      found.append(int(pathlib.Path(limit).read_text()) - int(pathlib.Path(usage).read_text()))
  return min(found)


def gpus() -> list[str]:
  """The numbers of the GPUs that this process may use."""
  found = sorted(glob.glob('/dev/nvidia[0-9]*'))
  return _visible('CUDA_VISIBLE_DEVICES', [path.removeprefix('/dev/nvidia') for path in found])


def chips() -> list[str]:
  """The numbers of the TPU chips that this process may use."""
  found = glob.glob('/dev/accel[0-9]*') or glob.glob('/dev/vfio/[0-9]*')
  return _visible('TPU_VISIBLE_CHIPS', [str(number) for number in range(len(found))])


def _visible(variable: str, found: list[str]) -> list[str]:
  """The numbers in an environment variable or, if it is not set, those of the devices found on the machine."""
  visible = os.environ.get(variable)
  return found if visible is None else [name for name in visible.split(',') if name.strip()]


def is_one_of_several() -> bool:
  """Whether SLURM or a TPU pod started this process as one of several processes of one run."""
  if int(os.environ.get('SLURM_STEP_NUM_TASKS', 1)) > 1:
    return True
  # A run of a sweep has process bounds, and is a single process. Without libtpu, jax cannot use chips.
  return bool(chips()) and 'TPU_PROCESS_BOUNDS' not in os.environ and importlib.util.find_spec('libtpu') is not None
