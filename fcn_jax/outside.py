"""What a setting names by its dotted path: a module of the user, or a class or function in it. Does not import jax."""

import importlib
import types
from typing import Any

from fcn_jax.errors import UserError, closest


def module(path: str, missing: str) -> types.ModuleType:
  """Imports a module.

  Args:
    path: its dotted path.
    missing: the message of the error if there is no such module.

  Raises:
    UserError: there is no such module, or it does not import.
  """
  try:
    return importlib.import_module(path)
  except Exception as error:  # whatever a module may raise when it is imported
    lacks_module = isinstance(error, ModuleNotFoundError)
    if not path or (lacks_module and f'{path}.'.startswith(f'{error.name}.')):
      raise UserError(missing) from error
    reason = error if lacks_module else f'{type(error).__name__}: {error}'
    raise UserError(f'the module {path} does not import: {reason}') from error


def member(setting: str, path: str) -> Any:
  """The class or function that a setting names, such as 'my_package.my_losses.poly'.

  Raises:
    UserError: there is no such module, it does not import, or it has nothing of this name.
  """
  parent, _, name = path.rpartition('.')
  found = module(
    parent,
    f'{setting} is {path!r}, but there is no module {parent or path}; expected MODULE.NAME, with MODULE in the '
    'current folder or in PYTHONPATH',
  )
  if not callable(getattr(found, name, None)):
    raise UserError(
      f'{setting} is {path!r}, but {found.__file__ or parent} defines no class or function {name}'
      f'{closest(name, vars(found))}'
    )
  return getattr(found, name)
