"""Only one process at a time may train in a run directory: the first, or with `take_over` the newest."""

import contextlib
import fcntl
import logging
import os
import socket
import threading
import time
import uuid

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import saved
from fcn_jax.run.directory import RunDirectory

_POLL = 2.0  # seconds between checks for a newer start
_PATIENCE = 120.0  # seconds that the previous start may take to stop
_PROBE = 1.0  # seconds for which a start tries to lock: `is_training` in another process holds the lock for an instant
_SILENCE = 600.0  # seconds without a new status.json after which a run on another host counts as stopped

logger = logging.getLogger(__name__)


class RunLock:
  """A context that keeps other processes out of a run directory until this process ends, however it ends.

  On a disk it is a file lock. In a bucket, and on a disk without locks, there is no lock: the newest start writes its
  id to `attempt.json`, and an older start stops as soon as it reads another id there.

  Attributes:
    superseded: a newer start of the run holds the lock; nothing may be written any more.
  """

  def __init__(self, directory: RunDirectory, *, take_over: bool):
    """With `take_over`, a start that is still training stops first; otherwise it is an error on entry."""
    self.superseded = False
    self._directory, self._take_over = directory, take_over
    self._id, self._lock, self._closed = str(uuid.uuid4()), None, threading.Event()

  def __enter__(self) -> 'RunLock':
    asked = not files.is_remote(self._directory) and self._acquire()
    if not asked:
      self._write_id()
    if self._lock is None and self._take_over and saved.read_status(self._directory.path).get('state') == 'running':
      time.sleep(3 * _POLL)  # the previous start may be alive, and needs this long to read the id and stop
    threading.Thread(target=self._watch, daemon=True).start()
    return self

  def __exit__(self, *_) -> None:
    self._closed.set()
    self._release()

  def _release(self) -> None:
    if self._lock is not None:
      os.close(self._lock)
    self._lock = None

  def _write_id(self) -> None:
    values = {'id': self._id, 'host': socket.gethostname(), 'pid': os.getpid(), 'time': round(time.time(), 1)}
    self._directory.write_json('attempt.json', values | {'locked': self._lock is not None})

  def _acquire(self) -> bool:
    """Locks the directory if its disk has locks; returns whether a previous start was asked to stop."""
    with files.explained(self._directory):
      self._lock, asked = os.open(self._directory, os.O_RDONLY), False
    deadline = time.monotonic() + (_PATIENCE if self._take_over else _PROBE)
    while True:
      try:
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return asked
      except BlockingIOError as error:
        if self._take_over and not asked:
          self._write_id()
          asked = True
        if time.monotonic() > deadline:
          self._release()
          raise UserError(
            f'another process is training in {self._directory}; wait until it ends, stop it with --take_over, or '
            'choose another --workdir'
          ) from error
      except OSError as error:  # each file system without locks has its own: ENOTSUP, ENOSYS, ENOLCK, EINVAL, EBADF
        self._release()
        logger.warning(
          '%s cannot be locked (%s). If another process trains there, it stops when it sees this one',
          self._directory,
          error.strerror or error,
        )
        return False
      time.sleep(0.2)

  def _watch(self) -> None:
    while not self._closed.wait(_POLL):
      self.look()

  def look(self) -> None:
    """Updates `superseded` now. Neither a failing network nor a missing file means a newer start."""
    with contextlib.suppress(UserError):
      self.superseded = self.superseded or saved.read_attempt(self._directory.path).get('id', self._id) != self._id


def is_training(workdir: os.PathLike | str) -> bool:
  """Whether a live process trains in a run directory; changes nothing there.

  On a disk with locks, the lock decides for processes of this host. Elsewhere the process of the newest start must be
  alive or, on another host, must have written a file in the last ten minutes.

  Raises:
    UserError: `attempt.json` or `status.json` cannot be read.
  """
  directory = RunDirectory(workdir, writes=False)
  if not files.is_remote(workdir) and _is_locked(directory):
    return True
  attempt, status = saved.read_attempt(directory.path), saved.read_status(directory.path)
  began, written = attempt.get('time', 0.0), status.get('time', 0.0)
  if not attempt or (written >= began and status.get('state') != 'running'):
    return False
  if attempt.get('host') != socket.gethostname():
    return time.time() - max(began, written) < _SILENCE
  return not attempt.get('locked', True) and _is_alive(attempt['pid'])


def _is_locked(directory: RunDirectory) -> bool:
  """Whether a process that this host can see holds the lock of the directory."""
  try:
    probe = os.open(directory, os.O_RDONLY)
  except OSError:  # there is no folder, or this user may not open it
    return False
  try:
    fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two probes do not see each other
    return False
  except BlockingIOError:
    return True
  except OSError:  # no locks on this disk
    return False
  finally:
    os.close(probe)


def _is_alive(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except PermissionError:  # of another user
    return True
  return True
