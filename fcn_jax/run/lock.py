"""Only one process at a time may train in a run directory: the first, or with `take_over` the newest."""

import contextlib
import fcntl
import json
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


class RunLock:
  """A context that keeps other processes out of a run directory until this process ends, however it ends.

  On a disk it is a file lock. In a bucket, and between machines that share a disk without locks, there is no lock: the
  newest start writes its id to `attempt.json`, and an older start stops as soon as it reads another id there.

  Attributes:
    superseded: a newer start of the run holds the lock; nothing may be written any more.
  """

  def __init__(self, directory: RunDirectory, *, take_over: bool):
    """With `take_over`, a start that is still training stops first; otherwise it is an error on entry."""
    self.superseded = False
    self._directory, self._take_over = directory, take_over
    self._id, self._lock, self._closed = str(uuid.uuid4()), None, threading.Event()

  def __enter__(self) -> 'RunLock':
    remote = files.is_remote(self._directory)
    if remote or self._take_over:
      self._write_id()  # asks the previous start, if there is one, to stop
    if remote:
      if self._take_over and saved.read_status(self._directory.path).get('state') == 'running':
        time.sleep(3 * _POLL)  # the previous start may be alive, and needs this long to read the id and stop
    else:
      self._acquire()
      if not self._take_over:
        self._write_id()
    threading.Thread(target=self._watch, daemon=True).start()
    return self

  def __exit__(self, *_) -> None:
    self._closed.set()
    if self._lock is not None:
      os.close(self._lock)

  def _write_id(self) -> None:
    self._directory.write_json('attempt.json', {'id': self._id, 'host': socket.gethostname(), 'pid': os.getpid()})

  def _acquire(self) -> None:
    self._lock = os.open(self._directory, os.O_RDONLY)
    deadline = time.time() + (_PATIENCE if self._take_over else 0)
    while True:
      try:
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
      except BlockingIOError as error:
        if time.time() > deadline:
          os.close(self._lock)
          self._lock = None
          raise UserError(
            f'another process is training in {self._directory}; wait until it ends, stop it with --take_over, or '
            'choose another --workdir'
          ) from error
      time.sleep(0.2)

  def _watch(self) -> None:
    while not self._closed.wait(_POLL):
      with contextlib.suppress(OSError, json.JSONDecodeError):  # a failing network does not mean a newer start
        self.superseded = self.superseded or self._directory.read_json('attempt.json', {}).get('id') != self._id
