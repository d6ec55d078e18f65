"""Which accelerators a process may use, and how a CPU is tuned before jax is imported."""

import functools
import os
import pathlib
import platform
import subprocess
import sys

import machines
import pytest
import tiny

from fcn_jax import machine
from fcn_jax.models import vgg


@pytest.fixture
def machine_with(monkeypatch, tmp_path):
  """A function that makes this another machine; see `machines.pretend`."""
  return functools.partial(machines.pretend, monkeypatch, tmp_path)


GPUS, CHIPS = ['nvidia0', 'nvidia1', 'nvidia2', 'nvidiactl'], ['accel0', 'accel1']


def test_gpus_and_chips_are_those_of_the_machine_that_jax_can_use(machine_with):
  for devices, gpus, chips in (
    ([], [], []),
    ([*GPUS, *CHIPS], ['0', '1', '2'], ['0', '1']),
    (['nvidia5', 'nvidiactl'], ['0'], []),  # of a container with one GPU: CUDA counts from 0
    (['dxg'], ['0'], []),
    (['vfio/0', 'vfio/vfio'], [], ['0']),
  ):
    machine_with(devices=devices)
    assert (machine.gpus(), machine.chips()) == (gpus, chips)
  machine_with(devices=[*GPUS, *CHIPS], packages=['xla_rocm'])
  assert machine.gpus() == machine.chips() == []


@pytest.mark.parametrize(
  ('visible', 'expected'),
  [
    ('1', '1'),
    ('2,0', '2,0'),
    (' 1, 2', '1,2'),
    ('', ''),
    ('-1', ''),
    ('NoDevFiles', ''),
    ('none', ''),
    ('0,2,-1,1', '0,2'),
    ('0,3,1', '0'),
    ('GPU-8932f937,MIG-2b1c', 'GPU-8932f937,MIG-2b1c'),
  ],
)
def test_visible_gpus_end_at_the_first_name_that_is_none(machine_with, visible, expected):
  machine_with(devices=GPUS, CUDA_VISIBLE_DEVICES=visible)
  assert ','.join(machine.gpus()) == expected
  machine_with(CUDA_VISIBLE_DEVICES=visible)
  assert machine.gpus() == [], 'without a GPU, the variable means nothing'


@pytest.mark.parametrize(
  ('platforms', 'gpus', 'chips'),
  [('', 3, 2), ('cpu', 0, 0), ('cuda', 3, 0), ('gpu,cpu', 3, 0), ('cpu,cuda', 0, 0), ('tpu', 0, 2)],
)
def test_jax_computes_on_the_first_of_the_platforms_in_the_environment(machine_with, platforms, gpus, chips):
  machine_with(devices=[*GPUS, *CHIPS], JAX_PLATFORMS=platforms)
  assert (len(machine.gpus()), len(machine.chips())) == (gpus, chips)


@pytest.mark.parametrize(
  ('quota', 'count'),
  [
    ((), 6),  # no control groups
    (['max 100000'], 6),
    (['250000 100000'], 3),
    (['50000 100000'], 1),
    (['900000 100000'], 6),
    (['-1', '100000'], 6),  # version 1: two files
    (['200000', '50000'], 4),
  ],
)
def test_the_quota_of_a_container_limits_the_number_of_cores(machine_with, quota, count):
  machine_with(cores=range(2, 8), quota=quota)
  assert machine.cores() == [2, 3, 4, 5, 6, 7] and machine.core_count() == count


@pytest.fixture
def restarted(monkeypatch):
  """A program that has been restarted for glibc already."""
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1')
  monkeypatch.delenv('FCN_JAX_TUNE_CPU', raising=False)


CONVOLUTIONS = '--xla_cpu_experimental_ynn_fusion_type=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'
BARRIERS = '--xla_disable_hlo_passes=cse_barrier_expander'


@pytest.mark.parametrize(
  ('version', 'given', 'expected'),
  [
    ('0.10.2', '', [CONVOLUTIONS, BARRIERS]),
    ('0.11.2', '--xla_mine', ['--xla_mine', BARRIERS]),  # XLA ends the process at a flag that it does not have
    ('0.10.2', '--xla_cpu_experimental_ynn_fusion_type=', ['--xla_cpu_experimental_ynn_fusion_type=', BARRIERS]),
    ('0.11.2', '--xla_disable_hlo_passes=cse', ['--xla_disable_hlo_passes=cse']),
  ],
)
def test_xla_is_tuned_for_a_cpu_with_flags_that_it_has_and_that_are_not_set(
  machine_with, monkeypatch, restarted, version, given, expected
):
  machine_with(XLA_FLAGS=given)
  monkeypatch.setattr(machine.importlib.metadata, 'version', lambda _: version)
  for _ in range(2):
    machine.tune_for_cpu()
    assert os.environ['XLA_FLAGS'].split() == expected and 'NPROC' not in os.environ
  machine_with(XLA_FLAGS=given, quota=['200000 100000'])
  machine.tune_for_cpu()
  assert os.environ['NPROC'] == '2'


@pytest.mark.parametrize('devices', [GPUS, CHIPS], ids=['GPUs', 'chips'])
def test_a_process_that_uses_an_accelerator_is_not_tuned(machine_with, monkeypatch, devices):
  monkeypatch.setattr(os, 'execv', lambda *_: pytest.fail('restarted'))
  monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
  monkeypatch.delenv('FCN_JAX_TUNE_CPU', raising=False)
  machine_with(devices=devices, quota=['100000 100000'], XLA_FLAGS='--xla_mine')
  before = dict(os.environ)
  machine.tune_for_cpu()
  assert dict(os.environ) == before


