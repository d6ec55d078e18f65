"""For tests of training steps: a small config, a batch of images of several sizes, and the comparison of two runs."""

import jax
import numpy as np
import pytest

from fcn_jax import config as config_lib
from fcn_jax.data.dataset import IGNORE
from fcn_jax.run import devices

CLASSES = 4
ONE_HEAD, TWO_HEADS = {'semantic': CLASSES}, {'semantic': CLASSES, 'geometric': 3}
# The update of SGD is linear in the gradient; Adam divides by the gradient, which would magnify rounding.
SGD = {'optim.name': 'sgd', 'optim.lr': 0.1}


def small_config(**overrides):
  config = config_lib.default('scenes')
  config.update_from_flattened_dict({'model.dropout': 0.0, 'optim.warmup': 0, 'train.steps': 10} | overrides)
  return config


def small_batch(count: int = 8, heads=ONE_HEAD) -> dict:
  """Random images of several sizes, the first almost without labels, the last with all of them."""
  rng, labels = np.random.default_rng(0), {}
  for head, classes in heads.items():
    labels[head] = rng.integers(0, classes, (count, 32, 32)).astype(np.uint8)
    for index, label in enumerate(labels[head]):
      label[rng.random((32, 32)) < 1 - index / (count - 1)] = IGNORE
  size = rng.integers(20, 33, (count, 2)).astype(np.int32)
  return {'inputs': {'rgb': rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)}, 'labels': labels, 'size': size}


def no_signal() -> jax.Array:
  return devices.shard(np.zeros(jax.local_device_count(), np.int32))


def read(numbers: dict) -> dict[str, float]:
  """The numbers of a step."""
  return {name: float(x.addressable_data(0)) for name, x in jax.block_until_ready(numbers).items()}


def use_one_device(monkeypatch) -> None:
  """Leaves only the first of the eight devices."""
  device = jax.local_devices()[:1]
  monkeypatch.setattr(jax, 'local_devices', lambda: device)
  monkeypatch.setattr(jax, 'local_device_count', lambda: 1)


def assert_same(run, other) -> None:
  """Compares (state, the numbers of each step) of two runs, up to rounding."""
  (state, numbers), (other_state, other_numbers) = run, other
  for mine, theirs in zip(numbers, other_numbers, strict=True):
    assert mine == pytest.approx(theirs, rel=1e-4)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-3, atol=1e-5),
    state.params,
    other_state.params,
  )
