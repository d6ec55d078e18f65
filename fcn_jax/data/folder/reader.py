"""Image files for a trained network: read as the images that it was trained on."""

import os
import pathlib

import numpy as np

from fcn_jax import image_files
from fcn_jax.data.folder.images import Kind
from fcn_jax.errors import UserError


class Reader:
  """Reads images for a run.

  Attributes:
    endings: of the files that are found in folders.
  """

  def __init__(self, data, inputs: dict[str, int]) -> None:
    """Makes a reader.

    Args:
      data: the section `data` of the config of the run.
      inputs: the channels of its input streams.

    Raises:
      UserError: an image file does not provide these streams.
    """
    values = tuple(data.range) if data.name == 'folder' else ()
    kind = Kind(next(iter(inputs.values())), is_plain=False, dtype='', range=values)
    is_rgb = list(inputs.values()) == [3]
    if not (is_rgb or data.name == 'folder'):
      listed = ', '.join(f'{stream} with {count}' for stream, count in inputs.items())
      raise UserError(
        f'the network expects the input streams {listed} channels, but image files have one stream of 3; use '
        'fcn_jax.load_run(...).predict with a dict of arrays'
      )
    self._kind = None if is_rgb and not values else kind
    self.endings = image_files.ENDINGS + (('.npy',) if self._kind else ())

  def size_of(self, path: os.PathLike) -> tuple[int, int]:
    """Height and width, from the header of the file. Raises: UserError: it cannot be read."""
    return self._kind.size_of([pathlib.Path(path)]) if self._kind else image_files.size_of(path)

  def read(self, path: os.PathLike) -> np.ndarray:
    """The image uint8 [H, W, C]. Raises: UserError: it cannot be read, or is of another kind than those of the run."""
    return self._kind.read([pathlib.Path(path)]) if self._kind else image_files.read(path)
