"""The report as one self-contained web page; it works offline, fits a phone, and can be printed.

`page.html` is the frame with the styles and the scripts; the functions below fill it.
"""

import base64
import importlib.resources
import mimetypes
import re
import string

from fcn_jax.report.markup import Table, counted, html, number

_OPEN = 12  # lines: a folded table that has at most as many is open


def page(title: str, answer: list[str], sections: list[str]) -> str:
  """The whole page: `sections` are HTML from the functions below; the title and the answer are plain text."""
  frame = string.Template((importlib.resources.files(__package__) / 'page.html').read_text())
  paragraphs = ''.join(f'<p>{html(text)}</p>' for text in answer)
  titles = [re.search(r'<h2 id="([^"]*)">(.*?)</h2>', section) for section in sections if section]
  contents = ''.join(f'<li><a href="#{found[1]}">{found[2]}</a></li>' for found in titles)
  filled = {'title': html(title), 'answer': paragraphs, 'contents': contents, 'sections': ''.join(sections)}
  return frame.substitute(filled)


def section(shown: Table, *, heat: bool = False, plot: bytes | None = None, form: str = 'svg') -> str:
  """A table that can be sorted by clicking a column heading, below its plot.

  Args:
    shown: the table; without lines, the section has the plot only.
    heat: colors the numbers: the larger, the darker.
    plot: an image file.
    form: its format: svg or png.
  """
  content = f'<div class="wide plot">{image_tag(plot, f"plot.{form}", shown.title)}</div>' if plot else ''
  if shown.lines:
    table = f'<div class="wide">{_table(shown, heat)}</div>'
    if shown.folded:
      opened = ' open' if len(shown.lines) <= _OPEN else ''
      table = f'<details{opened}><summary>{counted(len(shown.lines), "line")}</summary>{table}</details>'
    content += table
  note = shown.note + ' The darker a cell, the higher its value, from white at 0 to blue at 100 %.' * heat
  return section_of(shown.title, note, content)


def _table(shown: Table, heat: bool) -> str:
  heads, lines = [], []
  for j, text in enumerate(shown.head):
    kind = 'number' if j in shown.numbers else ''
    heads.append(f'<th{_attribute("class", kind)}><button type="button">{html(text)}</button></th>')
  for i, line in enumerate(shown.lines):
    cells = []
    for j, text in enumerate(line):
      value = number(text)
      kind = ' '.join(
        ['number'] * (j in shown.numbers) + ['best'] * ((i, j) in shown.best) + ['long'] * (not j and len(text) > 24)
      )
      style = _heat(value) if heat and value is not None else ''
      link = shown.links.get((i, j))
      shown_text = f'<a href="{html(link)}">{html(text)}</a>' if link else html(text)
      cells.append(f'<td{_attribute("class", kind)}{_attribute("style", style)}>{shown_text}</td>')
    lines.append(f'<tr>{"".join(cells)}</tr>')
  return f'<table><thead><tr>{"".join(heads)}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def section_of(title: str, note: str, content: str) -> str:
  """A section of the page from HTML, with a note in plain text."""
  anchor = re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')
  paragraph = f'<p>{html(note)}</p>' if note else ''
  return f'<section><h2 id="{anchor}">{html(title)}</h2>{paragraph}{content}</section>\n'


def image_tag(content: bytes, file: str, text: str) -> str:
  """An image in the page itself; the name of the file gives its type."""
  url = f'data:{mimetypes.guess_type(file)[0]};base64,{base64.b64encode(content).decode()}'
  return f'<img alt="{html(text)}" src="{url}">'


def _attribute(name: str, value: str) -> str:
  return f' {name}="{value}"' if value else ''


def _heat(percent: float) -> str:
  """A background from white at 0 to blue at 100, and a text color that is readable on it."""
  fraction = min(max(percent / 100, 0), 1)
  red, green, blue = (round(255 + (end - 255) * fraction) for end in (8, 70, 140))
  return f'background: rgb({red}, {green}, {blue}); color: {"#fff" if fraction > 0.55 else "#000"}'
