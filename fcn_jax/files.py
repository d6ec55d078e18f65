"""Files that are written whole or not at all."""

import contextlib
import json
import os
import pathlib

from etils import epath

from fcn_jax.errors import UserError

_leaves_writing_to_another = False


def leave_writing_to_another() -> None:
  """From now on `write` does nothing: of a run on several hosts, the first one writes."""
  global _leaves_writing_to_another
  _leaves_writing_to_another = True


def write(path: epath.Path, content: str | bytes) -> None:
  """Writes a file whole, or not at all; `UserError` where the disk does not take it."""
  if _leaves_writing_to_another:
    return
  if is_remote(path):
    try:  # no other name first: there, a file is seen whole or not at all
      path.write_bytes(content.encode() if isinstance(content, str) else content)
    except Exception as error:  # each store has its own
      raise UserError(f'cannot write {path}: {error}; what was written before is intact') from error
    return
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):  # the folder may be what is wrong
      temporary.unlink(missing_ok=True)
    raise UserError(f'cannot write {path}: {error.strerror or error}; what was written before is intact') from error


def remove_leftovers(workdir: epath.Path) -> None:
  """Removes the files that a process which was killed had not renamed yet; no other may be writing there."""
  if not is_remote(workdir):
    for path in pathlib.Path(workdir).rglob('.*.tmp'):
      path.unlink(missing_ok=True)


def is_remote(path) -> bool:
  """Whether it is in a bucket, as gs://bucket/run, not on a disk."""
  return '://' in os.fspath(path)


def write_json(path: epath.Path, value) -> None:
  write(path, json.dumps(value, indent=1) + '\n')


def read_json(path: epath.Path, default):
  return json.loads(path.read_text()) if path.exists() else default
