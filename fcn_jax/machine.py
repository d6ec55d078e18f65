"""What jax will find on this machine, checked without importing jax: cores, GPUs, TPU chips, processes of the run."""

import contextlib
import glob
import importlib.metadata
import importlib.util
import itertools
import math
import os
import pathlib
import pkgutil
import sys

_FUSION = '--xla_cpu_experimental_ynn_fusion_type'
_DISABLED = '--xla_disable_hlo_passes'
# Limit and usage in bytes, of control groups of version 2 and 1.
_MEMORY_OF_CONTAINER = (
  ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory.current'),
  ('/sys/fs/cgroup/memory/memory.limit_in_bytes', '/sys/fs/cgroup/memory/memory.usage_in_bytes'),
)
# Files with the time that all cores together may compute in a period, and with the period, in microseconds.
_TIME_OF_CONTAINER = (
  ('/sys/fs/cgroup/cpu.max',),
  ('/sys/fs/cgroup/cpu/cpu.cfs_quota_us', '/sys/fs/cgroup/cpu/cpu.cfs_period_us'),
)
_HUGE_PAGES = 'glibc.malloc.hugetlb'
DETERMINISTIC = '--xla_gpu_deterministic_ops'  # without a value, true
# The part of a GPU's memory that jax uses; jax refuses both variables together.
MEMORY_PARTS = ('XLA_PYTHON_CLIENT_MEM_FRACTION', 'XLA_CLIENT_MEM_FRACTION')


def tune_for_cpu() -> None:
  """Tunes jax and glibc for a CPU (`results/speed.md`); restarts the program if glibc is not tuned yet.

  Commands call it before they import jax; importing the package changes nothing. If jax will use a GPU or a TPU, or
  with FCN_JAX_TUNE_CPU=0 in the environment, it does nothing. Flags that are set already keep their values.
  """
  if os.environ.get('FCN_JAX_TUNE_CPU') == '0' or gpus() or chips():
    return
  # Convolutions by Eigen: YNNPACK, the default of jax 0.10, computes convolutions of narrow networks on one core. Other
  # releases are untested, and XLA ends the process at an unknown flag.
  flags = os.environ.get('XLA_FLAGS', '')
  if importlib.metadata.version('jaxlib').startswith('0.10.') and _FUSION not in flags:
    flags += f' {_FUSION}=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'
  # Keep optimization barriers until the program is scheduled. Otherwise XLA moves work of the backward pass, including
  # all of `model.remat`, to right after the forward pass and keeps its results.
  if _DISABLED not in flags:
    flags += f' {_DISABLED}=cse_barrier_expander'
  os.environ['XLA_FLAGS'] = flags.strip()
  # XLA starts as many threads as this process may use cores, even if the quota of a container allows fewer at a time.
  if (count := core_count()) < len(cores()):
    os.environ.setdefault('NPROC', str(count))
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


def make_deterministic() -> None:
  """Makes jax compute the same numbers in every run on a GPU; before jax is imported, and without effect elsewhere."""
  if gpus() and DETERMINISTIC not in (flags := os.environ.get('XLA_FLAGS', '')):
    os.environ['XLA_FLAGS'] = f'{flags} {DETERMINISTIC}=true'.strip()


def memory_is_divided() -> bool:
  """Whether the environment sets the part of a GPU's memory that jax uses."""
  return any(name in os.environ for name in MEMORY_PARTS)


def cores() -> list[int]:
  """The numbers of the CPU cores that this process may use."""
  return sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else list(range(os.cpu_count() or 1))


def core_count() -> int:
  """How many cores can compute for this process at a time: its cores, or fewer if a container has a CPU quota."""
  count = len(cores())
  for paths in _TIME_OF_CONTAINER:
    with contextlib.suppress(OSError, ValueError):  # there is no such file, or it says 'max'
      quota, period = map(int, ' '.join(pathlib.Path(path).read_text() for path in paths).split())
      if quota > 0:  # -1 is no limit
        count = min(count, math.ceil(quota / period))
  return count


def gpus() -> list[str]:
  """The GPUs that jax will use, as CUDA_VISIBLE_DEVICES names them: by index or by UUID."""
  count = len(glob.glob('/dev/nvidia[0-9]*') or glob.glob('/dev/dxg'))  # the second: Windows Subsystem for Linux
  if not (count and _may_use('cuda', 'gpu') and _has_cuda_plugin()):
    return []
  # CUDA numbers the GPUs of a container from 0, whatever the numbers of the device files are.
  indices = [str(number) for number in range(count)]
  if (visible := os.environ.get('CUDA_VISIBLE_DEVICES')) is None:
    return indices
  # CUDA ignores everything from the first name on that is no GPU, for example -1 or NoDevFiles.
  names = (name.strip() for name in visible.split(','))
  return list(itertools.takewhile(lambda name: name in indices or name.startswith(('GPU-', 'MIG-')), names))


def chips() -> list[str]:
  """The numbers of the TPU chips that jax will use."""
  if not _may_use('tpu') or importlib.util.find_spec('libtpu') is None:
    return []
  found = glob.glob('/dev/accel[0-9]*') or glob.glob('/dev/vfio/[0-9]*')
  visible = os.environ.get('TPU_VISIBLE_CHIPS')
  return list(map(str, range(len(found)))) if visible is None else [n for n in visible.split(',') if n.strip()]


def _may_use(*platforms: str) -> bool:
  """Whether jax may compute on one of the platforms. Of several in JAX_PLATFORMS, it computes on the first."""
  first = os.environ.get('JAX_PLATFORMS', '').split(',')[0]
  return first in ('', *platforms)


def _has_cuda_plugin() -> bool:
  """Whether the package is installed without which jax cannot use an NVIDIA GPU."""
  spec = importlib.util.find_spec('jax_plugins')
  modules = pkgutil.iter_modules(spec.submodule_search_locations if spec else [])
  return any(module.name.startswith('xla_cuda') for module in modules)


def is_one_of_several() -> bool:
  """Whether SLURM or a TPU pod started this process as one of several processes of one run."""
  if int(os.environ.get('SLURM_STEP_NUM_TASKS', 1)) > 1:
    return True
  # A run of a sweep has process bounds, and is a single process.
  return bool(chips()) and 'TPU_PROCESS_BOUNDS' not in os.environ
