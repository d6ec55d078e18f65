"""Which files of a folder an earlier command wrote, so that the next command replaces these and no others."""

from collections.abc import Iterable

from etils import epath

from fcn_jax import files
from fcn_jax.errors import UserError

LIST = '.fcn_jax.json'  # in the folder: the names of the files


def check(folder: epath.Path, names: Iterable[str]) -> None:
  """Raises `UserError` if a file of these names is in the folder and no earlier command has reserved its name.

  Args:
    folder: may not exist yet.
    names: paths of files below the folder.
  """
  reserved = set(_reserved(folder))
  for name in names:
    if name not in reserved and files.exists(folder / name):
      raise UserError(
        f'{folder / name} would be overwritten, but an earlier call of this command did not write it; use another '
        'folder, or move the file away'
      )


def reserve(folder: epath.Path, names: Iterable[str]) -> None:
  """Records the names, so that a later command may replace these files.

  Raises:
    UserError: see `check`; or the folder cannot be written.
  """
  names = list(names)
  check(folder, names)
  files.write_json(folder / LIST, sorted({*_reserved(folder), *names}))


def replace(folder: epath.Path, names: Iterable[str]) -> None:
  """Reserves the names, and removes the files that an earlier command wrote under other names. Raises: `reserve`."""
  names = sorted(names)
  check(folder, names)
  for name in {*_reserved(folder)} - {*names}:
    with files.explained(folder / name, 'remove'):
      (folder / name).unlink(missing_ok=True)
  files.write_json(folder / LIST, names)


def _reserved(folder: epath.Path) -> list[str]:
  return files.read_json(folder / LIST, [], remedy='delete it, and move the files of the folder away')
