"""Files that are written completely or not at all."""

import contextlib
import json
import os
import pathlib

from etils import epath

from fcn_jax.errors import UserError


def write(path: epath.Path, content: str | bytes) -> None:
  """Writes a file under a temporary name and renames it, so that a reader never sees half of it.

  Missing folders are made. In a bucket the file is written directly, because a bucket shows only complete files.

  Raises:
    UserError: the file cannot be written, for example on a full disk. An existing file stays as it was.
  """
  content = content.encode() if isinstance(content, str) else content
  remote, temporary = is_remote(path), path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    if remote:
      path.write_bytes(content)
    else:
      path.parent.mkdir(parents=True, exist_ok=True)
      temporary.write_bytes(content)
      temporary.replace(path)
  except Exception as error:  # each storage client has its own exceptions
    if not remote:
      with contextlib.suppress(OSError):  # the folder itself may be the problem
        temporary.unlink(missing_ok=True)
    reason = getattr(error, 'strerror', None) or error
    raise UserError(f'cannot write {path}: {reason}; the previous file, if any, is intact') from error


def path(given: os.PathLike | str) -> epath.Path:
  """The path that a user gave, on a disk or in a bucket; `~` is the home folder."""
  return epath.Path(given).expanduser()


def write_json(path: epath.Path, value) -> None:
  """Writes a value as JSON; see `write`."""
  write(path, json.dumps(value, indent=1) + '\n')


def read_json(path: epath.Path, default):
  """The value in a JSON file, or `default` if there is no file.

  Raises:
    json.JSONDecodeError: the file is not JSON.
  """
  return json.loads(path.read_text()) if path.exists() else default


def remove_leftovers(folder: epath.Path) -> None:
  """Removes the temporary files of a killed process. No other process may be writing in the folder."""
  if not is_remote(folder):
    for path in pathlib.Path(folder).rglob('.*.tmp'):
      path.unlink(missing_ok=True)


def is_remote(path: os.PathLike | str) -> bool:
  """Whether a path is in a bucket, like gs://bucket/run, and not on a disk."""
  return '://' in os.fspath(path)
