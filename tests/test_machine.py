"""The shares of a machine that runs side by side get."""

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
  """A machine of four cores without accelerators."""
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {2, 3, 5, 7})
  monkeypatch.setattr(machine.glob, 'glob', lambda _: [])
  for name in ('CUDA_VISIBLE_DEVICES', 'TPU_VISIBLE_CHIPS', 'JAX_PLATFORMS'):
    monkeypatch.delenv(name, raising=False)
  return monkeypatch


def test_convolutions_are_eigens_where_the_flag_is_known(monkeypatch):
  monkeypatch.setattr(machine, 'gpus', lambda: ['0'])
  monkeypatch.delenv('JAX_PLATFORMS')
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1')  # has been started again already
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
  monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_experimental_ynn_fusion_type=')  # the user's own
  machine.tune_for_cpu()
  assert os.environ['XLA_FLAGS'] == '--xla_cpu_experimental_ynn_fusion_type='


def test_barriers_last_where_all_is_compiled_for_the_cpu(bare):
  bare.setenv('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1')  # has been started again already
  bare.setattr(machine.importlib.metadata, 'version', lambda _: '0.11.2')
  kept = '--xla_disable_hlo_passes=cse_barrier_expander'
  for gpus, platforms, expected in (('0', '', ''), ('', '', kept), ('0', 'cpu', kept), ('0', 'cuda,cpu', '')):
    bare.setenv('CUDA_VISIBLE_DEVICES', gpus)
    bare.setenv('JAX_PLATFORMS', platforms)
    bare.setenv('XLA_FLAGS', '')
    for _ in range(2):
      machine.tune_for_cpu()
      assert os.environ['XLA_FLAGS'] == expected
  bare.setenv('XLA_FLAGS', '--xla_disable_hlo_passes=cse')  # the user's own
  machine.tune_for_cpu()
  assert os.environ['XLA_FLAGS'] == '--xla_disable_hlo_passes=cse'


def test_a_step_keeps_each_map_once_and_recomputation_fewer():
  """In a program of its own, as commands are: XLA reads its flags once."""
  code = """
from fcn_jax import machine
machine.tune_for_cpu()
import jax
from benchmarks.steps import Side, Workload
for remat in (False, True):
  side = Side(Workload(1 / 8, 8, (96, 96), classes=8, remat=remat))
  gradients = sum(x.nbytes for x in jax.tree.leaves(side.state.params))
  print(2**30 * side.compiled()['temporary_gib'] - gradients)
"""
  done = subprocess.run([sys.executable, '-c', code], cwd=tiny.ROOT, env=alone(), capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  plain, saving = map(float, done.stdout.split())
  values = sum((96 >> i) ** 2 * channels * (n + 1 / 4) for i, (channels, n) in enumerate(vgg.BLOCKS))  # and the pooled
  maps = 4 * 8 * values / 8  # bytes, pictures, width
  assert plain < 1.7 * maps
  assert saving < 1.1 * maps and saving < 0.7 * plain


def alone() -> dict[str, str]:
  """The environment of a process that is not one of the tests': it has one device and is not tuned."""
  return {name: value for name, value in os.environ.items() if name not in ('GLIBC_TUNABLES', 'XLA_FLAGS')}


HUGE_PAGES = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


@pytest.mark.skipif(
  not HUGE_PAGES.exists() or '[never]' in HUGE_PAGES.read_text() or platform.libc_ver() < ('glibc', '2.35'),
  reason='the kernel has no huge pages for programs that ask, or glibc cannot ask',
)
def test_a_program_has_huge_pages_and_its_own_arguments():
  """Page faults of filling 64 MiB again and again, with and without."""
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


def test_a_program_is_started_again_once_and_keeps_what_its_user_set(monkeypatch):
  started = []
  monkeypatch.setattr(os, 'execv', lambda *command: started.append(command))
  monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', 'fcn_jax.main', '--config=x'])
  monkeypatch.setattr(sys, 'platform', 'linux')
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.tcache_count=3')
  for _ in range(2):
    machine.tune_for_cpu()
  assert started == [(sys.executable, [sys.executable, '-m', 'fcn_jax.main', '--config=x'])]
  assert os.environ['GLIBC_TUNABLES'] == 'glibc.malloc.tcache_count=3:glibc.malloc.hugetlb=1'
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=0')  # the user's own
  machine.tune_for_cpu()
  assert len(started) == 1
