"""How fast a run is, and how much memory it takes."""

import resource
import time

import jax


class Clock:
  """The speed of training, compilation, evaluations and checkpoints left out.

  Attributes:
    rate: images/s of the last lap, 0 before the first.
  """

  def __init__(self, step: int, batch_size: int):
    self._batch_size, self.rate = batch_size, 0.0
    self.restart(step)

  def restart(self, step: int) -> None:
    self._step, self._time = step, time.time()

  def seconds(self) -> float:
    return time.time() - self._time

  def lap(self, step: int) -> float:
    if step > self._step:
      self.rate = (step - self._step) * self._batch_size / self.seconds()
    self.restart(step)
    return self.rate


def peak_memory() -> float:
  """GiB: of the fullest device where devices have memory of their own, else of this process."""
  stats = [d.memory_stats() for d in jax.local_devices()]
  if all(stats):
    return round(max(s['peak_bytes_in_use'] for s in stats) / 2**30, 3)
  return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)  # KiB on Linux
