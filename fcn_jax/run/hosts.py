"""Several hosts: joining, barriers, sums, and what happens when one is lost."""

import contextlib
import os
import signal
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from fcn_jax import machine
from fcn_jax.errors import UserError
from fcn_jax.run.devices import AXIS
from fcn_jax.run.signals import EXIT_CODES

_PATIENCE = 300  # seconds until all hosts must have come


_LONGEST_WAIT = 24 * 3600 * 1000  # milliseconds


_HEARTBEAT = 30  # seconds without a sign of life after which the other hosts give a host up


def join_hosts(coordinator: str | None, count: int | None, number: int | None) -> None:
  """Makes this process one of those that train a run together, where the arguments or the environment say so.

  Must come before anything else asks jax for devices.

  Args:
    coordinator: HOST:PORT of the first process; `count`: how many there are; `number`: which this one is, from 0. All
      None: as SLURM (under `srun`) or a TPU pod has it, else this process is alone.

  Raises:
    UserError: the others do not come.
  """
  if not coordinator and not machine.is_one_of_several():
    return
  try:
    jax.distributed.initialize(
      coordinator, count, number, initialization_timeout=_PATIENCE, heartbeat_timeout_seconds=_HEARTBEAT
    )
  except (RuntimeError, ValueError) as error:
    raise UserError(f'cannot join the other hosts of this run: {error}') from error


def sign_of_lost_host(error: Exception) -> str | None:
  """What jax said if this may be how the end of another host is seen, a collective of all of them that fails."""
  known = error
  while known and not isinstance(known, jax.errors.JaxRuntimeError):
    known = known.__cause__
  return str(known).strip().splitlines()[0] if known and jax.process_count() > 1 else None


def end_at_once(reason: str) -> None:
  """Ends this process: to leave in good order, jax would wait for a host that does not come any more."""
  sys.stderr.write(f'error: {reason}. The same command on all hosts goes on from the last checkpoint\n')
  sys.stderr.flush()
  os._exit(EXIT_CODES[signal.SIGTERM])


def is_first_host() -> bool:
  return jax.process_index() == 0


def wait_for_hosts(name: str) -> None:
  """Returns when all hosts have come to the place of this name, however long one of them prepares data or compiles.

  Collectives of devices, as those of the step, wait for half a minute only on a CPU.
  """
  ocp.multihost.get_barrier_sync_fn()(key=name, timeout_ms=_LONGEST_WAIT)


@contextlib.contextmanager
def first_host_first(name: str):
  """What is done within it, the first host does alone, and then all others."""
  if not is_first_host():
    wait_for_hosts(name)
  yield
  if is_first_host():
    wait_for_hosts(name)


def compile_together(function, *arguments) -> None:
  """Has all hosts of a run compile a pmapped function before one of them calls it with these arguments.

  The call finds it in the cache, so that all come to its collectives at about the same time.
  """
  if jax.process_count() > 1:
    function.lower(*arguments).compile()
    wait_for_hosts('the step is compiled')


def check_same(what: str, number: int) -> None:
  """Raises `UserError` where the hosts do not have the same number; none returns before all have come."""
  if jax.process_count() > 1:
    all_numbers = multihost_utils.process_allgather(np.array(number, np.int32)).tolist()
    if len(set(all_numbers)) > 1:
      raise UserError(
        f'the hosts of this run do not have the same {what}, but {", ".join(map(str, all_numbers))}; '
        '--workdir must be a folder that all of them share'
      )


def sum_over_hosts(counts: np.ndarray) -> np.ndarray:
  """Sums int64 arrays of the same shape, one a host."""
  if jax.process_count() == 1:
    return counts
  # As pairs of int32: without its x64 mode, jax would cut them.
  halves = np.ascontiguousarray(counts.reshape(-1)).view(np.int32)
  return multihost_utils.process_allgather(halves).view(np.int64).sum(0).reshape(counts.shape)


def to_global(tree):
  """What `replicate` made, or a pmapped function returned, as arrays of all hosts; the buffers are shared."""
  if jax.process_count() == 1:
    return tree
  return multihost_utils.host_local_array_to_global_array(tree, _all_devices(), PartitionSpec())


def to_local(tree):
  """The inverse of `to_global`."""
  if jax.process_count() == 1:
    return tree
  return multihost_utils.global_array_to_host_local_array(tree, _all_devices(), PartitionSpec())


def _all_devices() -> Mesh:
  return Mesh(np.array(jax.devices()), (AXIS,))
