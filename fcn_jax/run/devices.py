"""Devices: where the state lives, how a batch is sharded, and the only use of `jax.pmap`.

The state is one replicated tree without a device axis. A sharded array has one: [devices, B / devices, ...].
"""

import contextlib
import os
import pathlib
import re

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fcn_jax import machine
from fcn_jax.errors import UserError

AXIS = 'data'


_CACHE = '~/.cache/fcn_jax/xla'
_CACHE_BYTES = 2**31


def enable_compilation_cache() -> None:
  """Makes jax keep compiled programs for later starts, in ~/.cache/fcn_jax/xla.

  jax removes the programs that were used least recently, so that all together have at most 2 GiB, or
  JAX_COMPILATION_CACHE_MAX_SIZE bytes. A folder in JAX_COMPILATION_CACHE_DIR is used as it is: it may be a bucket, or
  belong to other programs too.
  """
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    # A run has some thirty programs that compile in less than a second each, the limit that jax sets.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  if jax.config.jax_compilation_cache_dir is not None:
    return
  folder = pathlib.Path(_CACHE).expanduser()
  jax.config.update('jax_compilation_cache_dir', str(folder))
  if jax.config.jax_compilation_cache_max_size == -1 and 'JAX_COMPILATION_CACHE_MAX_SIZE' not in os.environ:
    jax.config.update('jax_compilation_cache_max_size', _CACHE_BYTES)
  # jax writes no more programs if one of them lacks the time of its last use: written without a limit, or by a process
  # that was killed in between.
  with contextlib.suppress(OSError):  # without permission to write there, jax warns
    for program in folder.glob('*-cache'):
      used = program.with_name(program.name.removesuffix('-cache') + '-atime')
      if not used.exists():
        used.write_bytes(bytes(8))


def _sharding(*axes) -> NamedSharding:
  return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec(*axes))


def pmap(function, *, sharded_arguments: int = 1, replicated_output: bool, donate_state: bool = False):
  """`function(state, *sharded)` on all devices: each gets the whole state and its part of the sharded arguments.

  Inside `function`, `AXIS` is the axis of the devices, for `sum_over_devices` and collectives of jax.

  Args:
    function: takes the state, then `sharded_arguments` trees of arrays.
    sharded_arguments: how many arguments come from `shard`.
    replicated_output: `function` returns the same values on every device, and the output has no device axis. jax does
      not check that the values are the same; a test does.
    donate_state: the output may reuse the memory of the state.
  """
  return jax.pmap(
    function,
    axis_name=AXIS,
    in_axes=(None, *[0] * sharded_arguments),
    out_axes=None if replicated_output else 0,
    donate_argnums=(0,) if donate_state else (),
  )


def sum_over_devices(tree):
  """The sum over all devices; only inside a function of `pmap`."""
  # XLA's sum over one device is a copy, which takes a sixth of a step of the full network on a CPU.
  return tree if jax.lax.axis_size(AXIS) == 1 else jax.lax.psum(tree, AXIS)


def replicate(tree):
  """The tree on all local devices.

  With a state that was not replicated, a function of `pmap` would be compiled twice: the placement of the state would
  differ from that of the function's output, which is the state of the second call.
  """
  return jax.device_put(tree, _sharding())


def shard(tree):
  """The arrays of this host's batch, [b, ...], on its devices: [devices, b / devices, ...]."""
  devices, sharding = jax.local_device_count(), _sharding(AXIS)
  return jax.tree.map(lambda x: jax.device_put(x.reshape(devices, -1, *x.shape[1:]), sharding), tree)


def check(config) -> None:
  """Raises `UserError` if the devices cannot share the batches of a run equally, or do not repeat their numbers."""
  check_batch_size('train.batch_size', config.train.batch_size, config.train.accumulation)
  check_batch_size('eval.batch_size', config.eval.batch_size)
  flag = re.search(rf'{machine.DETERMINISTIC}(=\S*)?', os.environ.get('XLA_FLAGS', ''))
  missing = not flag or flag[1] in ('=false', '=0')
  if config.train.deterministic and jax.default_backend() == 'gpu' and missing:
    raise UserError(
      f'train.deterministic is True, but XLA_FLAGS lacks {machine.DETERMINISTIC}=true, which jax reads when it starts; '
      'set it in the environment before Python starts, or train with python -m fcn_jax.main'
    )


def check_batch_size(name: str, batch_size: int, parts: int = 1) -> None:
  """Raises `UserError` if a batch, computed in `parts` sequential parts, does not divide equally over the devices.

  Args:
    name: of the setting.
    batch_size: its value.
    parts: the value of `train.accumulation`.
  """
  devices = jax.device_count()
  if batch_size % (devices * parts):
    rounded = -(-batch_size // (devices * parts)) * devices * parts
    divisor = f'{devices} devices' + (f' x train.accumulation {parts}' if parts > 1 else '')
    raise UserError(f'{name} is {batch_size}, which does not divide equally over {divisor}; try {rounded}')
