"""Runs a sweep as tasks on a Ray cluster."""

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
from fcn_jax.sweep.local import Ending, Log, begin, describe_exit

_POLL = 0.5  # seconds between checks of the process of a task
_STOP = 'STOP'  # a file of this name in the sweep's directory stops all tasks


class Ray:
  """Tasks on a Ray cluster. Ray places each task on a node with the cores and accelerators that it needs.

  Ray itself retries nothing, so that the driver can distinguish a lost node from a failed run (`Ending.code`).

  Attributes:
    poll: seconds between checks of the run directories, which may be in a bucket.
  """

  poll = 2.0

  def __init__(self, workdir: epath.Path, *, cpus: float, gpus: float, tpus: int):
    """Connects to the cluster at RAY_ADDRESS, or to the cluster that runs on this machine.

    Args:
      workdir: directory of the sweep.
      cpus: cores per run.
      gpus: GPUs per run.
      tpus: TPU chips per run.

    Raises:
      UserError: Ray is not installed, or there is no cluster.
    """
    try:
      import ray
    except ImportError as error:
      raise UserError("--backend=ray requires Ray, which is not installed; pip install 'fcn_jax[sweep]'") from error
    address = os.environ.get('RAY_ADDRESS', 'auto')
    try:
      if address != 'auto' and '://' not in address:
        host, _, port = address.rpartition(':')
        socket.create_connection((host, int(port)), timeout=10).close()  # Ray would try for minutes
      handler = signal.getsignal(signal.SIGTERM)
      ray.init(address, log_to_driver=False, logging_level='CRITICAL')
      signal.signal(signal.SIGTERM, handler)  # that of Ray exits with code 15
    except (OSError, RuntimeError, ValueError) as error:
      raise UserError(
        f'there is no Ray cluster at RAY_ADDRESS={address} ({str(error).splitlines()[0]}); start one with '
        'ray start --head or ./launch.sh tpu up'
      ) from error
    self._ray, self._workdir, self._tasks = ray, workdir, {}
    self._needs = {'CPU': cpus, 'GPU': gpus, 'TPU': tpus}
    resources = {'TPU': tpus} if tpus else {}
    self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, resources=resources, max_retries=0, max_calls=1)(attempt)
    if files.exists(stop := workdir / _STOP):
      with files.explained(stop, 'remove'):
        stop.unlink()

  @property
  def slots(self) -> int:
    """How many runs fit on the cluster now; at least 1, because the cluster may still grow."""
    available = self._ray.cluster_resources()
    fits = [int(available.get(name, 0) // n) for name, n in self._needs.items() if n]
    return max(1, min(fits, default=1))

  def describe(self) -> str:
    alive = sum(node['Alive'] for node in self._ray.nodes())
    available = self._ray.cluster_resources()
    listed = ', '.join(f'{available[name]:g} {name}' for name in ('CPU', 'GPU', 'TPU') if name in available)
    needs = ', '.join(f'{n:g} {name}' for name, n in self._needs.items() if n)
    return f'on a Ray cluster of {alive} nodes with {listed}; each run uses {needs}'

  def has_room(self, *, prepared: bool) -> bool:
    """True: Ray queues the tasks that do not fit."""
    return True

  def start(self, run: points.Run) -> None:
    arguments = run.command[1:], os.fspath(run.workdir), os.getcwd(), self._needs['CPU'], self._needs['GPU']
    self._tasks[self._task.options(name=run.name).remote(*arguments)] = run.name

  def ended(self) -> list[Ending]:
    """The runs that ended since the last call."""
    endings, ready = [], list(self._tasks)
    if ready:
      ready, _ = self._ray.wait(ready, num_returns=len(ready), timeout=0)
    for task in ready:
      name = self._tasks.pop(task)
      try:
        code = self._ray.get(task)
        endings.append(Ending(name, code, describe_exit(code)))
      except self._ray.exceptions.RayTaskError as error:  # raised by `attempt` itself, for example a missing folder
        endings.append(Ending(name, 1, str(error.cause)))
      except self._ray.exceptions.RayError as error:
        endings.append(Ending(name, None, f'its node was lost ({type(error).__name__})'))
    return endings

  def stop(self, number: signal.Signals) -> None:
    """Stops all tasks and returns when all have saved and ended; tasks that wait for a node end with this process."""
    # No `ray.cancel`: Ray would count a task as ended while its process is still saving.
    files.write(self._workdir / _STOP, f'{number.name}\n')
    if self._tasks:
      self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=120)


def attempt(arguments: list[str], workdir: str, folder: str, cpus: float, gpus: float) -> int:
  """The Ray task: runs `python ARGUMENTS...` on the node that Ray chose, and returns its exit code.

  The run resumes from the last checkpoint of earlier attempts; an earlier attempt that is still alive is stopped.

  Args:
    arguments: the command of the run, without the Python executable.
    workdir: the run directory.
    folder: the working directory of the sweep's driver.
    cpus: cores of the run.
    gpus: GPUs of the run; below 1, the run shares a GPU.
  """
  import ray

  # On each node, a submitted job has its files in another folder.
  folder = folder if os.path.isdir(folder) else os.getcwd()
  path = epath.Path(workdir) if files.is_remote(workdir) else epath.Path(folder) / workdir
  if (path.parent / _STOP).exists():
    return EXIT_CODES[signal.SIGTERM]
  ids = {kind: tuple(found) for kind, found in ray.get_runtime_context().get_accelerator_ids().items()}
  slot = slots.Slot(cores=(), env=slots.accelerators(ids.get('GPU', ()), ids.get('TPU', ()), cpus, gpus))
  log = Log(path / 'log.txt')
  chips = ''.join(f', {kind} {",".join(found)}' for kind, found in ids.items() if found)
  log.file.write(f'--- {socket.gethostname()}, node {ray.get_runtime_context().get_node_id()[:8]}{chips}\n'.encode())
  log.file.flush()
  process = begin([sys.executable, *arguments, '--take_over'], log, slot, cwd=folder)
  try:
    while process.poll() is None and not (path.parent / _STOP).exists():
      time.sleep(_POLL)
      log.copy()
  finally:
    process.terminate()  # not SIGINT: Ray's workers ignore it, and their children do too until they train
    process.wait()
    log.close()
  return process.returncode
