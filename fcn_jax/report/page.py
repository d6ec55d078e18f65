"""The report as one self-contained web page; it works offline, fits a phone, and can be printed.

`page.html` is the frame with the styles and the script that sorts tables; the functions below fill it.
"""

import base64
import importlib.resources
import mimetypes
import string

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.report.comparison import by_fold
from fcn_jax.report.markup import Table, html
from fcn_jax.report.results import Result
from fcn_jax.report.tables import Networks


def page(title: str, introduction: list[str], sections: list[str]) -> str:
  """The whole page: `sections` are HTML from the functions below; the title and the introduction are plain text."""
  frame = string.Template((importlib.resources.files(__package__) / 'page.html').read_text())
  paragraphs = ''.join(f'<p>{html(text)}</p>' for text in introduction)
  return frame.substitute(title=html(title), introduction=paragraphs, sections=''.join(sections))


def section(shown: Table, *, heat: bool = False, plot: bytes | None = None) -> str:
  """A table that can be sorted by clicking a column heading, below its plot.

  Args:
    shown: the table; without lines, the section has the plot only.
    heat: colors the numbers: the larger, the darker.
    plot: an SVG file.
  """
  heads, lines = [], []
  for texts in zip(shown.head, *shown.lines, strict=True):
    kind = 'number' if any(_number(text) is not None for text in texts[1:]) else ''
    heads.append(f'<th{_attribute("class", kind)}><button type="button">{html(texts[0])}</button></th>')
  for i, line in enumerate(shown.lines):
    cells = []
    for j, text in enumerate(line):
      number = _number(text)
      kind = ' '.join(['number'] * (number is not None) + ['best'] * (shown.best == (i, j)))
      style = _heat(number) if heat and number is not None else ''
      cells.append(f'<td{_attribute("class", kind)}{_attribute("style", style)}>{html(text)}</td>')
    lines.append(f'<tr>{"".join(cells)}</tr>')
  content = f'<div class="wide plot">{_image(plot, "plot.svg", shown.title)}</div>' if plot else ''
  if lines:
    table = f'<thead><tr>{"".join(heads)}</tr></thead><tbody>{"".join(lines)}</tbody>'
    content += f'<div class="wide"><table>{table}</table></div>'
  return _section(shown.title, shown.note, content)


def gallery(networks: Networks) -> str:
  """The same images for all networks: image, label, and the prediction of each network's first run of a common fold."""
  by_network = {text: by_fold(members) for text, members in networks.items()}
  folds = next(iter(by_network.values()), {})
  fold = next((fold for fold in folds if all(fold in found for found in by_network.values())), None)
  runs = {text: found[fold][0] for text, found in by_network.items() if fold is not None}
  common = set.intersection(*(set(run.examples) for run in runs.values())) if runs else set()
  if not common:
    return ''
  first = next(iter(runs.values()))
  titles = ['image', 'label', *runs]
  items = [f'<span>{html(text)}</span>' for text in titles]
  for name in sorted(common):
    shown = [(first, 'image.jpg', f'image {name}'), (first, 'label.png', f'label of {name}')]
    shown += [(run, 'prediction.png', f'prediction for {name} by {text}') for text, run in runs.items()]
    items += [_example(run, f'{name}.{kind}', text) for run, kind, text in shown]
  grid = f'<div class="gallery" style="grid-template-columns: repeat({len(titles)}, auto)">{"".join(items)}</div>'
  note = f'The same images for all networks, each with the predictions of its first run{fold and f" on {fold}"}.'
  return _section('Sample predictions', note, f'{_legend(first)}<div class="wide">{grid}</div>')


def _example(run: Result, file: str, text: str) -> str:
  try:
    return _image(files.read(run.examples_folder / file), file, text)
  except UserError as error:
    return f'<span>{html(str(error))}</span>'


def _legend(run: Result) -> str:
  """The classes and their colors in the label images of the run."""
  items = [f'<span><i style="background: rgb{color}"></i>{html(name)}</span>' for name, color in run.classes]
  return f'<p class="legend">{"".join(items)}</p>'


def _image(content: bytes, file: str, text: str) -> str:
  """An image in the page itself; the name of the file gives its type."""
  url = f'data:{mimetypes.guess_type(file)[0]};base64,{base64.b64encode(content).decode()}'
  return f'<img alt="{html(text)}" src="{url}">'


def _section(title: str, note: str, content: str) -> str:
  return f'<section><h2>{html(title)}</h2><p>{html(note)}</p>{content}</section>\n'


def _attribute(name: str, value: str) -> str:
  return f' {name}="{value}"' if value else ''


def _number(text: str) -> float | None:
  """The number at the start of a cell, or None."""
  try:
    return float(text.split(' ')[0])
  except ValueError:
    return None


def _heat(percent: float) -> str:
  """A background from white at 0 to blue at 100, and a text color that is readable on it."""
  fraction = min(max(percent / 100, 0), 1)
  red, green, blue = (round(255 + (end - 255) * fraction) for end in (8, 70, 140))
  return f'background: rgb({red}, {green}, {blue}); color: {"#fff" if fraction > 0.55 else "#000"}'
