"""Paths that a person types, and files that are written completely or not at all; failures are `UserError`s."""

import contextlib
import io
import json
import os
import pathlib
import re
import socket
import stat
import urllib.parse
import uuid
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from etils import epath

from fcn_jax.errors import UserError

# Of the temporary files of `write`. The name does not contain that of the file, which may be as long as a name can be.
_TEMPORARY = '.{process}-{random}.fcn_jax.tmp'
_LEFTOVER = re.compile(r'\.\d+-[0-9a-f]{8}\.fcn_jax\.tmp')
_ADDRESS = re.compile(r'[a-z][a-z0-9+.-]*://', re.IGNORECASE)
_BUCKETS = 'https://storage.googleapis.com'


def path(given: os.PathLike | str) -> epath.Path:
  """The path that a person typed, on a disk or in a bucket; `~` is the home folder, file:///x is /x.

  Raises:
    UserError: the path is empty, an address of another kind than gs://, or in a bucket that cannot be used here.
  """
  text = os.fspath(given)
  if not text:  # pathlib takes it for the current folder
    raise UserError("the path '' is empty; expected a path, for example . for the current folder")
  scheme, separator, rest = text.partition('://')
  if separator and scheme.lower() == 'file' and rest.startswith('/'):
    text = urllib.parse.unquote(rest)
  elif separator and scheme.lower() == 'gs':
    text = f'gs://{rest}'
    _check_buckets(text)
  elif _ADDRESS.match(text) or re.match('(gs|s3|file):/', text, re.IGNORECASE):
    raise UserError(f'{text} is an address that cannot be used; expected a path on a disk, or gs://BUCKET/FOLDER')
  return epath.Path(text).expanduser()


def _check_buckets(given: str) -> None:
  """Raises `UserError` at once if the library for buckets or the network is missing."""
  try:
    import gcsfs  # noqa: F401
  except ImportError as error:
    raise UserError(f"{given} requires gcsfs, which is not installed; pip install 'fcn_jax[gcs]'") from error
  server = urllib.parse.urlsplit(os.environ.get('STORAGE_EMULATOR_HOST', _BUCKETS))
  if not any(os.environ.get(name) for name in ('HTTPS_PROXY', 'https_proxy')):
    try:
      port = server.port or {'http': 80}.get(server.scheme, 443)
      socket.create_connection((server.hostname, port), timeout=10).close()  # gcsfs would try for a minute
    except OSError as error:
      raise UserError(
        f'{given} cannot be reached: there is no network connection to {server.hostname} ({reason(error)}); connect '
        'this machine, or use a path on a disk'
      ) from error


def printable(text: str) -> str:
  """The text in one line; control characters and bytes that are not UTF-8 become escapes such as \\x1b."""
  text = re.sub(r'\s+', ' ', text)
  return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def reason(error: BaseException) -> str:
  """Why the system or a storage client failed, in its words: 'Permission denied'."""
  return getattr(error, 'strerror', None) or str(error).strip().split('\n')[0] or type(error).__name__


@contextlib.contextmanager
def explained(path: os.PathLike | str, doing: str = 'read') -> Iterator[None]:
  """A context in which any failure becomes the `UserError` 'cannot DOING PATH: REASON'."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:  # each storage client has its own exceptions
    raise UserError(f'cannot {doing} {path}: {reason(error)}') from error


def exists(path: epath.Path) -> bool:
  """Whether there is a file or folder of this name.

  Raises:
    UserError: that cannot be found out, for example because a folder on the way may not be read.
  """
  with explained(path):
    if is_remote(path):
      return path.exists()
    try:
      os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
      return False
    return True


def opened(path: epath.Path) -> BinaryIO:
  """A file, opened for reading its bytes.

  Raises:
    UserError: it cannot be read: it does not exist, is a folder, or may not be read.
  """
  with explained(path):
    if not is_remote(path) and not stat.S_ISREG(os.stat(path).st_mode):
      kind = 'folder' if os.path.isdir(path) else 'device or pipe'  # opening a pipe could wait for ever
      raise UserError(f'{path} is a {kind}; expected a file')
    return path.open('rb')


def read(path: epath.Path) -> bytes:
  """The content of a file. Raises `UserError` as `opened` does."""
  with opened(path) as file, explained(path):
    return file.read()


def read_json(path: epath.Path, default, remedy: str = 'restore it from a copy'):
  """The value in a JSON file, or `default` if there is no file.

  Args:
    path: of the file.
    default: the value without a file.
    remedy: what a person can do if the file is damaged.

  Raises:
    UserError: the file cannot be read, is empty, or is not JSON.
  """
  if not exists(path):
    return default
  content = read(path)
  try:
    return json.loads(content)
  except ValueError as error:  # not JSON, or not UTF-8
    fault = f'damaged ({error})' if content.strip() else 'empty'
    raise UserError(f'{path} is {fault}; expected JSON: {remedy}') from error


def can_write(folder: os.PathLike | str) -> bool:
  """Whether there is such a folder on a disk, and this process may make files in it."""
  effective = os.access in os.supports_effective_ids
  return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)


def npz(**arrays) -> bytes:
  """The content of a compressed .npz file with these arrays."""
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  return buffer.getvalue()


def write(path: epath.Path, content: str | bytes) -> None:
  """Writes a file under a temporary name and renames it, so that a reader never sees half of it.

  Missing folders are made. In a bucket the file is written directly, because a bucket shows only complete files.

  Raises:
    UserError: the file cannot be written, for example on a full disk. An existing file stays as it was.
  """
  content = content.encode() if isinstance(content, str) else content
  try:
    if is_remote(path):
      path.write_bytes(content)
    else:
      with replacing(path) as file:
        file.write(content)
  except Exception as error:  # each storage client has its own exceptions
    raise UserError(f'cannot write {path}: {reason(error)}; the previous file, if any, is intact') from error


@contextlib.contextmanager
def replacing(path: pathlib.Path | epath.Path) -> Iterator[BinaryIO]:
  """A context with a new file on a disk, which replaces `path` at its end unless there was an error."""
  temporary = path.with_name(_TEMPORARY.format(process=os.getpid(), random=uuid.uuid4().hex[:8]))
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open('wb') as file:
      yield file
    temporary.replace(path)
  except Exception:
    with contextlib.suppress(OSError):  # the folder itself may be the problem
      temporary.unlink(missing_ok=True)
    raise


def write_json(path: epath.Path, value) -> None:
  """Writes a value as JSON; see `write`."""
  write(path, json.dumps(value, indent=1) + '\n')


def remove_leftovers(folder: epath.Path, *, below: bool = False) -> None:
  """Removes the temporary files of killed processes. No other process may be writing in the folder.

  Args:
    folder: nothing else in it changes.
    below: also in its subfolders.
  """
  if not is_remote(folder):
    for path in pathlib.Path(folder).rglob('.*') if below else pathlib.Path(folder).glob('.*'):
      if _LEFTOVER.fullmatch(path.name) and path.is_file():
        path.unlink(missing_ok=True)


def is_remote(path: os.PathLike | str) -> bool:
  """Whether a path is in a bucket, like gs://bucket/run, and not on a disk."""
  return _ADDRESS.match(os.fspath(path)) is not None
