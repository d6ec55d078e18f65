"""What runs the runs of a sweep: processes on this machine, or tasks on a Ray cluster.

Both have `start(run)`, `ended()`, `stop(signal)`, `room(...)` and `describe()`, and give a run its own cores and
chips. A run is the plain command in a process of its own in either.
"""

import dataclasses
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from etils import epath

from fcn_jax import machine
from fcn_jax.errors import UserError
from fcn_jax.run import directory
from fcn_jax.run.signals import EXIT_CODES
from fcn_jax.sweep import points

_POLL = 0.5  # seconds between looks at a process in a Ray task
_COPY = 10.0  # seconds between copies of a log to a bucket
_STOP = 'STOP'  # the file in the folder of a sweep that has all its Ray tasks stop


@dataclasses.dataclass(frozen=True)
class Ending:
  """How the process of a run ended.

  Attributes:
    name: of the run.
    code: its exit code, or minus the signal that killed it; None where its machine was lost.
    text: the same for people.
  """

  name: str
  code: int | None
  text: str


class Log:
  """`log.txt` of a run: what its processes say, one after the other; copied now and then where it is in a bucket."""

  def __init__(self, path: epath.Path):
    self._path, self._copied = path, time.time()
    if directory.is_remote(path):
      self.file = tempfile.TemporaryFile()  # noqa: SIM115, closed by `close`
      self.file.write(path.read_bytes() if path.exists() else b'')
      self.file.flush()
    else:
      path.parent.mkdir(parents=True, exist_ok=True)
      self.file = path.open('ab')

  def copy(self, *, now: bool = False) -> None:
    if directory.is_remote(self._path) and (now or time.time() - self._copied > _COPY):
      self._copied = time.time()
      descriptor = self.file.fileno()
      directory.write(self._path, os.pread(descriptor, os.fstat(descriptor).st_size, 0))

  def close(self) -> None:
    self.copy(now=True)
    self.file.close()


def begin(command: list[str], log: Log, slot: machine.Slot, **options) -> subprocess.Popen:
  """Starts the command of a run, which ends with this process."""
  return subprocess.Popen(
    command,
    env=machine.environment(slot),
    stdin=subprocess.DEVNULL,
    stdout=log.file,
    stderr=subprocess.STDOUT,
    process_group=0,  # Ctrl-C is for this process, which passes it on once
    preexec_fn=functools.partial(machine.settle, slot),
    **options,
  )


class Local:
  """Processes on this machine, each in a slot of it."""

  poll = 0.1  # seconds between looks at the directories of the runs

  def __init__(self, slots: int | None):
    self._free = machine.slots(slots)
    self.slots = len(self._free)
    self._processes = {}  # by name: (process, slot, log)

  def describe(self) -> str:
    return f'{self.slots} at a time on this machine'

  def room(self, *, prepared: bool) -> bool:
    """Whether another run can start: the first one alone, since it prepares the data for all."""
    return bool(self._free) and (prepared or not self._processes)

  def start(self, run: points.Run) -> None:
    slot, log = self._free.pop(0), Log(run.workdir / 'log.txt')
    self._processes[run.name] = begin(run.command(), log, slot), slot, log

  def ended(self) -> list[Ending]:
    """What ended since the last call."""
    endings = []
    for name, (process, slot, log) in list(self._processes.items()):
      log.copy()
      if process.poll() is not None:
        del self._processes[name]
        log.close()
        self._free.append(slot)
        self._free.sort(key=lambda s: s.cores)
        endings.append(Ending(name, process.returncode, _said(process.returncode)))
    return endings

  def stop(self, number: signal.Signals) -> None:
    """Returns when all have saved and ended."""
    for process, _, _ in self._processes.values():
      process.send_signal(number)
    for process, _, log in self._processes.values():
      process.wait()
      log.close()


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
    directory.write(self._workdir / _STOP, f'{number.name}\n')
    if self._tasks:
      self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=120)


def attempt(arguments: list[str], workdir: str, folder: str, cpus: float) -> int:
  """The task: runs `python ARGUMENTS...` on the node that Ray has chosen, to its end; its exit code.

  It goes on where an earlier attempt was stopped or lost, and ends that one if it is still alive somewhere.
  """
  import ray

  # A job that was submitted has its files in another folder on each node.
  folder = folder if os.path.isdir(folder) else os.getcwd()
  path = epath.Path(workdir) if directory.is_remote(workdir) else epath.Path(folder) / workdir
  if (path.parent / _STOP).exists():
    return EXIT_CODES[signal.SIGTERM]
  ids = {kind: tuple(found) for kind, found in ray.get_runtime_context().get_accelerator_ids().items()}
  slot = machine.Slot(cores=(), env=machine.accelerators(ids.get('GPU', ()), ids.get('TPU', ()), cpus))
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


def _said(code: int) -> str:
  return f'killed by {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
