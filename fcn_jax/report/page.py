"""The report as one self-contained web page; it works offline, fits a phone, and can be printed."""

import base64
import html
import io

from PIL import Image

from fcn_jax.report import results, tables
from fcn_jax.report.results import Cells, Result
from fcn_jax.report.tables import Table

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1f; background: #fff; margin: 0 auto; padding: 1rem;
  max-width: 72rem; }
h1 { line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
p { max-width: 46rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #e4e4e8; }
td.number { text-align: right; white-space: nowrap; }
th.number button { text-align: right; }
td.best { font-weight: 700; background: #e8f3e8; }
th { padding: 0; vertical-align: bottom; border-bottom: 2px solid #888; }
th button { font: inherit; font-weight: 600; text-align: left; width: 100%; padding: .3rem .7rem; border: 0;
  background: none; cursor: pointer; }
th button:hover, th button:focus-visible { background: #eef; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
img { max-width: 100%; height: auto; }
.gallery { display: grid; gap: .4rem; width: max-content; }
.gallery img { width: 11rem; display: block; }
.gallery span { font-size: .8rem; width: 11rem; align-self: end; overflow-wrap: anywhere; }
.legend span { display: inline-block; margin-right: 1rem; font-size: .875rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border: 1px solid #333; margin-right: .3rem; }
@media (max-width: 40rem) { body { padding: .6rem; } .gallery img, .gallery span { width: 8rem; }
  .plot img { max-width: none; width: 44rem; } }
@media print {
  body { max-width: none; font-size: 10pt; padding: 0; }
  .wide { overflow: visible; }
  table, figure, img { break-inside: avoid; }
  h2 { break-after: avoid; }
  table { font-size: 8pt; }
  th button::after { content: none !important; }
  .gallery { width: auto; grid-template-columns: repeat(4, 1fr) !important; }
  .gallery img, .gallery span { width: 100%; }
}
"""

# Sorts the rows of a table by the numbers or texts of the column whose heading is clicked.
_SCRIPT = """
for (const button of document.querySelectorAll('th button')) {
  button.addEventListener('click', () => {
    const head = button.parentElement, body = head.closest('table').tBodies[0];
    const descending = head.getAttribute('aria-sort') === 'ascending';
    const value = (row) => row.cells[head.cellIndex].textContent.trim();
    const compare = (a, b) => {
      const [x, y] = [parseFloat(a), parseFloat(b)];
      if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
      return (isNaN(x) ? a.localeCompare(b) : x - y) * (descending ? -1 : 1);
    };
    for (const other of head.parentElement.cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
    body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
  });
}
"""


def page(title: str, introduction: list[str], sections: list[str]) -> str:
  """The whole page: `sections` are HTML from the functions below; the title and the introduction are plain text."""
  paragraphs = ''.join(f'<p>{html.escape(text)}</p>' for text in introduction)
  return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
{paragraphs}
{''.join(sections)}
<script>{_SCRIPT}</script>
</body>
</html>
"""


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
    heads.append(f'<th{_attribute("class", kind)}><button type="button">{html.escape(texts[0])}</button></th>')
  for i, line in enumerate(shown.lines):
    cells = []
    for j, text in enumerate(line):
      number = _number(text)
      kind = ' '.join(['number'] * (number is not None) + ['best'] * (shown.best == (i, j)))
      style = _heat(number) if heat and number is not None else ''
      cells.append(f'<td{_attribute("class", kind)}{_attribute("style", style)}>{html.escape(text)}</td>')
    lines.append(f'<tr>{"".join(cells)}</tr>')
  body = (
    f'<div class="wide"><table><thead><tr>{"".join(heads)}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
  )
  return _section(shown.title, shown.note, _plot(plot, shown.title) + (body if lines else ''))


def gallery(cells: Cells, fields: list[str]) -> str:
  """The same images for all networks: image, label, and the prediction of each network's first seed."""
  scored = results.done(cells)
  runs = {tables.label(fields, key, members): members[0] for key, members in scored.items()}
  common = set.intersection(*(set(run.examples) for run in runs.values())) if runs else set()
  if not common:
    return ''
  first = next(iter(runs.values()))
  titles = ['image', 'label', *runs]
  items = [f'<span>{html.escape(text)}</span>' for text in titles]
  for name in sorted(common):
    items.append(_image(first, f'{name}.image.jpg', 'image/jpeg', f'image {name}'))
    items.append(_image(first, f'{name}.label.png', 'image/png', f'label of {name}'))
    items += [
      _image(run, f'{name}.prediction.png', 'image/png', f'prediction for {name} by {text}')
      for text, run in runs.items()
    ]
  grid = f'<div class="gallery" style="grid-template-columns: repeat({len(titles)}, auto)">{"".join(items)}</div>'
  note = 'The same images for all networks, each with the predictions of its first seed.'
  return _section('Sample predictions', note, f'{_legend(first, min(common))}<div class="wide">{grid}</div>')


def _legend(run: Result, name: str) -> str:
  """The classes and their colors in the label images of the run."""
  palette = Image.open(io.BytesIO((_examples(run) / f'{name}.label.png').read_bytes())).getpalette()
  names = [key.removeprefix('iou/') for key in run.scores if key.startswith('iou/')]
  items = [
    f'<span><i style="background: rgb{tuple(palette[3 * i : 3 * i + 3])}"></i>{html.escape(text)}</span>'
    for i, text in enumerate(names)
  ]
  return f'<p class="legend">{"".join(items)}</p>'


def _examples(run: Result):
  return run.path / 'eval' / run.split


def _image(run: Result, name: str, kind: str, text: str) -> str:
  content = (_examples(run) / name).read_bytes()
  return f'<img loading="lazy" alt="{html.escape(text)}" src="{_data_url(content, kind)}">'


def _plot(svg: bytes | None, title: str) -> str:
  if not svg:
    return ''
  return f'<div class="wide plot"><img alt="{html.escape(title)}" src="{_data_url(svg, "image/svg+xml")}"></div>'


def _section(title: str, note: str, content: str) -> str:
  return f'<section><h2>{html.escape(title)}</h2><p>{html.escape(note)}</p>{content}</section>\n'


def _attribute(name: str, value: str) -> str:
  return f' {name}="{value}"' if value else ''


def _data_url(content: bytes, kind: str) -> str:
  return f'data:{kind};base64,{base64.b64encode(content).decode()}'


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
