"""Whatever a folder, a run, a class or an error is called, the report shows its name as it is."""

import html
import io
import json
import re
import sys

import made
import numpy as np
import pandas as pd
import pytest
import tiny
from etils import epath
from markdown_it import MarkdownIt

from fcn_jax import files
from fcn_jax.report import __main__ as report
from fcn_jax.report import markup

pytestmark = pytest.mark.usefixtures('without_plots')
HOSTILE = '[/x] a|b *c* _d_ `e` <f> $g$ \\h {i} ~~j~~ ^k #l &amp; :cat: %m'


@pytest.mark.parametrize(
  'name', ['abl[1]', 'a b', "it's", '50%', 'a=1,b=2', '实验', 'a\nb', '*', '?', '#', '{x}', '\\', '~']
)
def test_a_folder_of_any_name_has_its_title_and_its_gallery(tmp_path, name):
  made.run(tmp_path / name, seed=0).rename(tmp_path / name / f'run {name}')
  contents = report.report(epath.Path(tmp_path) / name)
  shown = name.replace('\n', ' ')
  assert f'<h1>{html.escape(shown)}</h1>' in contents['index.html'] and 'Sample predictions' in contents['index.html']
  assert contents['table.md'].startswith(f'# {markup.markdown(shown)}\n')
  assert list(pd.read_csv(io.StringIO(contents['table.csv'])).run) == [f'run {shown}']


def test_the_folder_in_which_the_command_is_called_has_its_name(tmp_path, monkeypatch):
  made.run(tmp_path / 'sweep', seed=0)
  monkeypatch.chdir(tmp_path / 'sweep' / 'seed=0')
  for path in ('..', '../', '../../sweep', '.././seed=0/..'):
    assert report.title(epath.Path(path)) == 'sweep'
  monkeypatch.chdir(tmp_path / 'sweep')
  assert report.report(epath.Path('.'))['table.md'].startswith('# sweep\n')
  assert report.title(epath.Path('gs://bucket/sweep/')) == 'sweep' and report.title(epath.Path('/')) == '/'


def test_what_users_and_runs_wrote_is_escaped_in_each_format(tmp_path):
  made.run(tmp_path, classes=(HOSTILE, 'tree', 'road'), seed=0)
  made.run(tmp_path, classes=(HOSTILE, 'tree', 'road'), seed=1, init__run=HOSTILE.replace('/', ''))
  failed = made.run(tmp_path, state='failed', seed=2)
  status = {'state': 'failed', 'step': 1, 'error': f'{HOSTILE}\n\x1b[31m\udcff'}
  (failed / 'status.json').write_text(json.dumps(status))
  failed.rename(tmp_path / HOSTILE.replace('/', ''))
  contents = report.report(epath.Path(tmp_path))
  rendered = MarkdownIt().enable('table').render(contents['table.md'])
  cells = re.findall(r'<t[dh]>(.*?)</t[dh]>', rendered)
  (listed,) = re.findall(r'<li>(.*?)</li>', rendered)
  cells += [listed, *listed.split(': failed: ')]
  assert not re.search('<(?:em|code|s|f)>', ''.join(cells))
  without_slash = HOSTILE.replace('/', '')
  error = f'{HOSTILE} \\x1b[31m\\udcff'
  assert {HOSTILE, error, without_slash} <= set(map(html.unescape, cells))
  page = re.findall(r'<t[dh][^>]*>(?:<button type="button">)?(.*?)<', contents['index.html'])
  assert {HOSTILE, error, without_slash} <= set(map(html.unescape, page))
  assert markup.latex(without_slash) in contents['table.tex']
  for content in contents.values():
    content.encode()
  assert list(pd.read_csv(io.StringIO(contents['table.csv'])).fault.dropna()) == [error]


def test_latex_escapes_every_special_character():
  assert markup.latex('\\ { } $ ~ ^ & % # _ ± < > |') == (
    '\\textbackslash{} \\{ \\} \\$ \\textasciitilde{} \\textasciicircum{} \\& \\% \\# \\_ $\\pm$ \\textless{} '
    '\\textgreater{} \\textbar{}'
  )
  table = markup.Table('t', '', ['a_b', '{'], [['1 ± 2', '$x']], best={(0, 0)})
  assert '\\textbf{1 $\\pm$ 2} & \\$x \\\\' in table.latex() and 'a\\_b & \\{ \\\\' in table.latex()


def test_latex_has_a_caption_and_aligns_numbers_at_the_decimal_point():
  scores = ['73.21 ± 0.45 (3)', '5.10 ± 10.45 (12); 1 failed', '100.00 (1)', '', '2 waiting', '1.0e-05']
  folds = ['73.20; 73.10 ± 0.45 (5 folds)', '9.00; 8.10 (1 fold)', '', '7.00; 6.10 ± 10.45 (2 folds)', '', '']
  lines = [['x', *row, str(10**i)] for i, row in enumerate(zip(scores, folds, strict=True))]
  text = markup.Table('Mean IoU', 'Percent.', ['lr', 'mean IoU', 'folds', 'n'], lines, best={(0, 1)}).latex()
  assert '\\caption{Mean IoU. Percent.}' in text and '\\begin{tabular}{lllr}' in text and '\\toprule' in text
  rows = [row.removesuffix(' \\\\').split(' & ') for row in text.splitlines() if row.startswith('x &')]
  for column in (1, 2):
    shown = [row[column].removeprefix('\\textbf{').replace('\\phantom{', '').replace('}', '') for row in rows]
    shown = [cell.replace('$\\pm$', '±') for cell in shown if re.match(r'[\d.]+(?:;| ±)', cell.replace('$\\pm$', '±'))]
    assert len(shown) == 3
    assert len({tuple(place for place, x in enumerate(cell.partition(' (')[0]) if x == '.') for cell in shown}) == 1
  assert '\\phantom{0}5.10 $\\pm$ 10.45 (12); 1 failed' in text.replace('\\phantom{00}', '\\phantom{0}')
  assert '& 2 waiting &' in text and '& 1.0e-05 &' in text


def test_markdown_keeps_underscores_inside_words():
  assert markup.markdown('bilinear_fixed _x_ x__y') == 'bilinear_fixed \\_x\\_ x\\_\\_y'


def test_a_scored_image_may_have_any_id(tmp_path):
  path = made.run(tmp_path, seed=0)
  scored = path / 'eval' / 'validation'
  (scored / 'day [1]').mkdir()
  for file in [file for file in scored.iterdir() if file.name.startswith('image 0.')]:
    file.rename(scored / 'day [1]' / file.name.replace('image 0', 'a*b'))
  with np.load(path / 'eval/validation.npz') as arrays:
    ids = ['day [1]/a*b' if name == 'image 0' else name for name in arrays['id']]
    (path / 'eval/validation.npz').write_bytes(files.npz(confusion=arrays['confusion'], id=ids))
  (scored / 'image 9.label.png').unlink()  # not shown, because it is not complete
  content = report.report(epath.Path(tmp_path))['index.html']
  assert 'alt="label of day [1]/a*b"' in content and 'image 9' not in content


def test_the_terminal_shows_names_as_they_are(tmp_path):
  made.run(tmp_path, classes=('[red]sky', '[/x]', ':cat:'), seed=0)
  done = tiny.run([sys.executable, '-m', 'fcn_jax.report', str(tmp_path)], env={'COLUMNS': '200'})
  assert done.returncode == 0, done.stderr
  assert all(name in done.stdout for name in ('[red]sky', '[/x]', ':cat:'))
