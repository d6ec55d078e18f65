"""Runs that differ in the seed share all programs; a run with another stride compiles what depends on the stride."""

import collections

import jax
import numpy as np
import pytest
from cheap import network
from jax.experimental.compilation_cache import compilation_cache
from toy_backbone import toy

from fcn_jax import config as config_lib
from fcn_jax import counting, optim, train
from fcn_jax.data import bands
from fcn_jax.run import devices

EVENTS = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: EVENTS.update([event.rpartition('/')[2]]))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
  """A compilation cache of this test alone, with the settings of the commands."""
  names = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update(names[0], str(tmp_path))
  compilation_cache.reset_cache()
  monkeypatch.delenv(names[1].upper(), raising=False)
  devices.enable_compilation_cache()
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def run(stride: int, seed: int) -> tuple[int, int]:
  """Initializes and evaluates once; returns how many programs were compiled, and how many were found in the cache.

  `test_train.py` compares the programs of training steps.
  """
  EVENTS.clear()
  config = config_lib.default('scenes')
  config.seed = seed
  model = network(toy(), stride=stride)
  state = devices.replicate(train.init_state(model, optim.make(config.optim, config.train.steps), config.seed))
  label = np.zeros((8, 32, 32), np.uint8)
  batch = {'inputs': {'rgb': np.zeros((8, 32, 32, 3), np.uint8)}, 'size': np.full((8, 2), 32, np.int32)}
  batch['labels'] = {'semantic': label, bands.key('semantic'): label}
  jax.block_until_ready(counting.make_eval_step(model)(state.params, devices.shard(batch)))
  return EVENTS['cache_misses'], EVENTS['cache_hits']


@pytest.mark.slow
def test_seeds_share_all_programs_and_strides_do_not(empty_cache):
  compiled, found = run(stride=16, seed=0)
  assert compiled >= 2 and not found  # initialization and evaluation, and conversions that compile in no time
  compiled, found = run(stride=16, seed=1)
  assert not compiled and found >= 2
  compiled, found = run(stride=8, seed=1)
  assert compiled >= 2
