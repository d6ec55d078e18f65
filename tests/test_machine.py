"""Which accelerators a process may use, and how a CPU is tuned before jax is imported."""

import os
import pathlib
import platform
import subprocess
import sys

import pytest
import tiny

from fcn_jax import machine
from fcn_jax.models import vgg


@pytest.fixture
def bare(monkeypatch):
  """A machine without accelerators."""
  monkeypatch.setattr(machine.glob, 'glob', lambda _: [])
  for name in ('CUDA_VISIBLE_DEVICES', 'TPU_VISIBLE_CHIPS', 'JAX_PLATFORMS'):
    monkeypatch.delenv(name, raising=False)
  return monkeypatch


def test_gpus_and_chips_are_those_of_the_environment_or_of_the_machine(bare):
  assert machine.gpus() == machine.chips() == []
  devices = {'/dev/nvidia[0-9]*': ['/dev/nvidia1', '/dev/nvidia0'], '/dev/accel[0-9]*': ['/dev/accel0', '/dev/accel1']}
  bare.setattr(machine.glob, 'glob', devices.get)
  assert machine.gpus() == ['0', '1'] and machine.chips() == ['0', '1']
  bare.setenv('CUDA_VISIBLE_DEVICES', '1,3')
  bare.setenv('TPU_VISIBLE_CHIPS', '')
  assert machine.gpus() == ['1', '3'] and machine.chips() == []


@pytest.fixture
def restarted(monkeypatch):
  """A program that has been restarted for glibc already."""
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1')
  monkeypatch.delenv('FCN_JAX_TUNE_CPU', raising=False)


def test_convolutions_are_by_eigen_if_xla_has_the_flag(monkeypatch, restarted):
  monkeypatch.setattr(machine, 'gpus', lambda: ['0'])
  monkeypatch.delenv('JAX_PLATFORMS')
  monkeypatch.setenv('XLA_FLAGS', '--xla_force_host_platform_device_count=8')
  monkeypatch.setattr(machine.importlib.metadata, 'version', lambda _: '0.11.2')
  machine.tune_for_cpu()
  assert os.environ['XLA_FLAGS'] == '--xla_force_host_platform_device_count=8'
  monkeypatch.setattr(machine.importlib.metadata, 'version', lambda _: '0.10.2')
  for _ in range(2):
    machine.tune_for_cpu()
    first, second = os.environ['XLA_FLAGS'].split()
    assert first == '--xla_force_host_platform_device_count=8'
    assert second == '--xla_cpu_experimental_ynn_fusion_type=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'
  monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_experimental_ynn_fusion_type=')  # set by the user
  machine.tune_for_cpu()
  assert os.environ['XLA_FLAGS'] == '--xla_cpu_experimental_ynn_fusion_type='


def test_barriers_are_kept_if_programs_are_compiled_for_the_cpu(bare, restarted):
  bare.setattr(machine.importlib.metadata, 'version', lambda _: '0.11.2')
  kept = '--xla_disable_hlo_passes=cse_barrier_expander'
  for gpus, platforms, expected in (('0', '', ''), ('', '', kept), ('0', 'cpu', kept), ('0', 'cuda,cpu', '')):
    bare.setenv('CUDA_VISIBLE_DEVICES', gpus)
    bare.setenv('JAX_PLATFORMS', platforms)
    bare.setenv('XLA_FLAGS', '')
    for _ in range(2):
      machine.tune_for_cpu()
      assert os.environ['XLA_FLAGS'] == expected
  bare.setenv('XLA_FLAGS', '--xla_disable_hlo_passes=cse')  # set by the user
  machine.tune_for_cpu()
  assert os.environ['XLA_FLAGS'] == '--xla_disable_hlo_passes=cse'


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
  done = subprocess.run([sys.executable, '-c', code], cwd=tiny.ROOT, env=alone(), capture_output=True, text=True)
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
  ('variables', 'several'),
  [
    ({}, False),
    ({'SLURM_STEP_NUM_TASKS': '1'}, False),
    ({'SLURM_STEP_NUM_TASKS': '4'}, True),
    ({'TPU_VISIBLE_CHIPS': '0,1'}, True),
    ({'TPU_VISIBLE_CHIPS': '0,1', 'TPU_PROCESS_BOUNDS': '1,1,1'}, False),
  ],
  ids=str,
)
def test_slurm_and_tpu_pods_start_several_processes_of_one_run(bare, variables, several):
  bare.setattr(machine.importlib.util, 'find_spec', lambda name: name == 'libtpu')
  for name in ('SLURM_STEP_NUM_TASKS', 'TPU_PROCESS_BOUNDS'):
    bare.delenv(name, raising=False)
  for name, value in variables.items():
    bare.setenv(name, value)
  assert machine.is_one_of_several() is several
