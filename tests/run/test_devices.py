"""Batches, including nested dicts, are sharded over the devices, and sums are over all devices."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fcn_jax import config as config_lib
from fcn_jax.errors import UserError
from fcn_jax.run import devices


def test_a_batch_of_nested_arrays_is_sharded_in_order():
  batch = {
    'inputs': {'rgb': np.arange(16 * 6, dtype=np.uint8).reshape(16, 2, 1, 3)},
    'labels': {'semantic': np.arange(32, dtype=np.uint8).reshape(16, 2, 1)},
    'size': np.ones((16, 2), np.int32),
  }
  sharded = devices.shard(batch)
  assert jax.tree.structure(sharded) == jax.tree.structure(batch)
  assert sharded['inputs']['rgb'].shape == (8, 2, 2, 1, 3) and sharded['size'].shape == (8, 2, 2)
  for array, given in zip(jax.tree.leaves(sharded), jax.tree.leaves(batch), strict=True):
    assert len(array.addressable_shards) == 8 and array.dtype == given.dtype
    np.testing.assert_array_equal(np.asarray(array).reshape(given.shape), given)


def test_a_function_gets_the_state_and_several_sharded_arguments():
  def function(state, batch, signal):
    total = devices.sum_over_devices(jnp.sum(batch['x']))
    return {'state': state + total, 'signal': jax.lax.pmax(jnp.max(signal), devices.AXIS)}

  step = devices.pmap(function, sharded_arguments=2, replicated_output=True)
  signals = np.array([0, 0, 0, 15, 0, 0, 0, 0], np.int32)
  found = step(devices.replicate(jnp.ones(3)), devices.shard({'x': np.arange(16.0)}), devices.shard(signals))
  assert found['state'].tolist() == [121.0] * 3 and int(found['signal']) == 15


@pytest.mark.parametrize(
  ('size', 'parts', 'words'),
  [(12, 1, 'x is 12, which does not divide equally over 8 devices; try 16'), (8, 2, 'train.accumulation 2; try 16')],
)
def test_a_batch_that_the_devices_cannot_divide_is_a_user_error(size, parts, words):
  with pytest.raises(UserError, match=words):
    devices.check_batch_size('x', size, parts)
  devices.check_batch_size('x', 16, parts)


def test_a_deterministic_run_needs_a_flag_of_xla_on_a_gpu(monkeypatch):
  config = config_lib.base()
  config.train.batch_size = config.eval.batch_size = 8
  config.train.deterministic = True
  devices.check(config)  # a CPU needs none
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  with pytest.raises(UserError, match='XLA_FLAGS lacks --xla_gpu_deterministic_ops=true, which jax reads when it sta'):
    devices.check(config)
  monkeypatch.setenv('XLA_FLAGS', '--xla_gpu_deterministic_ops=false')
  with pytest.raises(UserError, match='XLA_FLAGS lacks'):
    devices.check(config)
  for flag in ('--xla_gpu_deterministic_ops', '--xla_gpu_deterministic_ops=true --xla_other=false'):
    monkeypatch.setenv('XLA_FLAGS', flag)
    devices.check(config)


COMPILE = """
import warnings
import jax
from fcn_jax.run import devices
warnings.simplefilter('error')  # jax warns if it cannot write a program
devices._CACHE_BYTES = 20_000
devices.enable_compilation_cache()
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
for number in range(8):
  jax.jit(lambda x: (x @ x * number).sort())(jax.numpy.ones((8, 8)))
"""


def test_the_compilation_cache_is_limited_even_if_it_was_not_before(tmp_path):
  """In another process, since jax opens its cache once."""
  folder = tmp_path / '.cache/fcn_jax/xla'
  folder.mkdir(parents=True)
  (folder / 'old-cache').write_bytes(bytes(19_000))  # without a limit, jax does not write when a program was used
  command = ['env', '-u', 'JAX_COMPILATION_CACHE_DIR', sys.executable, '-c', COMPILE]
  done = tiny.run(command, env={'HOME': str(tmp_path)})
  programs = list(folder.glob('*-cache'))
  assert done.returncode == 0 and len(programs) > 1 and not (folder / 'old-cache').exists(), done.stderr
  assert sum(path.stat().st_size for path in programs) <= 20_000
