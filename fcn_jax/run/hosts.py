"""Several hosts: joining, barriers, sums, and what happens if a host is lost.

A run on several hosts is one process on each, all running the same program. The first host writes the files.
"""

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
from fcn_jax.run import memory, signals
from fcn_jax.run.devices import AXIS

_PATIENCE = 300  # seconds within which all hosts must join
_LONGEST_WAIT = 24 * 3600 * 1000  # milliseconds
_HEARTBEAT = 30  # seconds without a heartbeat after which the other hosts count a host as lost


def join_hosts(coordinator: str | None, count: int | None, number: int | None) -> None:
  """Makes this process one of the processes that train a run together.

  Must be called before jax is asked for devices. If all arguments are None, SLURM (under `srun`) or the TPU pod
  provides them; elsewhere this process is alone.

  Args:
    coordinator: HOST:PORT of the first process.
    count: the number of processes.
    number: the index of this process, from 0.

  Raises:
    UserError: the other processes do not join.
  """
  if not coordinator and not machine.is_one_of_several():
    return
  try:
    jax.distributed.initialize(
      coordinator, count, number, initialization_timeout=_PATIENCE, heartbeat_timeout_seconds=_HEARTBEAT
    )
  except (RuntimeError, ValueError) as error:
    raise UserError(f'cannot join the other hosts of this run: {error}') from error
  signals.install()  # again: jax has set a handler of SIGTERM that only takes note of it


def lost_host(error: Exception) -> str | None:
  """The message of jax in `error` if it may mean that another host is lost, else None.

  A lost host makes a collective fail, but a collective can also fail for other reasons. Too little memory does not mean
  a lost host.
  """
  cause = error
  while cause and not isinstance(cause, jax.errors.JaxRuntimeError):
    cause = cause.__cause__
  if cause is None or jax.process_count() == 1 or memory.is_exhausted(cause):
    return None
  return str(cause).strip().splitlines()[0]


def exit_now(reason: str) -> None:
  """Ends this process with a message. A normal exit of jax would wait for the lost host."""
  message = f'error: {reason}. Run the same command on all hosts to resume from the last checkpoint'
  print(message, file=sys.stderr, flush=True)
  os._exit(signals.EXIT_CODES[signal.SIGTERM])


def is_first_host() -> bool:
  """Whether this host is the one that writes the files."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Returns when all hosts have reached the barrier of this name, however long one of them takes.

  Collectives between devices, for example in the training step, wait only half a minute on a CPU.
  """
  ocp.multihost.get_barrier_sync_fn()(key=name, timeout_ms=_LONGEST_WAIT)


@contextlib.contextmanager
def first_host_first(name: str):
  """A context that the first host runs alone, and then all others at the same time."""
  if not is_first_host():
    barrier(name)
  yield
  if is_first_host():
    barrier(name)


def compile_together(function):
  """A function of `pmap` that all hosts compile before one of them runs it.

  So all hosts reach its collectives at about the same time. On one host it is `function` itself.
  """
  if jax.process_count() == 1:
    return function
  compiled = False

  def call(*arguments):
    nonlocal compiled
    if not compiled:
      function.lower(*arguments).compile()  # the call below finds the program in the cache
      barrier('the step is compiled')
      compiled = True
    return function(*arguments)

  return call


def check_same(what: str, number: int) -> None:
  """Raises `UserError` if the hosts have different numbers. No host returns before all have called it."""
  if jax.process_count() > 1:
    all_numbers = multihost_utils.process_allgather(np.array(number, np.int32)).tolist()
    if len(set(all_numbers)) > 1:
      raise UserError(
        f'the hosts of this run have different numbers of {what}: {", ".join(map(str, all_numbers))}; expected the '
        'same on all. --workdir must be a folder that all hosts share'
      )


def sum_over_hosts(counts: np.ndarray) -> np.ndarray:
  """The sum of int64 arrays of the same shape, one per host."""
  if jax.process_count() == 1:
    return counts
  # As pairs of int32: without its x64 mode, jax would truncate int64.
  halves = np.ascontiguousarray(counts.reshape(-1)).view(np.int32)
  return multihost_utils.process_allgather(halves).view(np.int64).sum(0).reshape(counts.shape)


def to_global(tree):
  """The output of `replicate` or of a function of `pmap`, as arrays of all hosts. The buffers are shared."""
  return _converted(multihost_utils.host_local_array_to_global_array, tree)


def to_local(tree):
  """The inverse of `to_global`."""
  return _converted(multihost_utils.global_array_to_host_local_array, tree)


def _converted(convert, tree):
  if jax.process_count() == 1:
    return tree
  return convert(tree, Mesh(np.array(jax.devices()), (AXIS,)), PartitionSpec())
