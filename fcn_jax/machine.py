"""What runs side by side on one machine get of it: their own cores, GPUs or TPU chips."""

import glob
import importlib.metadata
import importlib.util
import os
import sys

_FUSION = '--xla_cpu_experimental_ynn_fusion_type'
_DISABLED = '--xla_disable_hlo_passes'
_HUGE_PAGES = 'glibc.malloc.hugetlb'


def tune_for_cpu() -> None:
  """What makes jax fast on a CPU (`results/speed.md`), before it is imported; starts the program a second time."""
  # Convolutions by Eigen. By YNNPACK, jax 0.10's default, those of narrow networks run on one core. Of other releases
  # we do not know, and a flag that XLA does not know would end the process.
  flags = os.environ.get('XLA_FLAGS', '')
  if importlib.metadata.version('jaxlib').startswith('0.10.') and _FUSION not in flags:
    flags += f' {_FUSION}=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'
  # Barriers last until a program is scheduled. Else what the backward pass is to compute, as all of `model.remat`, is
  # computed right after the forward pass, and kept. Compilers for accelerators may count on their removal.
  on_cpu = os.environ.get('JAX_PLATFORMS') == 'cpu' or not (gpus() or chips())
  if _DISABLED not in flags and on_cpu:
    flags += f' {_DISABLED}=cse_barrier_expander'
  os.environ['XLA_FLAGS'] = flags.strip()
  # Each step gets its arrays from the kernel anew, which costs a fifth of a small step in pages of 4 KiB and next to
  # nothing in pages of 2 MiB. glibc can be told only before a program starts.
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  if sys.platform == 'linux' and _HUGE_PAGES not in tunables:
    os.environ['GLIBC_TUNABLES'] = f'{tunables}:{_HUGE_PAGES}=1'.strip(':')
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def gpus() -> list[str]:
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  if visible is not None:
    return [name for name in visible.split(',') if name.strip()]
  return [path.removeprefix('/dev/nvidia') for path in sorted(glob.glob('/dev/nvidia[0-9]*'))]


def chips() -> list[str]:
  visible = os.environ.get('TPU_VISIBLE_CHIPS')
  if visible is not None:
    return [name for name in visible.split(',') if name.strip()]
  return [str(number) for number in range(len(glob.glob('/dev/accel[0-9]*') or glob.glob('/dev/vfio/[0-9]*')))]


def is_one_of_several() -> bool:
  """Whether this process is one of those that SLURM or a TPU pod has started for one run."""
  if int(os.environ.get('SLURM_STEP_NUM_TASKS', 1)) > 1:
    return True
  # A run of a sweep has bounds of its own, and is alone. Chips that jax cannot use are none.
  return bool(chips()) and 'TPU_PROCESS_BOUNDS' not in os.environ and importlib.util.find_spec('libtpu') is not None
