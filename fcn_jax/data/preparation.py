"""Prepares the data set of a TFDS builder, if necessary, and removes what killed preparations left on the disk."""

import contextlib
import errno
import io
import logging
import os
import pathlib
import re
import shutil
import socket
import time
from collections.abc import Iterator

import tensorflow_datasets as tfds
from etils import epath

from fcn_jax import files, image_files
from fcn_jax.data import decoded
from fcn_jax.errors import UserError

logger = logging.getLogger(__name__)

# What TFDS calls files and folders until they are complete.
_INCOMPLETE = re.compile(r'incomplete\.([A-Z0-9]{6}_|[0-9a-f]{32}\.).+|.+\.tmp\.[0-9a-f]{32}')
_MARKER = '.preparing-'  # and the name of the machine: a file next to the data while the machine prepares them
_LONGEST = 24 * 3600  # seconds; a preparation on another machine that began earlier is dead
# The system's reasons in the messages of libraries, whose exceptions are of many kinds.
_REASONS = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)))


def prepared(builder_class: type, data, options: dict):
  """The builder of a data set whose records are on the disk; they are prepared first if necessary.

  Processes of one machine prepare one after another, so that the second finds the data of the first.

  Args:
    builder_class: of the data set.
    data: the section `data` of a config.
    options: further arguments of the builder class.

  Raises:
    UserError: the folder cannot be used, or the builder cannot prepare the data.
  """
  tfds.disable_progress_bar()
  builder = _open(builder_class, data, options)
  if builder.is_prepared():
    return builder
  folder = builder.data_dir_root / builder.name
  _check_no_images(pathlib.Path(builder.data_dir_root))
  try:
    with decoded.alone(folder, 'prepares data in') as locked:
      builder = _open(builder_class, data, options)
      if not builder.is_prepared():
        if locked:
          _remove_leftovers(folder, builder.data_dir_root / 'downloads' / builder.name)
        logger.info('preparing %s in %s', builder.info.full_name, builder.data_path)
        with _marked(folder), contextlib.redirect_stdout(io.StringIO()):  # TFDS prints its own message
          builder.download_and_prepare()
  except UserError:
    raise
  except Exception as error:  # TFDS and the writer of records raise different exceptions for a full disk
    builder = _open(builder_class, data, options)
    if not builder.is_prepared():  # otherwise another machine has prepared the data meanwhile, which TFDS keeps
      raise UserError(f'cannot prepare {data.name} in {builder.data_path}: {reason(error)}') from error
  return builder


def _check_no_images(folder: pathlib.Path) -> None:
  """Raises `UserError` if a folder for prepared data is one of images and masks."""
  names = {x.name for x in folder.iterdir()} if folder.is_dir() else set()
  pairs = [{'images', 'masks'}, {'train', 'trainannot'}, {'JPEGImages', 'SegmentationClass'}]
  found = [name for name in sorted(names) if name.lower().endswith(image_files.ENDINGS)]
  found += [' and '.join(sorted(pair)) for pair in pairs if pair <= names]
  if found:
    raise UserError(
      f'data.dir {folder} has {found[0]}, so it seems to be a folder of images; it is where prepared data are written: '
      'choose an empty folder, or train on these images with --config=FILE:folder and --config.data.folder=DIR'
    )


def reason(error: Exception) -> str:
  """Why a library could not read or write files: the system's reason, if the message or a cause of it has one."""
  cause = error
  while cause:
    if found := [words for words in _REASONS if words in str(cause)]:
      return found[0]
    cause = cause.__cause__ or cause.__context__
  return files.reason(error)


def _open(builder_class: type, data, options: dict):
  folder = decoded.data_dir(data)
  try:
    builder = builder_class(**options, data_dir=os.fspath(folder), file_format='array_record')
  except Exception as error:
    for path in pathlib.Path(folder, builder_class.name).rglob('dataset_info.json'):  # TFDS does not name the file
      remedy = f'delete the folder {path.parent}, and the data are prepared again'
      files.read_json(epath.Path(path), None, remedy)
    raise UserError(f'cannot use data.dir {folder}: {reason(error)}') from error
  files.exists(builder.data_path / 'dataset_info.json')  # TFDS takes what may not be read for missing
  return builder


@contextlib.contextmanager
def _marked(folder: epath.Path) -> Iterator[None]:
  """A context in which other machines that share the disk can see that this one is preparing data."""
  marker = folder / (_MARKER + socket.gethostname())
  marker.touch()
  try:
    yield
  finally:
    marker.unlink(missing_ok=True)


def _remove_leftovers(*folders: epath.Path) -> None:
  """Removes incomplete files in these folders, unless another machine may be writing them; needs the lock."""
  here, oldest = _MARKER + socket.gethostname(), time.time() - _LONGEST
  markers = [path for path in pathlib.Path(folders[0]).iterdir() if path.name.startswith(_MARKER)]
  if any(path.name != here and path.stat().st_mtime > oldest for path in markers):
    return
  incomplete = [x for folder in folders for x in pathlib.Path(folder).rglob('*') if _INCOMPLETE.fullmatch(x.name)]
  for path in [*markers, *incomplete]:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
  if incomplete:
    logger.info('removed what a preparation that was killed had left: %s', ', '.join(map(str, incomplete)))
