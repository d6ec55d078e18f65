"""The one kind of error that is meant for the reader, not for the programmer."""


class UserError(Exception):
  """Something the user can put right: what was found, where, what was expected, what to do.

  Commands print it as a sentence and exit with 1; `--debug` shows where it came from.
  """
