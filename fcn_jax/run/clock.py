"""The speed and the memory usage of a run."""

import resource
import time

import jax


class Clock:
  """Measures the speed of training, without compilation, evaluations and checkpoints.

  Attributes:
    rate: images/s of the last lap; 0 before the first one.
  """

  def __init__(self, step: int, batch_size: int):
    self._batch_size, self.rate = batch_size, 0.0
    self.restart(step)

  def restart(self, step: int) -> None:
    """Starts a lap at `step`; the time since the last lap does not count."""
    self._step, self._time = step, time.time()

  def seconds(self) -> float:
    """The length of the current lap so far."""
    return time.time() - self._time

  def lap(self, step: int) -> float:
    """Ends the lap at `step`, starts the next one, and returns `rate`."""
    if step > self._step:
      self.rate = (step - self._step) * self._batch_size / self.seconds()
    self.restart(step)
    return self.rate


def peak_memory() -> float:
  """Peak memory in GiB: of the fullest device if jax reports it, else of this process."""
  stats = [device.memory_stats() for device in jax.local_devices()]
  if all(stats):
    return round(max(s['peak_bytes_in_use'] for s in stats) / 2**30, 3)
  return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)  # ru_maxrss is in KiB on Linux
