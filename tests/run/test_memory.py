"""Too little memory on a device, as jax reports it on CPUs, GPUs and TPUs."""

import types

import jax
import jax.numpy as jnp
import pytest

from fcn_jax import config as config_lib
from fcn_jax import evaluation
from fcn_jax.errors import UserError
from fcn_jax.run import hosts, memory

GPU = 'INTERNAL: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 26102234112 bytes.\nBufferAssignment: 1'
TPU = 'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 24.88G of 15.75G hbm. Exceeded by 9.13G.'
WAYS = 'lower train.batch_size or data.train_size, raise train.accumulation, set model.remat=True, set model.dtype=bf'


def message(fail, **settings) -> str:
  config = config_lib.base()
  config.update_from_flattened_dict({name.replace('__', '.'): value for name, value in settings.items()})
  with pytest.raises(UserError) as caught, memory.explained(config):
    fail()
  return str(caught.value)


def failing(text: str):
  def fail():
    raise jax.errors.JaxRuntimeError(text)

  return fail


def allocate():
  jnp.zeros(2**44, jnp.uint8).block_until_ready()


@pytest.mark.parametrize(
  ('fail', 'needed'),
  [
    (allocate, 'Out of memory allocating 16384.00 GiB'),
    (failing(GPU), 'Out of memory while trying to allocate 24.31 GiB'),
    (failing(TPU), 'Ran out of memory in memory space hbm. Used 24.88G of 15.75G hbm. Exceeded by 9.13G'),
    (failing('RESOURCE_EXHAUSTED'), 'out of memory'),
    (failing('RESOURCE_EXHAUSTED:\nAllocation failed.'), 'Allocation failed'),
  ],
  ids=['CPU', 'GPU', 'TPU', 'nothing', 'next_line'],
)
def test_the_message_has_the_settings_what_was_needed_and_what_to_lower(fail, needed):
  text = message(fail, train__batch_size=32)
  assert text.startswith('the memory of the device is too small for a step with train.batch_size=32 images of 384x512 ')
  assert f': {needed}. To need less: {WAYS}' in text


def test_the_message_names_only_settings_that_can_still_be_lowered(monkeypatch):
  device = types.SimpleNamespace(memory_stats=lambda: {'bytes_limit': 3 * 2**30})
  monkeypatch.setattr(jax, 'local_devices', lambda: [device])
  monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.3')
  settings = {'train__batch_size': 32, 'train__accumulation': 4, 'model__remat': True, 'model__dtype': 'bfloat16'}
  text = message(failing(GPU), **settings)
  assert 'device (3.00 GiB for this process)' in text and '(data.train_size) in train.accumulation=4 parts: ' in text
  assert text.endswith(
    'To need less: lower train.batch_size or data.train_size, let fewer runs share the device (--slots)'
  )


def test_the_message_about_an_evaluation_has_the_settings_of_evaluations():
  text = message(lambda: eval('fail()', vars(evaluation) | {'fail': allocate}))  # called by code of this module
  assert 'too small for an evaluation of eval.batch_size=8 images at a time: Out of memory allocating 16384.00' in text
  assert text.endswith('To need less: lower eval.batch_size, set model.dtype=bfloat16')


def test_other_errors_stay_and_little_memory_is_no_lost_host(monkeypatch):
  with pytest.raises(jax.errors.JaxRuntimeError, match='reset'), memory.explained(config_lib.base()):
    failing('UNAVAILABLE: connection reset')()
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  assert hosts.lost_host(jax.errors.JaxRuntimeError('UNAVAILABLE: reset')) == 'UNAVAILABLE: reset'
  assert hosts.lost_host(jax.errors.JaxRuntimeError(GPU)) is None
