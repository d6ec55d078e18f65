"""Reads all images of a data set into records: a folder with all cores, other data sets with threads."""

import functools
import hashlib
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool

from fcn_jax import images, machine
from fcn_jax.data.dataset import Split
from fcn_jax.data.folder.images import Kind
from fcn_jax.data.folder.layout import Pair
from fcn_jax.data.inspection import records
from fcn_jax.data.inspection.records import Record
from fcn_jax.errors import UserError

_TOGETHER = 16  # images that a process gets at a time
_WORTH_A_PROCESS = 100  # images; starting a process takes about a second


def of_folder(root: pathlib.Path, splits: Mapping[str, Sequence[Pair]], advance: Callable[[], None]) -> list[Record]:
  """The records of all images, split by split.

  Args:
    root: the folder.
    splits: the pairs by split.
    advance: is called after each image.

  Raises:
    UserError: a process was killed.
  """
  of_pair = functools.partial(records.of_pair, root)
  names, pairs = zip(*((name, pair) for name, several in splits.items() for pair in several), strict=True)
  count = min(machine.core_count(), len(pairs) // _WORTH_A_PROCESS)
  if count < 2:
    return list(_counted(map(of_pair, names, pairs), advance))
  context = multiprocessing.get_context('spawn')
  try:
    with futures.ProcessPoolExecutor(count, context, _start) as pool:
      return list(_counted(pool.map(of_pair, names, pairs, chunksize=_TOGETHER), advance))
  except BrokenProcessPool as error:
    raise UserError(
      f'a process that reads the images of {root} was killed, probably because the memory was full; expected room for '
      f'{count} images and masks at a time'
    ) from error


def _counted(found, advance: Callable[[], None]):
  for record in found:
    advance()
    yield record


def _start() -> None:
  """Prepares a process of the pool: it ends with the command, however that ends."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the command ends them

  def wait() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def of_splits(splits: Mapping[str, Split], head: str, threads: int, advance: Callable[[], None]) -> list[Record]:
  """The records of all images of a data set that is not a folder, with the labels of one head."""

  def of_example(name: str, index: int, image_id: str) -> Record:
    record = Record(name, image_id, (image_id,))
    try:
      example = splits[name][index]
    except UserError as error:
      return Record(**vars(record) | {'image_fault': str(error)})
    inputs = example['inputs']
    channels = sum(x.shape[-1] for x in inputs.values())
    digest = hashlib.sha256()
    for array in inputs.values():
      digest.update(array.tobytes())
    numbers = {
      'size': next(iter(inputs.values())).shape[:2],
      'kind': Kind(channels),
      'form': records.COLOR if channels == 3 else f'{channels} channels of uint8',
      'digest': digest.digest(),
      'hash': records.perceptual_hash(images.viewable(inputs)),
    }
    return Record(**vars(record) | numbers | records.mask_numbers(example['labels'][head]))

  places = [(name, index, image_id) for name, split in splits.items() for index, image_id in enumerate(split.ids())]
  with futures.ThreadPoolExecutor(threads) as pool:
    return list(_counted(pool.map(of_example, *zip(*places, strict=True)), advance))
