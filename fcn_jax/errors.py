"""The one kind of error that is meant for the user, and the suggestions for a wrong name."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """Something that the user can correct: what was found, where, what was expected, what to do.

  Commands print it as one sentence and exit with code 1; `--debug` adds the traceback.

  Attributes:
    files: all files concerned, if there are several and the sentence names only some.
  """

  def __init__(self, message: str = '', files: Iterable[str] = ()):
    super().__init__(message)
    self.files = list(files)


def closest(name, names) -> str:
  """' (did you mean ...?)' if one of `names` resembles `name`, else ''."""
  close = difflib.get_close_matches(str(name), [str(n) for n in names], n=1)
  return f' (did you mean {close[0]}?)' if close else ''


def nearest(name, names) -> str:
  """The end of a message about a wrong name: the closest of `names`, if any, and the list of them."""
  return f'{closest(name, names)}; expected one of {", ".join(str(n) for n in names)}'
