"""Which of several starts of a run may write in its directory: one, and where asked, the newest."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid

from etils import epath

from fcn_jax import files
from fcn_jax.errors import UserError

_POLL = 2.0  # seconds between looks at whether another start has taken over
_PATIENCE = 120.0  # seconds until the start before must have stopped


class Claim:
  """Keeps other processes out of a directory until it ends, however it ends.

  On a disk a lock does so. On a bucket, and between machines that share a disk without locks, there is none: there the
  newest start has the run, whose id stands in `attempt.json`, and an older one stops as soon as it reads another id.

  Attributes:
    lost: another start has taken over; nothing may be written any more.
  """

  def __init__(self, workdir: epath.Path, *, take_over: bool):
    """With `take_over` a start that is under way is ended; else it is an error."""
    self.lost = False
    self._workdir, self._path, self._take_over = workdir, workdir / 'attempt.json', take_over
    self._id, self._held, self._over = str(uuid.uuid4()), None, threading.Event()

  def __enter__(self) -> 'Claim':
    remote = files.is_remote(self._workdir)
    if remote or self._take_over:
      self._sign()  # the start before, if any, is to see it
    if remote:
      if self._take_over and files.read_json(self._workdir / 'status.json', {}).get('state') == 'running':
        time.sleep(3 * _POLL)  # it may be alive, and needs as long to see that it is not wanted
    else:
      self._lock()
      if not self._take_over:
        self._sign()
    threading.Thread(target=self._watch, daemon=True).start()
    return self

  def __exit__(self, *_) -> None:
    self._over.set()
    if self._held is not None:
      os.close(self._held)

  def _sign(self) -> None:
    files.write_json(self._path, {'id': self._id, 'host': socket.gethostname(), 'pid': os.getpid()})

  def _lock(self) -> None:
    self._held = os.open(self._workdir, os.O_RDONLY)
    until = time.time() + (_PATIENCE if self._take_over else 0)
    while True:
      try:
        fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
      except BlockingIOError as error:
        if time.time() > until:
          os.close(self._held)
          self._held = None
          raise UserError(
            f'another process is training in {self._workdir}; wait for it, end it, or take another --workdir'
          ) from error
      time.sleep(0.2)

  def _watch(self) -> None:
    while not self._over.wait(_POLL):
      with contextlib.suppress(OSError, json.JSONDecodeError):  # a network that fails for a while takes nothing over
        self.lost = self.lost or files.read_json(self._path, {}).get('id') != self._id
