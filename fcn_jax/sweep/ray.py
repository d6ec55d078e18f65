"""Runs of a sweep as tasks on a Ray cluster."""

import os
import signal
import socket
import sys
import time

from etils import epath

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run.signals import EXIT_CODES
from fcn_jax.sweep import points, slots
from fcn_jax.sweep.local import Ending, Log, _said, begin

_POLL = 0.5  # seconds between looks at a process in a Ray task


_STOP = 'STOP'  # the file in the folder of a sweep that has all its Ray tasks stop


class Ray:
  """Tasks of a Ray cluster, which finds each a node with the cores and chips that it wants.

  Ray itself retries nothing: what is lost with a node is told apart from what fails, by `Ending.code`.
  """

  poll = 2.0  # seconds; they may be in a bucket

  def __init__(self, workdir: epath.Path, *, cpus: float, gpus: float, tpus: int):
    """Connects to the cluster that RAY_ADDRESS names, or to the one that runs on this machine.

    Raises:
      UserError: Ray is not installed, or there is no cluster.
    """
    try:
      import ray
    except ImportError as error:
      raise UserError("--backend=ray wants Ray, which is not installed; pip install 'fcn_jax[sweep]'") from error
    address = os.environ.get('RAY_ADDRESS', 'auto')
    try:
      if address != 'auto' and '://' not in address:
        host, _, port = address.rpartition(':')
        socket.create_connection((host, int(port)), timeout=10).close()  # Ray itself would try for minutes
      ray.init(address, log_to_driver=False, logging_level='CRITICAL')
    except (OSError, RuntimeError, ValueError) as error:
      raise UserError(
        f'there is no Ray cluster at RAY_ADDRESS={address} ({str(error).splitlines()[0]}); start one, as '
        'with ray start --head, or ./launch.sh tpu up'
      ) from error
    self._ray, self._workdir, self._tasks = ray, workdir, {}
    self._wants = {'CPU': cpus, 'GPU': gpus, 'TPU': tpus}
    resources = {'TPU': tpus} if tpus else {}
    self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, resources=resources, max_retries=0, max_calls=1)(attempt)
    if (stop := workdir / _STOP).exists():
      stop.unlink()

  @property
  def slots(self) -> int:
    """How many runs fit the cluster as it is now; at least 1, for one that is still to grow."""
    there = self._ray.cluster_resources()
    return max(1, min(int(there.get(name, 0) // n) for name, n in self._wants.items() if n))

  def describe(self) -> str:
    alive = sum(node['Alive'] for node in self._ray.nodes())
    there = self._ray.cluster_resources()
    listed = ', '.join(f'{there[name]:g} {name}' for name in ('CPU', 'GPU', 'TPU') if name in there)
    wanted = ', '.join(f'{n:g} {name}' for name, n in self._wants.items() if n)
    return f'on a Ray cluster of {alive} nodes with {listed}; a run wants {wanted}'

  def room(self, *, prepared: bool) -> bool:
    return True  # Ray has a queue of its own

  def start(self, run: points.Run) -> None:
    arguments = run.command()[1:], os.fspath(run.workdir), os.getcwd(), self._wants['CPU']
    self._tasks[self._task.options(name=run.name).remote(*arguments)] = run.name

  def ended(self) -> list[Ending]:
    """What ended since the last call."""
    endings, ready = [], list(self._tasks)
    if ready:
      ready, _ = self._ray.wait(ready, num_returns=len(ready), timeout=0)
    for task in ready:
      name = self._tasks.pop(task)
      try:
        code = self._ray.get(task)
        endings.append(Ending(name, code, _said(code)))
      except self._ray.exceptions.RayTaskError as error:  # of `attempt` itself, as a folder that is not there
        endings.append(Ending(name, 1, str(error.cause)))
      except self._ray.exceptions.RayError as error:
        endings.append(Ending(name, None, f'its node was lost ({type(error).__name__})'))
    return endings

  def stop(self, number: signal.Signals) -> None:
    """Returns when all have saved and ended; those that wait for a node still end with this process."""
    # No `ray.cancel`: the task counts as ended then, while its process is still saving.
    files.write(self._workdir / _STOP, f'{number.name}\n')
    if self._tasks:
      self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=120)


def attempt(arguments: list[str], workdir: str, folder: str, cpus: float) -> int:
  """The task: runs `python ARGUMENTS...` on the node that Ray has chosen, to its end; its exit code.

  It goes on where an earlier attempt was stopped or lost, and ends that one if it is still alive somewhere.
  """
  import ray

  # A job that was submitted has its files in another folder on each node.
  folder = folder if os.path.isdir(folder) else os.getcwd()
  path = epath.Path(workdir) if files.is_remote(workdir) else epath.Path(folder) / workdir
  if (path.parent / _STOP).exists():
    return EXIT_CODES[signal.SIGTERM]
  ids = {kind: tuple(found) for kind, found in ray.get_runtime_context().get_accelerator_ids().items()}
  slot = slots.Slot(cores=(), env=slots.accelerators(ids.get('GPU', ()), ids.get('TPU', ()), cpus))
  log = Log(path / 'log.txt')
  chips = ''.join(f', {kind} {",".join(found)}' for kind, found in ids.items() if found)
  log.file.write(f'--- {socket.gethostname()}, node {ray.get_runtime_context().get_node_id()[:8]}{chips}\n'.encode())
  log.file.flush()
  process = begin([sys.executable, *arguments, '--take_over'], log, slot, cwd=folder)
  try:
    while process.poll() is None:
      time.sleep(_POLL)
      log.copy()
      if (path.parent / _STOP).exists():
        process.terminate()  # not SIGINT, which Ray's workers ignore, and what they start ignores until it trains
        process.wait()
  finally:
    if process.poll() is None:
      process.terminate()
      process.wait()
    log.close()
  return process.returncode
