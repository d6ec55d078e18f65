"""Tables from run directories: which runs count, the numbers, the texts and the errors."""

import io
import os
import re
import shlex
import sys
import urllib.parse

import made
import pandas as pd
import pytest
import tiny
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files, outputs
from fcn_jax.errors import UserError
from fcn_jax.report import __main__ as report
from fcn_jax.report import comparison, markup, results
from fcn_jax.run import identity


@pytest.fixture(scope='module')
def ablation(tmp_path_factory):
  """Two strides, two kinds of upsampling, two seeds; one run failed, one is preempted, one has not started."""
  folder = tmp_path_factory.mktemp('reports') / 'ablation'
  not_done = {(32, 'learned_random', 1): 'failed', (16, 'learned_random', 0): 'preempted'}
  for stride, better in ((32, 0), (16, 0.1)):
    for upsample, worse in (('bilinear_fixed', 0), ('learned_random', 0.02)):
      for seed in (0, 1):
        state = not_done.get((stride, upsample, seed), 'done')
        settings = {'model__stride': stride, 'model__upsample': upsample, 'seed': seed}
        made.run(folder, skill=0.7 + better - worse + 0.01 * seed, state=state, **settings)
  points = {
    path.name: {'model.stride': 0, 'model.upsample': 'not read: the run has a config'}
    for path in sorted(folder.iterdir())
  }
  points['stride=16,upsample=bilinear_fixed,seed=2'] = {
    'model.stride': 16,
    'model.upsample': 'bilinear_fixed',
    'seed': 2,
  }
  config = identity.plain(config_lib.default('scenes'))
  files.write_json(epath.Path(folder) / 'sweep.json', {'experiment': 'x.py', 'config': config, 'runs': points})
  return folder


@pytest.fixture(scope='module')
def contents(ablation):
  """The files of its report."""
  return report.report(epath.Path(ablation))


def run(*arguments):
  return tiny.run([sys.executable, '-m', 'fcn_jax.report', *map(str, arguments)])


def table(folder, *arguments, **options) -> str:
  """The text of a report's `table.md`."""
  return report.report(epath.Path(folder), *arguments, **options)['table.md']


def iou(skill):
  return 100 * skill / (2 - skill)


def test_the_command_prints_the_tables_and_writes_all_files(ablation, contents):
  done = run(ablation)
  assert (done.returncode, done.stderr) == (0, '')
  assert '6 of 9 runs are done' in done.stdout and f'written to {ablation}/report' in done.stdout
  written = {path.name for path in (ablation / 'report').iterdir()}
  expected = {
    'table.md',
    'table.tex',
    'table.csv',
    'curves.png',
    'intervals.png',
    'confusion.png',
    'kernels.png',
    'index.html',
  }
  pages = {name for name in contents if name.startswith('runs/')}
  assert written - {outputs.LIST} == {*expected, 'runs'} and set(contents) == expected | pages
  best = ablation / 'stride=16,upsample=bilinear_fixed,seed=1'
  image = shlex.quote(f'{best}/eval/validation/image 0.image.jpg')  # one that the run keeps
  assert done.stdout.endswith(
    f'next:\n  python -m fcn_jax.report {best}\n  python -m fcn_jax.predict --workdir={best} {image}\n'
  )
  assert (ablation / 'report' / 'table.md').read_text() == contents['table.md']


def test_a_table_has_means_deviations_and_counts_and_marks_unfinished_runs(contents):
  text = contents['table.md']
  assert '6 of 9 runs are done (1 preempted, 1 failed, 1 waiting).' in text
  assert 'Other runs are marked and excluded.' in text
  fixed_32 = f'{(iou(0.7) + iou(0.71)) / 2:.2f} ± {abs(iou(0.7) - iou(0.71)) / 2**0.5:.2f} (2)'
  fixed_16 = f'{(iou(0.8) + iou(0.81)) / 2:.2f} ± {abs(iou(0.8) - iou(0.81)) / 2**0.5:.2f} (2)'
  lines = text.splitlines()
  start = lines.index('| stride | upsample bilinear_fixed | upsample learned_random |')
  assert set(lines[start + 2 : start + 4]) == {
    f'| 32 | {fixed_32} | {iou(0.68):.2f} (1); 1 failed |',
    f'| 16 | **{fixed_16}; 1 waiting** | {iou(0.79):.2f} (1); 1 preempted |',
  }
  assert '| stride 16, upsample bilinear_fixed | 1.23 | 2.50 | 40.0 | 1.50 | 1.5 |' in lines


