"""Memory of batches that is used again: fresh memory costs as much as the copy of the pixels into it."""

import math
import mmap
import weakref

import numpy as np

_ALIGNMENT = 64  # bytes, for jax on a CPU to use the arrays without a copy


class Buffers:
  """Arrays of fixed shapes. Several threads may take some at the same time."""

  def __init__(self, shapes: dict[str, dict[str, tuple[int, ...]]]):
    """Args: shapes: of arrays by group and name."""
    self._places, self._size = {}, 0
    for group, of_group in shapes.items():
      self._places[group] = {}
      for name, shape in of_group.items():
        self._places[group][name] = self._size, shape
        self._size += -(-math.prod(shape) // _ALIGNMENT) * _ALIGNMENT
    self._free: list[mmap.mmap] = []

  def take(self) -> dict[str, dict[str, np.ndarray]]:
    """uint8 arrays by group and name, with any content.

    Their memory is used again once no array, view or jax array refers to it. So it does not matter how many batches are
    read ahead, when a copy to a device ends, and whether jax copies at all.
    """
    try:
      memory = self._free.pop()
    except IndexError:
      memory = mmap.mmap(-1, self._size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # numpy lets views of an array refer to this one, which does not own its memory, as long as its base is no array.
    whole = np.frombuffer(memory, np.uint8)
    weakref.finalize(whole, self._free.append, memory).atexit = False
    return {
      group: {name: whole[start : start + math.prod(shape)].reshape(shape) for name, (start, shape) in places.items()}
      for group, places in self._places.items()
    }
