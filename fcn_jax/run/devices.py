"""Devices and hosts: where the state lives, how a batch is shared out, and the one use of `jax.pmap`.

The state is one tree, replicated, with no leading axis of devices; a batch has one: [devices, B / devices, ...]. A run
on several hosts is one process on each, which all run the same program; the first of them writes the files.
"""

import os

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fcn_jax.errors import UserError

AXIS = 'data'


def keep_compilations() -> None:
  """Has jax keep what it compiles for the next start, in JAX_COMPILATION_CACHE_DIR or ~/.cache/fcn_jax/xla."""
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update('jax_compilation_cache_dir', os.path.expanduser('~/.cache/fcn_jax/xla'))


def _sharding(*axes) -> NamedSharding:
  return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec(*axes))


def pmap(function, *, replicated_output: bool, donate_state: bool = False):
  """`function(state, batch)` on all devices: each gets the whole state and its part of the batch.

  Under `function`, `AXIS` names the devices, and `sum_over_devices` adds up what they have. With `replicated_output` it
  must return the same on every device, which is not checked here (a test does).
  """
  return jax.pmap(
    function,
    axis_name=AXIS,
    in_axes=(None, 0),
    out_axes=None if replicated_output else 0,
    donate_argnums=(0,) if donate_state else (),
  )


def sum_over_devices(tree):
  """The sum of what each device has; to be called under `pmap`."""
  # Of one device, XLA's is a copy: a sixth of a step of the full network on a CPU.
  return tree if jax.lax.axis_size(AXIS) == 1 else jax.lax.psum(tree, AXIS)


def replicate(tree):
  """The tree on all local devices.

  Without it the first call of a pmapped function would see an uncommitted state, the second its own output: two
  compilations.
  """
  return jax.device_put(tree, _sharding())


def share(batch: dict) -> dict:
  """This host's batch, [b, ...], on its devices: [devices, b / devices, ...]."""
  devices = jax.local_device_count()
  return {name: jax.device_put(x.reshape(devices, -1, *x.shape[1:]), _sharding(AXIS)) for name, x in batch.items()}


def check_batch(name: str, batch_size: int, parts: int = 1) -> None:
  """Raises `UserError` where the devices cannot share a batch, in so many parts one after the other, equally."""
  devices = jax.device_count()
  if batch_size % (devices * parts):
    rounded = -(-batch_size // (devices * parts)) * devices * parts
    way = f'{devices} devices' + (f' x train.accumulation {parts}' if parts > 1 else '')
    raise UserError(f'{name} is {batch_size}, which {way} cannot share equally; try {rounded}')
