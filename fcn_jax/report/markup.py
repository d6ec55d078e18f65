"""Tables in Markdown and LaTeX, and how these formats and HTML escape what users and runs wrote."""

import dataclasses
import html as html_lib
import re

from fcn_jax.files import printable

# In Markdown, an underscore inside a word is only an underscore.
_MARKDOWN = re.compile(r'[\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_])')
_LATEX = str.maketrans(
  {character: f'\\{character}' for character in '{}$&%#_'}
  | {'\\': '\\textbackslash{}', '~': '\\textasciitilde{}', '^': '\\textasciicircum{}'}
  | {'<': '\\textless{}', '>': '\\textgreater{}', '|': '\\textbar{}', '±': '$\\pm$'}
)


def markdown(text: str) -> str:
  """Markdown that shows the text as it is."""
  return _MARKDOWN.sub(r'\\\g<0>', printable(text))


def latex(text: str) -> str:
  """LaTeX that shows the text as it is."""
  return printable(text).translate(_LATEX)


def html(text: str) -> str:
  """HTML that shows the text as it is."""
  return html_lib.escape(printable(text))


@dataclasses.dataclass(frozen=True)
class Table:
  """A table as text that is not escaped.

  Attributes:
    title: the heading.
    note: how to read the table, or ''.
    head: the column headings.
    lines: the rows; each has as many cells as the head.
    best: (row, column) of the cell to highlight, or None.
    long: Markdown has a list instead of the table, because a terminal would cut long cells.
  """

  title: str
  note: str
  head: list[str]
  lines: list[list[str]]
  best: tuple[int, int] | None = None
  long: bool = False

  def markdown(self) -> str:
    """A section: the heading, the note and the table, or a list with a colon between the cells of a row."""
    head, *lines = self._escaped(markdown, '**{}**')
    rows = '\n'.join('| ' + ' | '.join(row) + ' |' for row in [head, ['---'] * len(head), *lines])
    if self.long:
      rows = '\n'.join('* ' + ': '.join(row) for row in lines)
    return f'## {markdown(self.title)}\n\n{markdown(self.note)}\n\n{rows}\n'

  def latex(self) -> str:
    """A tabular, for use in a table environment."""
    head, *lines = [' & '.join(row) + ' \\\\' for row in self._escaped(latex, '\\textbf{{{}}}')]
    begin = f'\\begin{{tabular}}{{{"l" * len(self.head)}}}'
    return '\n'.join([begin, '\\hline', head, '\\hline', *lines, '\\hline', '\\end{tabular}', ''])

  def _escaped(self, escape, mark: str) -> list[list[str]]:
    rows = [[escape(cell) for cell in row] for row in (self.head, *self.lines)]
    if self.best:
      row, column = self.best
      rows[row + 1][column] = mark.format(rows[row + 1][column])
    return rows
