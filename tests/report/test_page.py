"""The report's page in a browser: it is self-contained, sorts tables, fits a phone, and escapes text."""

import collections
import html
import itertools
import json
import os
import re
import shutil
import subprocess

import made
import pytest
from etils import epath

from fcn_jax.report import __main__ as report
from fcn_jax.report import comparison, figures, gallery, markup, page, results

CHROMIUM = shutil.which('chromium')
browser = pytest.mark.skipif(not CHROMIUM, reason='requires chromium on the PATH (a Debian package)')
HOSTILE = '<img src=x onerror=hacked()>&"\'$x_1$'


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """The page of a report on four strides, with HTML in the names of a class, a setting and the folder."""
  folder = tmp_path_factory.mktemp('page') / 'runs <b>bold'
  for stride, upsample, seed in itertools.product((32, 16, 8), ('bilinear_fixed', 'learned_random'), (0, 1)):
    settings = {'model__stride': stride, 'model__upsample': upsample, 'seed': seed}
    made.run(folder, skill=0.5 + 2 / stride + seed / 100, classes=(HOSTILE, 'tree', 'road'), **settings)
  path = made.run(folder, skill=0.5, classes=(HOSTILE, 'tree', 'road'), seed=0, model__stride=4)
  config = json.loads((path / 'config.json').read_text())
  config['init']['run'] = HOSTILE
  (path / 'config.json').write_text(json.dumps(config))
  return report.report(epath.Path(folder))['index.html']


def dump(tmp_path, content: str) -> tuple[str, str]:
  """The document after its scripts have run, and the messages of the browser."""
  path = tmp_path / 'page.html'
  path.write_text(content)
  command = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr']
  command += [f'--user-data-dir={tmp_path}/profile', '--virtual-time-budget=5000', '--dump-dom', f'file://{path}']
  done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {'HOME': str(tmp_path)})
  assert done.returncode == 0, done.stderr
  return done.stdout, done.stderr


def probe(tmp_path, content: str, script: str):
  """Runs the function body `script` in the page and returns its result; fails if another script has an error."""
  head = (
    '<script>var errors = []; addEventListener("error", (e) => errors.push(e.message || "not loaded"), true)</script>'
  )
  tail = f"""<script>addEventListener('load', () => {{
    const found = (() => {{ {script} }})();
    document.body.dataset.found = JSON.stringify({{found, errors}});
  }})</script>"""
  content = content.replace('<head>', '<head>' + head, 1)
  end = content.rindex('</body>')
  document, messages = dump(tmp_path, content[:end] + tail + content[end:])
  answer = json.loads(html.unescape(re.search(r'data-found="([^"]*)"', document).group(1)))
  assert answer['errors'] == [] and 'CONSOLE' not in messages, messages
  return answer['found']


def test_the_page_is_self_contained(built):
  references = re.findall(r'(?:src|href)="([^"]*)"', built)
  assert len(references) > 20
  assert all(reference.startswith(('data:', '#', 'runs/')) for reference in references)
  assert '@import' not in built and 'url(' not in built and 'fetch(' not in built


@browser
def test_text_is_escaped_and_everything_loads(built, tmp_path):
  found = probe(
    tmp_path,
    built,
    """return {
      title: document.title, heading: document.querySelector('h1').textContent,
      cells: [...document.querySelectorAll('th, td')].map((cell) => cell.textContent),
      broken: [...document.images].filter((image) => !image.complete || !image.naturalWidth).length,
      images: document.images.length, bold: document.querySelectorAll('b').length,
    }""",
  )
  assert found['title'] == found['heading'] == 'runs <b>bold'
  assert {HOSTILE, f'init.run {HOSTILE}, stride 4, upsample bilinear_fixed'} <= set(found['cells'])
  assert (found['broken'], found['bold']) == (0, 0)
  assert found['images'] == 2 * (2 + 2 * 3) + 4  # sample predictions and plots


