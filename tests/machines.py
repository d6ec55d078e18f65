"""For tests: other machines, as `fcn_jax.machine` sees them."""

import fnmatch
import os
import tempfile
import types

from fcn_jax import machine

_VARIABLES = ('CUDA_VISIBLE_DEVICES', 'JAX_PLATFORMS', 'NPROC', 'TPU_PROCESS_BOUNDS', 'TPU_VISIBLE_CHIPS')
_VARIABLES += ('SLURM_STEP_NUM_TASKS', 'XLA_CLIENT_MEM_FRACTION', 'XLA_PYTHON_CLIENT_MEM_FRACTION')


def pretend(
  monkeypatch, folder, *, devices=(), cores=range(4), packages=('libtpu', 'xla_cuda13'), quota=(), **variables
):
  """Makes this another machine until the end of the test, or until the next call.

  Args:
    monkeypatch: the fixture.
    folder: for files.
    devices: the files in /dev.
    cores: the numbers of the cores.
    packages: the installed packages and plugins of jax.
    quota: the contents of the files of a control group that limit its time on the cores.
    **variables: environment variables.
  """
  folder = tempfile.mkdtemp(dir=folder)
  for name in packages:
    open(f'{folder}/{name}.py', 'x').close()
  for number, content in enumerate(quota):
    with open(f'{folder}/{number}', 'x') as file:
      file.write(content)
  spec = types.SimpleNamespace(submodule_search_locations=[folder])
  monkeypatch.setattr(machine.glob, 'glob', lambda pattern: fnmatch.filter([f'/dev/{x}' for x in devices], pattern))
  monkeypatch.setattr(machine.importlib.util, 'find_spec', (dict.fromkeys(packages, spec) | {'jax_plugins': spec}).get)
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(cores))
  monkeypatch.setattr(machine, '_TIME_OF_CONTAINER', [[f'{folder}/{number}' for number in range(len(quota))]])
  for name in _VARIABLES:
    monkeypatch.delenv(name, raising=False)
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
