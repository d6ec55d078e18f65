"""For all tests: eight emulated devices, parsed flags, one compilation cache, and one prepared data set."""

import os
import pathlib
import signal

# Before jax is imported, here and in the commands that tests start.
os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(pathlib.Path.home() / '.cache' / 'fcn_jax' / 'tests'))

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell without job control ignores it in jobs that end in &
  signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from absl import flags

flags.FLAGS(['pytest'])  # grain reads its flags


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory):
  """A folder with `scenes`, prepared once."""
  from fcn_jax import config
  from fcn_jax.data import dataset

  data = config.default('scenes').data
  data.dir = str(tmp_path_factory.mktemp('data'))
  dataset.load(data)
  return data.dir


@pytest.fixture(scope='session')
def without_jax(tmp_path_factory):
  """A PYTHONPATH that makes importing jax, or another package that takes seconds to import, end the program."""
  folder = tmp_path_factory.mktemp('without_jax')
  for name in ('jax', 'flax', 'grain', 'orbax', 'optax', 'tensorflow_datasets', 'matplotlib', 'pandas'):
    (folder / f'{name}.py').write_text(f'raise SystemExit("{name} was imported")')
  return os.pathsep.join((str(folder), str(pathlib.Path(__file__).parents[1])))
