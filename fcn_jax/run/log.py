"""The rows and the status of a run while it trains. They are written together and often enough."""

import time

from fcn_jax.run.directory import RunDirectory
from fcn_jax.run.lock import RunLock

_LATEST = 30.0  # seconds after which a row is on disk


class Log:
  """`metrics.jsonl`, `timing.jsonl` and `status.json` of a run.

  Attributes:
    status: the `Status`.
    metrics: the `Rows` that depend only on the config and the data; None before `read`.
    timing: the `Rows` that depend on the machine; None before `read`.
  """

  def __init__(self, directory: RunDirectory, steps: int, lock: RunLock | None):
    """For a run of `steps` steps; with a lock, nothing is written after another process has taken over."""
    self._directory, self._lock = directory, lock
    self.status, self.metrics, self.timing = directory.status(steps), None, None
    self._written = self._called = time.monotonic()

  def read(self, step: int) -> None:
    """Reads the rows up to the step from which the run resumes."""
    self.metrics, self.timing = (self._directory.rows(name, step) for name in ('metrics.jsonl', 'timing.jsonl'))

  def write(self, state: str, step: int, **more) -> None:
    """Writes all rows, and the status with `more` as further fields."""
    if self._lock and self._lock.superseded:
      return
    for rows in (self.metrics, self.timing):
      if rows is not None:
        rows.flush()
    self.status.write(state, step, **more)
    self._written = time.monotonic()

  def write_in_time(self, step: int) -> None:
    """Writes the state `running` if the next call may come later than 30 s after the last write."""
    now, before = time.monotonic(), self._called
    self._called = now
    if (now - self._written) + (now - before) > _LATEST:
      self.write('running', step)