def test_the_csv_has_one_row_per_run_with_every_varying_setting(contents):
  table = pd.read_csv(io.StringIO(contents['table.csv']))
  assert len(table) == 9
  named = {
    'run',
    'state',
    'model.stride',
    'model.upsample',
    'seed',
    'mean_iou',
    'iou/sky',
    'recall/sky',
    'mean_f1',
    'minutes',
    'parameters',
  }
  assert named | {'mean_iou_within_16_px'} <= set(table)
  row = table[(table['model.stride'] == 16) & (table['model.upsample'] == 'bilinear_fixed') & (table.seed == 1)].iloc[0]
  assert row.mean_iou == pytest.approx(iou(0.81) / 100, abs=1e-6) and row.minutes == 1.5
  assert table[table.state != 'done'].mean_iou.isna().all()


def test_rows_columns_metric_and_folder_follow_the_flags(ablation, tmp_path):
  flags = ['--rows=model.upsample', '--cols=model.stride', '--metric=mean_f1']
  done = run(ablation, *flags, f'--out={tmp_path}/other')
  assert done.returncode == 0
  text = (tmp_path / 'other' / 'table.md').read_text()
  assert '| upsample | stride 16 | stride 32 |' in text and '## Mean F1' in text
  assert f'{80.5:.2f} ± {0.71:.2f} (2)' in text
  latex = (tmp_path / 'other' / 'table.tex').read_text()
  assert 'bilinear\\_fixed & ' in latex and '\\textbf{80.50 $\\pm$ 0.71 (2); 1 waiting}' in latex


def test_differences_compare_networks_that_differ_in_one_setting(contents):
  text = contents['table.md']
  assert 'paired bootstrap over 10 images and, if both networks have several seeds, over the seeds' in text
  main, of_pairs = (
    [line.strip('| ').split(' | ') for line in part.splitlines() if ' to ' in line and line.startswith('| ')]
    for part in text.split('Differences in mean IoU')[1].split('## All metrics')[0].split('<details>')
  )
  assert [(first, second, others) for first, second, *_, others in main] == [
    ('stride 16', 'stride 32', 'mean of 2 combinations'),
    ('upsample bilinear_fixed', 'upsample learned_random', 'mean of 2 combinations'),
  ]
  fixed, random = ('upsample bilinear_fixed', 'upsample learned_random')
  pairs = {(first, second, others): float(value) for first, second, value, *_, others in of_pairs}
  strides = ('stride 16', 'stride 32')
  assert set(pairs) == {(*strides, fixed), (*strides, random), *((fixed, random, stride) for stride in strides)}
  shown = (iou(0.7) + iou(0.71) - iou(0.8) - iou(0.81)) / 2
  assert pairs[*strides, fixed] == pytest.approx(shown, abs=0.006)


def test_the_text_has_upper_bounds_bands_kernels_and_the_hardware(contents):
  text = contents['table.md']
  assert '| upper bound, stride 32 px | 68.00 | 68.00 | 68.00 | 68.00 |' in text
  assert '| upper bound, stride 16 px | 84.00 |' in text
  assert '| network | 1 px | 2 px | 4 px | 8 px | 16 px | everywhere |' in text
  assert '| stride 16, upsample learned_random | 16x, upsample_to_1 | ' in text
  assert '| data | made/1.0.0 0123 |' in text and '| scored | 10 images of validation, last checkpoint |' in text
  assert '| hardware per run | 1 CPU device |' in text and '| training time | 9 min for 6 runs |' in text
  assert '| network | pixel accuracy | mean accuracy | mean IoU | fw IoU |' in text
  assert '## Published' not in text  # nobody else has results on this data set


