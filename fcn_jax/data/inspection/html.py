"""An inspection as one web page that works offline: tables, findings, and thumbnails, worst offenders first."""

import base64
import html
import string
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from fcn_jax import files, images
from fcn_jax.data.inspection import summary
from fcn_jax.data.inspection.checks import Finding
from fcn_jax.data.inspection.inspection import Inspection
from fcn_jax.data.inspection.records import Record
from fcn_jax.data.inspection.suggestions import Suggestion
from fcn_jax.errors import UserError

_OFFENDERS, _OTHERS = 60, 12  # images that are shown
_SIDE = 240  # pixels of a thumbnail
_PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
table { border-collapse: collapse } td, th { border-bottom: 1px solid #ccc; padding: .2em .8em; text-align: left }
figure { display: inline-block; margin: 0 1em 1.5em 0; max-width: 31em; vertical-align: top }
figcaption { font-size: 13px; overflow-wrap: anywhere } img { max-width: 15em; margin-right: .3em }
.error { color: #b00020 } .warning { color: #8a5a00 } i { display: inline-block; width: 1em; height: 1em }
li { overflow-wrap: anywhere } code { background: #f4f4f4 }
</style></head><body><h1>$title</h1>
$body
</body></html>
""")


def page(found: Inspection, bounds: Mapping[int, float], suggested: Sequence[Suggestion]) -> str:
  """The whole page. Reads the images that it shows."""
  parts = [f'<p>{_text(note)}</p>' for note in found.notes]
  parts += [_table(summary.SPLITS, summary.splits(found))]
  parts += ['<h2>Findings</h2>', ''.join(map(_finding, found.findings)) or '<p>No errors and no warnings.</p>']
  heads, rows = summary.classes(found)
  if rows:
    parts += ['<h2>Classes</h2>', _table(heads, rows, found.classes.palette)]
  if bounds:
    shares = [[f'{stride} pixels', f'{100 * bound:.1f} %'] for stride, bound in bounds.items()]
    parts += ['<h2>Upper bounds of mean IoU</h2>', _table(('stride', 'mean IoU at most'), shares)]
    parts += [f'<p>{_text(summary.skips_gain(bounds))}</p>']
  if suggested:
    items = ''.join(f'<li><code>{_text(x.flag)}</code>: {_text(x.reason)}</li>' for x in suggested)
    parts += ['<h2>Suggested settings</h2>', f'<ul>{items}</ul>']
  parts += _gallery(found)
  return _PAGE.substitute(title=_text(f'Data set {found.name}'), body='\n'.join(parts))


def _text(text: str) -> str:
  return html.escape(files.printable(text))


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]], colors=None) -> str:
  lines = []
  for number, row in enumerate(rows):
    chip = f'<i style="background: rgb{tuple(colors[number])}"></i> ' if colors else ''
    lines.append(f'<tr><td>{chip}{"</td><td>".join(map(_text, row))}</td></tr>')
  return f'<table><tr><th>{"</th><th>".join(map(_text, heads))}</th></tr>{"".join(lines)}</table>'


def _finding(finding: Finding) -> str:
  listed = ''.join(f'<li>{_text(file)}</li>' for file in finding.files)
  more = f'<details><summary>{len(finding.files)} files</summary><ul>{listed}</ul></details>' if listed else ''
  return f'<p><b class="{finding.level}">{finding.level}: {finding.check}</b> {_text(finding.message)}</p>{more}'


def _gallery(found: Inspection) -> list[str]:
  """The images with most errors, then most warnings, then some without any."""
  marks: dict[str, list[Finding]] = {}
  for finding in found.findings:
    for file in finding.files:
      marks.setdefault(file, []).append(finding)
  of_record = [(r, list(dict.fromkeys(x for file in r.files for x in marks.get(file, ())))) for r in found.records]
  worst = [(r, several) for r, several in of_record if several]
  worst.sort(key=lambda pair: tuple(-sum(x.level == level for x in pair[1]) for level in ('error', 'warning')))
  others = [(r, []) for r, several in of_record if not several]
  some = [others[int(i)] for i in np.linspace(0, len(others) - 1, min(len(others), _OTHERS))]
  parts = []
  for title, several in (('Images with findings', worst[:_OFFENDERS]), ('Other images', some)):
    if several:
      parts += [f'<h2>{title}</h2>', *(_figure(found, record, marks) for record, marks in several)]
  if len(worst) > _OFFENDERS:
    parts.append(f'<p>{len(worst) - _OFFENDERS} more images with findings are not shown.</p>')
  return parts


def _figure(found: Inspection, record: Record, findings: Sequence[Finding]) -> str:
  checks = ''.join(f' <b class="{x.level}">{x.check}</b>' for x in findings)
  caption = f'<figcaption>{_text(f"{record.split}: {record.files[0]}")}{checks}</figcaption>'
  try:
    shown, label = found.view(record)
  except UserError as error:
    return f'<figure><p>{_text(str(error))}</p>{caption}</figure>'
  parts = [_small(shown)]
  if found.classes:
    colored = _small(images.colorize(label, found.classes.palette), Image.Resampling.NEAREST)
    parts.append(Image.blend(parts[0], colored, 0.6) if parts[0].size == colored.size else colored)
  return f'<figure>{"".join(map(_image, parts))}{caption}</figure>'


def _small(pixels: np.ndarray, resampling=Image.Resampling.BILINEAR) -> Image.Image:
  image = Image.fromarray(pixels)
  factor = min(1, _SIDE / max(image.size))
  return image.resize([max(1, round(length * factor)) for length in image.size], resampling)


def _image(image: Image.Image) -> str:
  content = base64.b64encode(images.encoded(image, 'JPEG', quality=80)).decode()
  return f'<img alt="" src="data:image/jpeg;base64,{content}">'