@pytest.mark.parametrize(
  ('devices', 'given', 'expected'),
  [
    ([], '', ''),
    (GPUS, '', '--xla_gpu_deterministic_ops=true'),
    (GPUS, '--xla_mine', '--xla_mine --xla_gpu_deterministic_ops=true'),
    (GPUS, '--xla_gpu_deterministic_ops=false', '--xla_gpu_deterministic_ops=false'),  # `run/devices.py` refuses it
  ],
)
def test_a_gpu_is_made_deterministic_by_a_flag_of_xla(machine_with, devices, given, expected):
  machine_with(devices=devices, XLA_FLAGS=given)
  machine.make_deterministic()
  assert os.environ['XLA_FLAGS'] == expected


def test_a_step_keeps_each_feature_map_once_and_with_recomputation_fewer():
  """In another process, since XLA reads its flags only once."""
  code = """
from fcn_jax import machine
machine.tune_for_cpu()
import jax
from benchmarks.steps import Workload
for remat in (False, True):
  side = Workload(1 / 8, 8, (96, 96), classes=8, remat=remat).side()
  gradients = sum(x.nbytes for x in jax.tree.leaves(side.state.params))
  print(2**30 * side.compiled()['temporary_gib'] - gradients)
"""
  env = alone() | tiny.QUICK
  done = subprocess.run([sys.executable, '-c', code], cwd=tiny.ROOT, env=env, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  plain, saving = map(float, done.stdout.split())
  values = sum((96 >> i) ** 2 * channels * (n + 1 / 4) for i, (channels, n) in enumerate(vgg.BLOCKS))  # 1/4: pooled
  maps = 4 * 8 * values / 8  # bytes, images, width
  assert plain < 1.7 * maps
  assert saving < 1.1 * maps and saving < 0.7 * plain


def alone() -> dict[str, str]:
  """The environment without the variables of the tests: one device, not tuned."""
  return {name: value for name, value in os.environ.items() if name not in ('GLIBC_TUNABLES', 'XLA_FLAGS')}


HUGE_PAGES = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


@pytest.mark.skipif(
  not HUGE_PAGES.exists() or '[never]' in HUGE_PAGES.read_text() or platform.libc_ver() < ('glibc', '2.35'),
  reason='the kernel offers no huge pages, or glibc cannot request them',
)
def test_a_tuned_program_has_huge_pages_and_the_same_arguments():
  """Counts the page faults of filling 64 MiB several times."""
  code = """
import resource, sys
from fcn_jax import machine
if sys.argv[1] == 'tuned':
  machine.tune_for_cpu()
import numpy as np
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
  bytearray(2**26)[:] = b'1' * 2**26
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, *sys.argv[1:])
"""
  faults = {}
  for how in ('tuned', 'plain'):
    done = subprocess.run(
      [sys.executable, '-c', code, how, 'a b'], env=alone(), capture_output=True, text=True, check=True
    )
    faults[how], *arguments = done.stdout.split(maxsplit=1)
    assert arguments == [f'{how} a b\n']
  assert int(faults['tuned']) < int(faults['plain']) / 20


def test_a_program_is_restarted_once_and_keeps_settings_of_the_user(monkeypatch):
  started = []
  monkeypatch.setattr(os, 'execv', lambda *command: started.append(command))
  monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', 'fcn_jax.main', '--config=x'])
  monkeypatch.setattr(sys, 'platform', 'linux')
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.tcache_count=3')
  for _ in range(2):
    machine.tune_for_cpu()
  assert started == [(sys.executable, [sys.executable, '-m', 'fcn_jax.main', '--config=x'])]
  assert os.environ['GLIBC_TUNABLES'] == 'glibc.malloc.tcache_count=3:glibc.malloc.hugetlb=1'
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=0')  # set by the user
  machine.tune_for_cpu()
  assert len(started) == 1


def test_tuning_can_be_turned_off(monkeypatch):
  """Nothing changes, and the program is not restarted."""
  monkeypatch.setattr(os, 'execv', lambda *_: pytest.fail('restarted'))
  monkeypatch.setenv('FCN_JAX_TUNE_CPU', '0')
  monkeypatch.setenv('XLA_FLAGS', '--mine')
  monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
  before = dict(os.environ)
  machine.tune_for_cpu()
  assert dict(os.environ) == before


def test_importing_the_package_tunes_nothing():
  code = """
import os
before = dict(os.environ)
import fcn_jax, fcn_jax.machine, fcn_jax.run.directory
assert dict(os.environ) == before
"""
  done = subprocess.run([sys.executable, '-c', code], cwd=tiny.ROOT, env=alone(), capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
  ('environment', 'several'),
  [
    ({}, False),
    ({'SLURM_STEP_NUM_TASKS': '1'}, False),
    ({'SLURM_STEP_NUM_TASKS': '4'}, True),
    ({'devices': CHIPS}, True),
    ({'devices': CHIPS, 'packages': []}, False),
    ({'devices': CHIPS, 'TPU_PROCESS_BOUNDS': '1,1,1'}, False),
  ],
  ids=str,
)
def test_slurm_and_tpu_pods_start_several_processes_of_one_run(machine_with, environment, several):
  machine_with(**environment)
  assert machine.is_one_of_several() is several
