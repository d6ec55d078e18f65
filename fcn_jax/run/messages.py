"""The messages of a command: which of them are printed, and how they are divided on a terminal."""

import logging
import re
import shutil
import sys
import textwrap
import warnings

from absl import logging as absl_logging

from fcn_jax.run import progress

# Commands in a message, and lines that are a command: they stay whole, to be copied.
_COMMAND = re.compile(
  r"""^ +python .*|python -m \S+(?: (?:init|inspect)(?: \S+)?)?(?: --(?:[^\s'"]|'[^']*'|"[^"]*")+)*""", re.MULTILINE
)
_SPACE = '\ue000'  # in a command, while a message is divided at its spaces


def wrapped(text: str, *, terminal: bool, indent: int = 2) -> str:
  """A text for people: on a terminal, its lines are divided between words.

  Commands and long words stay whole. The parts of a line are indented: after 'data     ' or two spaces, as far as that.

  Args:
    text: one or more lines.
    terminal: whether it goes to a terminal; if not, it stays as it is.
    indent: of the parts of other lines, in columns.
  """
  if not terminal:
    return text
  lines = _COMMAND.sub(lambda match: match[0].replace(' ', _SPACE), text).split('\n')
  return '\n'.join(_divided(line, indent) for line in lines).replace(_SPACE, ' ')


def _divided(line: str, indent: int) -> str:
  further = ' ' * max(indent, len(re.match(r' *(?:\S+ {2,})?', line)[0]))
  whole = {'break_long_words': False, 'break_on_hyphens': False}
  screen = progress.console  # which takes 80 columns for the width of any terminal with TERM=dumb
  width = (shutil.get_terminal_size().columns if screen.is_dumb_terminal else screen.width) or 80
  further = further if len(further) < width / 2 else ' ' * indent
  return textwrap.fill(line, width, subsequent_indent=further, **whole)


def show(text: str) -> None:
  """Prints a text for people, above the progress bar if there is one."""
  progress.console.print(wrapped(text, terminal=sys.stdout.isatty()))


class _ConsoleHandler(logging.Handler):
  def emit(self, record: logging.LogRecord) -> None:
    show(self.format(record))


def configure_logging(*, debug: bool = False) -> None:
  """Prints the messages of fcn_jax from level INFO up; with `debug`, also those of all libraries."""
  logger = logging.getLogger('fcn_jax')
  logger.handlers, logger.propagate = [_ConsoleHandler()], False
  logger.setLevel(logging.INFO)
  if not debug:
    # TFDS and Orbax log every step that they take. They report a file that cannot be read or written in hundreds of
    # lines from several threads; our error message is one sentence.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger('asyncio').setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    # If a write fails, Orbax closes its event loop over the writes that have not begun.
    warnings.filterwarnings('ignore', 'coroutine .* was never awaited', RuntimeWarning)
    warnings.filterwarnings('ignore', module=r'PIL\.')  # of damaged EXIF data, which `image_files` reads as viewers do


def mute() -> None:
  """Prints warnings only: in a run on several hosts, only the first host prints messages."""
  logging.getLogger('fcn_jax').setLevel(logging.WARNING)