def test_strides_are_given_in_pixels_where_the_images_are_shrunk(tmp_path):
  for stride in (16, 8):
    made.run(tmp_path, model__stride=stride, model__shrink=2, model__upsample='bilinear_learned')
  found = report.report(epath.Path(tmp_path))
  text = found['table.md']
  assert '| 8 (16 px) | ' in text and '| stride 8 (16 px) | 1.23 ' in text
  assert '| upper bound, stride 32 px | 68.00 |' in text and '| upper bound, stride 16 px | 84.00 |' in text
  assert '| stride 16 (32 px) | 32x, upsample_to_1 | ' in text
  assert 'stride 16 (32 px)' in found['index.html']
  assert list(pd.read_csv(io.StringIO(found['table.csv'])).stride_px) == [16, 32]  # sorted by name


def test_a_row_of_several_strides_in_pixels_lists_them_all(tmp_path):
  for shrink in (1, 2):
    made.run(tmp_path, model__stride=8, model__shrink=shrink)
  runs = results.read(epath.Path(tmp_path))
  assert comparison.texts(['model.stride'], (8,), runs) == ['8 (8 or 16 px)']
  assert comparison.texts(['model.stride'], (8,), runs[:1]) == ['8']


def test_published_results_are_listed(tmp_path):
  made.run(tmp_path, data='stanford_background', seed=0)
  text = table(tmp_path)
  assert 'Published numbers are means over 5 folds; the numbers of this report are of one fold.' in text
  assert '| ConvNet, three scales | Farabet et al. 2013 | 78.8 | 72.4 |  |  |' in text


def test_without_finished_runs_there_is_a_table_of_their_states(tmp_path):
  made.run(tmp_path, state='failed', seed=0)
  found = report.report(epath.Path(tmp_path))
  assert '0 of 1 runs are done (1 failed).' in found['table.md'] and '| 1 failed |' in found['table.md']
  assert 'curves.png' not in found and 'index.html' in found


def test_averaging_over_a_varying_setting_is_an_error(ablation):
  with pytest.raises(UserError, match=r'model.upsample varies between these runs.*--rows=model.stride,model.upsample'):
    table(ablation, ['model.stride'], ['seed'])


def test_runs_are_distinguished_by_the_run_they_start_from_but_not_by_its_seed(tmp_path):
  for seed in (0, 1):
    made.run(tmp_path, seed=seed, model__stride=16)
    made.run(tmp_path, seed=seed, model__stride=16, init__run=f'runs+x+stride=32,seed={seed}')
  runs = results.read(epath.Path(tmp_path))
  assert comparison.varying(runs) == ['init.run']
  assert {run.settings['init.run'] for run in runs} == {'', 'runs+x+stride=32'}
  assert sorted(map(len, comparison.by_values(runs, ['init.run']).values())) == [2, 2]


def test_without_a_run_that_can_be_read_the_command_ends_with_one_sentence(tmp_path):
  folder = tmp_path / 'runs'
  with pytest.raises(UserError, match='there is no folder'):
    table(folder)
  folder.mkdir()
  with pytest.raises(UserError, match=r'holds no run; expected folders with a config\.json'):
    table(folder)
  path = made.run(folder, seed=0)
  (path / 'status.json').write_text('{"state": "do')
  done = run(folder)
  assert done.returncode == 1 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
  assert f'{path}/status.json is damaged' in done.stderr and not (folder / 'report').exists()


