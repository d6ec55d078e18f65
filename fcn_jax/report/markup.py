"""Tables in Markdown and LaTeX, and how these formats and HTML escape what users and runs wrote."""

import dataclasses
import html as html_lib
import re

from fcn_jax.files import printable

# In Markdown, an underscore inside a word is only an underscore.
_MARKDOWN = re.compile(r'[\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_])')
_BEGIN, _END = '<details>', '</details>'
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


def unfolded(text: str) -> str:
  """Markdown without the tables that are folded: a terminal would show all of their lines."""
  return re.sub(f'^{_BEGIN}$.*?^{_END}$\n*', '', text, flags=re.DOTALL | re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Table:
  """A table as text that is not escaped.

  Attributes:
    title: the heading.
    note: how to read the table, or ''.
    head: the column headings.
    lines: the rows; each has as many cells as the head.
    best: (row, column) of each cell to highlight.
    long: Markdown has a list instead of the table, because a terminal would cut long cells.
    folded: the page and Markdown show only the heading until it is clicked.
    links: addresses by (row, column) of their cells, on the page.
  """

  title: str
  note: str
  head: list[str]
  lines: list[list[str]]
  best: frozenset[tuple[int, int]] = frozenset()
  long: bool = False
  folded: bool = False
  links: dict[tuple[int, int], str] = dataclasses.field(default_factory=dict)

  def markdown(self) -> str:
    """A section: the heading, the note and the table, or a list with a colon between the cells of a row."""
    head, *lines = self._escaped(markdown, '**{}**')
    rows = '\n'.join('| ' + ' | '.join(row) + ' |' for row in [head, ['---'] * len(head), *lines])
    if self.long:
      rows = '\n'.join('* ' + ': '.join(row) for row in lines)
    note = f'{markdown(self.note)}\n\n' if self.note else ''
    if self.folded:
      return f'{_BEGIN}\n<summary>{html(self.title)}</summary>\n\n{note}{rows}\n\n{_END}\n'
    return f'## {markdown(self.title)}\n\n{note}{rows}\n'

  def latex(self) -> str:
    """A table environment for the package booktabs; columns of numbers are aligned at the right."""
    head, *lines = [' & '.join(row) + ' \\\\' for row in self._escaped(latex, '\\textbf{{{}}}')]
    columns = ''.join('r' if column in self.numbers else 'l' for column in range(len(self.head)))
    begin = f'\\begin{{tabular}}{{{columns}}}'
    caption = f'\\caption{{{latex(f"{self.title}. {self.note}")}}}'
    lines = [begin, '\\toprule', head, '\\midrule', *lines, '\\bottomrule', '\\end{tabular}']
    return '\n'.join(['% \\usepackage{booktabs}', '\\begin{table}', '\\centering', caption, *lines, '\\end{table}', ''])

  @property
  def numbers(self) -> set[int]:
    """The columns of numbers, which are aligned at the right; the first column never is."""
    cells = ((place, [cell for cell in column if cell]) for place, column in enumerate(zip(*self.lines, strict=True)))
    return {place for place, found in cells if place and found and all(number(cell) is not None for cell in found)}

  def _escaped(self, escape, mark: str) -> list[list[str]]:
    rows = [[escape(cell) for cell in row] for row in (self.head, *self.lines)]
    for row, column in self.best:
      rows[row + 1][column] = mark.format(rows[row + 1][column])
    return rows


def number(text: str) -> float | None:
  """The number at the start of a cell, or None."""
  try:
    return float(text.split(' ')[0].rstrip(';'))
  except ValueError:
    return None
