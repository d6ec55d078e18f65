"""Tables in Markdown and LaTeX, and how these formats and HTML escape what users and runs wrote."""

import dataclasses
import html as html_lib
import re
from collections.abc import Iterable, Sequence

from fcn_jax.files import printable

# In Markdown, an underscore inside a word is only an underscore.
_MARKDOWN = re.compile(r'[\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_])')
_BEGIN, _END = '<details>', '</details>'
_LATEX = str.maketrans(
  {character: f'\\{character}' for character in '{}$&%#_'}
  | {'\\': '\\textbackslash{}', '~': '\\textasciitilde{}', '^': '\\textasciicircum{}'}
  | {'<': '\\textless{}', '>': '\\textgreater{}', '|': '\\textbar{}', '±': '$\\pm$'}
)

# Decimal numbers at the start of a cell: '73.21 ± 0.45' of '73.21 ± 0.45 (3)'.
_DECIMALS = re.compile(r'[+-]?\d+\.\d+(?:(?: ± |; )\d+\.\d+)*(?=[ ;]|$)')
_NUMBER = re.compile(r'( ± |; |)([+-]?\d+)(\.\d+)')


def markdown(text: str) -> str:
  """Markdown that shows the text as it is."""
  return _MARKDOWN.sub(r'\\\g<0>', printable(text))


def latex(text: str) -> str:
  """LaTeX that shows the text as it is."""
  return printable(text).translate(_LATEX)


def html(text: str) -> str:
  """HTML that shows the text as it is."""
  return html_lib.escape(printable(text))


def counted(number: int, noun: str) -> str:
  """'1 run' or '2 runs'."""
  return f'{number} {noun}{"" if number == 1 else "s"}'


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
    escaped = [[markdown(cell) for cell in row] for row in (self.head, *self.lines)]
    head, *lines = self._marked(escaped, '**{}**')
    rows = '\n'.join('| ' + ' | '.join(row) + ' |' for row in [head, ['---'] * len(head), *lines])
    if self.long:
      rows = '\n'.join('* ' + ': '.join(row) for row in lines)
    note = f'{markdown(self.note)}\n\n' if self.note else ''
    if self.folded:
      return f'{_BEGIN}\n<summary>{html(self.title)}</summary>\n\n{note}{rows}\n\n{_END}\n'
    return f'## {markdown(self.title)}\n\n{note}{rows}\n'

  def latex(self) -> str:
    """A table environment for the package booktabs; numbers are aligned at the decimal point, or at the right."""
    columns = list(zip(*self.lines, strict=True))
    decimal = {j for j in self.numbers if any(_DECIMALS.match(cell) for cell in columns[j])}
    shown = [_aligned(column) if j in decimal else list(map(latex, column)) for j, column in enumerate(columns)]
    rows = self._marked([list(map(latex, self.head)), *zip(*shown, strict=True)], '\\textbf{{{}}}')
    head, *lines = [' & '.join(row) + ' \\\\' for row in rows]
    kinds = ''.join('r' if j in self.numbers - decimal else 'l' for j in range(len(self.head)))
    begin = f'\\begin{{tabular}}{{{kinds}}}'
    caption = f'\\caption{{{latex(f"{self.title}. {self.note}")}}}'
    lines = [begin, '\\toprule', head, '\\midrule', *lines, '\\bottomrule', '\\end{tabular}']
    return '\n'.join(['% \\usepackage{booktabs}', '\\begin{table}', '\\centering', caption, *lines, '\\end{table}', ''])

  @property
  def numbers(self) -> set[int]:
    """The columns of numbers, which are aligned at the right; the first column never is."""
    cells = ((place, [cell for cell in column if cell]) for place, column in enumerate(zip(*self.lines, strict=True)))
    return {place for place, found in cells if place and found and all(number(cell) is not None for cell in found)}

  def _marked(self, rows: Iterable[Iterable[str]], mark: str) -> list[list[str]]:
    """The rows with a head, with marks on the best cells."""
    out = [list(row) for row in rows]
    for row, column in self.best:
      out[row + 1][column] = mark.format(out[row + 1][column])
    return out


def _aligned(column: Sequence[str]) -> list[str]:
  """LaTeX of cells such as '73.21 ± 0.45 (3)' whose numbers are aligned at the decimal point, in a column at the left.

  What a shorter cell lacks is a \\phantom of the same width.
  """
  starts = [found[0] if (found := _DECIMALS.match(cell)) else '' for cell in column]
  numbers = [_NUMBER.findall(start) for start in starts]  # (text before it, digits, fraction)
  longest = max(numbers, key=len)
  widths = [[max(len(of[k][part]) for of in numbers if k < len(of)) for part in (1, 2)] for k in range(len(longest))]
  out = []
  for cell, start, found in zip(column, starts, numbers, strict=True):
    text = ''
    for k, ((between, *_), (before, after)) in enumerate(zip(longest, widths, strict=True) if found else ()):
      if k < len(found):
        _, digits, fraction = found[k]
        text += latex(between) + _phantom('0' * (before - len(digits)))
        text += digits + fraction + _phantom('0' * (after - len(fraction)))
      else:
        text += _phantom(f'{latex(between)}{"0" * before}.{"0" * (after - 1)}')
    out.append(text + latex(cell.removeprefix(start)))
  return out


def _phantom(text: str) -> str:
  return f'\\phantom{{{text}}}' if text else ''


def number(text: str) -> float | None:
  """The number at the start of a cell, or None."""
  try:
    return float(text.split(' ')[0].rstrip(';'))
  except ValueError:
    return None