def test_runs_of_any_folders_are_compared_and_a_run_alone_has_a_report(tmp_path, without_plots, monkeypatch):
  paths = [made.run(tmp_path / str(stride), model__stride=stride, seed=0) for stride in (32, 8)]
  folder, only = results.locate(paths)
  text = report.report(folder, only=only)['table.md']
  assert folder == epath.Path(tmp_path) and only == ['32/stride=32,seed=0', '8/stride=8,seed=0']
  assert '# 2 runs of ' in text and 'Not decided: stride 32 has the highest mean IoU' in text
  assert results.locate([tmp_path / '32', paths[1]]) == (folder, only)  # a folder of runs and a run
  alone, name = results.locate(paths[:1])
  text = report.report(alone, only=name)['table.md']
  assert text.startswith('# stride=32,seed=0\n') and 'The network has 53.8 % mean IoU (1 run).' in text
  assert results.locate([epath.Path(tmp_path)]) == (tmp_path, [])
  monkeypatch.chdir(tmp_path)
  near = [epath.Path(os.path.relpath(path)) for path in paths]
  assert results.locate(near) == (epath.Path('.'), only)
  assert results.locate(near[:1]) == (epath.Path('32'), name)


def test_no_two_columns_share_a_heading_and_long_tables_are_folded(contents):
  heads = re.findall(r'^(\| .* \|)\n\| ---', contents['table.md'], re.MULTILINE)
  columns = [head.strip('| ').split(' | ') for head in heads]
  assert len(heads) > 9 and all(len(set(names)) == len(names) for names in columns)
  terminal = markup.unfolded(contents['table.md'])
  assert 'Differences in mean IoU' in terminal and 'Differences of pairs' not in terminal and '## Cost' in terminal


def test_each_run_that_is_done_has_a_page_that_its_name_links_to(ablation, contents):
  pages = {name for name in contents if name.startswith('runs/')}
  links = re.findall(r'<a href="(runs/[^"]*)">([^<]*)</a>', contents['index.html'])
  assert {urllib.parse.unquote(link) for link, _ in links} == pages and len(pages) == 6
  for link, name in links:
    page = contents[urllib.parse.unquote(link)]
    assert f'<h1>{name}</h1>' in page and 'Sample predictions' in page and 'Not decided' not in page
    assert 'data:image/svg' not in page and 'runs/' not in re.findall('href="([^"]*)"', page)


def test_a_run_whose_name_is_not_text_has_a_page(tmp_path, without_plots):
  for seed in (0, 1):
    path = made.run(tmp_path, seed=seed)
  path.rename(tmp_path / os.fsdecode(b'bad\xff'))
  contents = report.report(epath.Path(tmp_path))
  assert 'href="runs/bad%FF.html"' in contents['index.html']
  report.write(epath.Path(tmp_path) / 'report', contents)
  assert (tmp_path / 'report' / 'runs' / os.fsdecode(b'bad\xff.html')).exists()


def test_warnings_of_runs_are_shown_and_the_answer_points_to_them(tmp_path, without_plots):
  for seed in (0, 1):
    path = made.run(tmp_path, seed=seed)
  status = files.read_json(path / 'status.json', {}, '')
  files.write_json(path / 'status.json', status | {'warnings': ['step 10: the network overfits', 'never learned: sky']})
  text = table(tmp_path)
  assert 'All 2 runs are done. 1 of 2 runs has warnings: see "Warnings of runs".' in text
  assert '* seed=1: step 10: the network overfits\n* seed=1: never learned: sky\n' in text
  assert 'The run is done. It has warnings' in table(tmp_path, only=['seed=1'])
  assert 'Warnings of runs' not in table(tmp_path, only=['seed=0'])


def test_a_single_run_makes_a_report(tmp_path):
  made.run(tmp_path, seed=0)
  found = report.report(epath.Path(tmp_path))
  text = found['table.md']
  assert '| model fcn, backbone vgg16, stride 8 |' in text and not any(name.startswith('runs/') for name in found)
  assert f'| {iou(0.7):.2f} (1) |' in text and 'The run is done.' in text and '## Differences' not in text
  assert len(pd.read_csv(io.StringIO(found['table.csv']))) == 1