@browser
def test_tables_sort_by_number_and_text_in_both_directions(built, tmp_path):
  found = probe(
    tmp_path,
    built,
    """const table = [...document.querySelectorAll('table')].find((t) => t.textContent.includes('upper bound'));
    const click = (column) => {
      table.querySelectorAll('button')[column].click();
      return [[...table.tBodies[0].rows].map((row) => row.cells[column].textContent),
              table.querySelectorAll('th')[column].getAttribute('aria-sort')];
    };
    return [click(1), click(1), click(0), table.querySelectorAll('[aria-sort]').length]""",
  )
  (up, ascending), (down, descending), (names, _), marked = found
  numbers = [float(text.split(' ')[0]) for text in up]
  assert numbers == sorted(numbers) and len(set(numbers)) > 5 and ascending == 'ascending'
  assert [float(text.split(' ')[0]) for text in down] == numbers[::-1] and descending == 'descending'
  assert names[-1].startswith('upper bound') and marked == 1


@browser
def test_the_page_fits_a_phone(built, tmp_path):
  frame = f'<iframe srcdoc="{html.escape(built)}" style="width: 390px; height: 800px; border: 0"></iframe>'
  found = probe(
    tmp_path,
    f'<!doctype html><html><head></head><body>{frame}</body></html>',
    """const frame = document.querySelector('iframe');
    const root = frame.contentDocument.documentElement;
    return [frame.contentWindow.innerWidth, root.scrollWidth, root.scrollHeight,
      root.querySelectorAll('.frame.more').length]""",
  )
  assert found[3] > 0  # what is cut has a shadow
  assert found[0] == 390 and found[1] <= 390 and found[2] > 2000


@browser
def test_the_page_can_be_printed(built, tmp_path):
  path = tmp_path / 'page.html'
  path.write_text(built)
  command = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path}/profile']
  command += ['--no-pdf-header-footer', f'--print-to-pdf={tmp_path}/page.pdf', f'file://{path}']
  subprocess.run(command, check=True, capture_output=True, timeout=120, env=os.environ | {'HOME': str(tmp_path)})
  assert (tmp_path / 'page.pdf').read_bytes().startswith(b'%PDF') and (tmp_path / 'page.pdf').stat().st_size > 20_000


def test_curves_have_at_most_eight_lines_in_a_panel_on_the_same_axes_and_upper_bounds(tmp_path):
  for stride, width, seed in itertools.product((32, 16, 8), (0.25, 0.5, 1.0), (0, 1)):
    made.run(tmp_path, model__stride=stride, model__width=width, seed=seed)
  runs, fields = results.read(epath.Path(tmp_path)), ['model.stride', 'model.width']
  axes = figures.curves(comparison.by_values(runs, fields), fields).axes
  shown = [axis for axis in axes if axis.lines]
  assert len(shown) == 6 and {axis.get_title() for axis in shown} == {'stride 32', 'stride 16', 'stride 8'}
  assert {tuple(axis.get_ylim()) for axis in shown[:3]} == {shown[0].get_ylim()}
  counts = [collections.Counter(round(line.get_linewidth(), 1) for line in axis.lines) for axis in shown]
  assert counts == 3 * [{1.5: 3, 0.5: 6, 0.8: 1}] + 3 * [{1.5: 3, 0.5: 6}]  # means, runs, upper bound


def test_the_gallery_has_the_images_that_differ_most_the_worst_and_the_best():
  ious = {'a': {str(i): i / 10 for i in range(9)}, 'b': {str(i): 0.9 if i == 4 else i / 10 for i in range(9)}}
  found = gallery.choose(ious)
  assert next(iter(found)) == '4' and found['4'] == 'networks differ most (mean IoU 65.0 %, 50.0 points apart)'
  assert found['1'].startswith('among the worst') and found['8'].startswith('among the best') and len(found) == 6
  assert gallery.choose({}) == {} and 'apart' not in ''.join(gallery.choose({'a': ious['a']}).values())


def test_larger_numbers_are_darker():
  shown = markup.Table('t', '', ['network', 'sky'], [['a', '10.00'], ['b', '90.00'], ['c', '']])
  low, high = re.findall(r'background: rgb\((\d+),', page.section(shown, heat=True))
  assert int(low) > int(high)


def test_only_the_best_cell_is_highlighted():
  shown = markup.Table('t', '', ['stride', 'mean IoU'], [['32', '50.00 (1)'], ['8', '70.00 (1)']], best={(1, 1)})
  assert re.findall(r'<td class="number best">([^<]*)<', page.section(shown)) == ['70.00 (1)']
