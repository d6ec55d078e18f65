"""For tests of checkpoints: states like that of the loop, saved and restored."""

import contextlib
import pathlib

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from fcn_jax.run import checkpoint, devices


class State(flax.struct.PyTreeNode):
  """The fields of a training state."""

  step: jax.Array
  params: dict
  opt_state: optax.OptState
  seed: jax.Array


def make_state(step, side=8):
  """A state like that of the loop, with random numbers of every type, on all devices."""
  rng = np.random.default_rng(step)
  params = {
    'trunk': {'conv1_1': {'kernel': rng.normal(size=(3, 3, side, side)), 'bias': rng.normal(size=side)}},
    'score_fr': {'kernel': rng.normal(size=(1, 1, side, 4)) * 1e-40},  # denormal in float32
  }
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
  opt_state = jax.tree.map(
    lambda x: jnp.asarray(rng.integers(0, 99, x.shape), x.dtype) / 7 if x.dtype == jnp.float32 else x + step,
    optax.adamw(1e-3).init(params),
  )
  return devices.replicate(State(jnp.array(step, jnp.int32), params, opt_state, jnp.array(7, jnp.int32)))


def assert_same(state, other):
  assert jax.tree.structure(state) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@contextlib.contextmanager
def opened(workdir, keep=9):
  checkpoints = checkpoint.Checkpoints(epath.Path(workdir), keep)
  yield checkpoints
  checkpoints.close()


def save(workdir, *steps, keep=9):
  with opened(workdir, keep) as checkpoints:
    for step in steps:
      checkpoints.save(step, make_state(step))


def restore(workdir, state=None):
  with opened(workdir) as checkpoints:
    return checkpoints.restore(make_state(0) if state is None else state)


def payloads(workdir, step):
  """The files of a checkpoint that contain numbers."""
  files = [path for path in pathlib.Path(workdir, 'checkpoints', str(step)).rglob('d/*') if path.is_file()]
  assert files
  return files
