"""Tables from run directories: what counts, what is refused, what is said."""

import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tiny
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import metrics, report, results, runlog, scoring
from fcn_jax.errors import UserError

CLASSES = ('sky', 'tree', 'road')


def make_run(folder, *, skill=0.7, state='done', ids=10, **settings):
  """A run directory; a share `skill` of every class's pixels is right. Settings have __ for the dot."""
  config = config_lib.default('scenes')
  config.update_from_flattened_dict({name.replace('__', '.'): x for name, x in settings.items()})
  name = ','.join(f'{n.rpartition("__")[2]}={x}' for n, x in settings.items())
  path = epath.Path(folder) / name
  runlog.write_config(path, config)
  right = round(1000 * skill)
  matrix = np.eye(3, dtype=np.int64) * right + np.roll(np.eye(3, dtype=np.int64), 1, axis=1) * (1000 - right)
  matrices = np.tile(matrix, (ids, 1, 1))
  scoring.write(path, 'validation', metrics.summarize(matrix, CLASSES), matrices, [str(i) for i in range(ids)])
  runlog.write(path / 'timing.jsonl', json.dumps({'step': 5, 'images_per_second': 40.0, 'peak_memory_gib': 1.5}))
  runlog.write_json(path / 'status.json', {'state': state, 'step': 5, 'wall_seconds': 90.0})
  return path


@pytest.fixture
def ablation(tmp_path):
  """Two strides by two ways of upsampling, two seeds; a run that failed, one that goes on, one that has not begun."""
  not_done = {(32, 'learned_random', 1): 'failed', (16, 'learned_random', 0): 'running'}
  for stride, better in ((32, 0), (16, 0.1)):
    for upsample, worse in (('bilinear_fixed', 0), ('learned_random', 0.02)):
      for seed in (0, 1):
        state = not_done.get((stride, upsample, seed), 'done')
        settings = {'model__stride': stride, 'model__upsample': upsample, 'seed': seed}
        make_run(tmp_path, skill=0.7 + better - worse + 0.01 * seed, state=state, **settings)
  names = sorted(path.name for path in tmp_path.iterdir())
  runlog.write_json(epath.Path(tmp_path) / 'sweep.json', {'runs': [*names, 'stride=16,upsample=x,seed=2']})
  return tmp_path


def run(*arguments):
  return tiny.run([sys.executable, '-m', 'fcn_jax.report', *map(str, arguments)])


def iou(skill):
  return 100 * skill / (2 - skill)


def test_a_table_has_means_spread_and_counts_and_says_what_is_missing(ablation):
  done = run(ablation)
  assert (done.returncode, done.stderr) == (0, '')
  text = (ablation / 'report' / 'table.md').read_text()
  assert 'Of 9 runs 6 are done: 1 running, 1 failed, 1 missing.' in text
  fixed_32 = f'{(iou(0.7) + iou(0.71)) / 2:.2f} ± {abs(iou(0.7) - iou(0.71)) / 2**0.5:.2f} (2)'
  fixed_16 = f'{(iou(0.8) + iou(0.81)) / 2:.2f} ± {abs(iou(0.8) - iou(0.81)) / 2**0.5:.2f} (2)'
  lines = text.splitlines()
  start = lines.index('| stride | upsample bilinear_fixed | upsample learned_random |')
  assert set(lines[start + 2 : start + 4]) == {
    f'| 32 | {fixed_32} | {iou(0.68):.2f} (1); 1 failed |',
    f'| 16 | **{fixed_16}** | {iou(0.79):.2f} (1); 1 running |',
  }
  assert '| 16 | bilinear_fixed | 40.0 | 1.50 | 1.5 |' in lines


def test_the_csv_has_a_row_a_run_with_all_that_varies(ablation):
  run(ablation)
  table = pd.read_csv(ablation / 'report' / 'table.csv')
  assert len(table) == 9
  assert {'run', 'state', 'model.stride', 'model.upsample', 'seed', 'mean_iou', 'iou/sky', 'minutes'} <= set(table)
  row = table[(table['model.stride'] == 16) & (table['model.upsample'] == 'bilinear_fixed') & (table.seed == 1)].iloc[0]
  assert row.mean_iou == pytest.approx(iou(0.81) / 100) and row.minutes == 1.5
  assert table[table.state != 'done'].mean_iou.isna().all()


def test_rows_columns_and_metric_are_as_asked(ablation):
  done = run(ablation, '--rows=model.upsample', '--cols=model.stride', '--metric=pixel_accuracy')
  assert done.returncode == 0
  text = (ablation / 'report' / 'table.md').read_text()
  assert '| upsample | stride 16 | stride 32 |' in text and 'pixel accuracy in per cent' in text
  assert f'{80.5:.2f} ± {0.71:.2f} (2)' in text
  latex = (ablation / 'report' / 'table.tex').read_text()
  assert 'bilinear\\_fixed & ' in latex and '\\textbf{80.50 $\\pm$ 0.71 (2)}' in latex


def test_differences_have_intervals(ablation):
  run(ablation)
  text = (ablation / 'report' / 'table.md').read_text()
  (line,) = (line for line in text.splitlines() if line.startswith('| stride 32, upsample bilinear_fixed | '))
  assert 'minus that of stride 16, upsample bilinear_fixed; paired bootstrap over 10 pictures' in text
  shown = (iou(0.7) + iou(0.71) - iou(0.8) - iou(0.81)) / 2
  assert f'| {shown:+.2f} |' in line


def test_a_setting_that_varies_and_is_not_named_is_refused(ablation):
  done = run(ablation, '--rows=model.stride', '--cols=seed')
  assert done.returncode == 1 and done.stderr.count('\n') == 1
  assert (
    'model.upsample varies between these runs' in done.stderr and '--rows=model.stride,model.upsample' in done.stderr
  )
  assert not (ablation / 'report').exists()


def test_two_runs_of_one_seed_are_refused(tmp_path):
  make_run(tmp_path, seed=0)
  first = make_run(tmp_path, seed=1)
  subprocess.run(['cp', '-r', str(first), f'{tmp_path}/copy'], check=True)
  done = run(tmp_path)
  assert done.returncode == 1 and 'copy' in done.stderr and 'share a seed' in done.stderr


def test_stages_are_told_apart_by_what_they_start_from_but_not_by_its_seed(tmp_path):
  for seed in (0, 1):
    make_run(tmp_path, seed=seed, model__stride=16)
    make_run(tmp_path, seed=seed, model__stride=16, init__run=f'runs+x+stride=32,seed={seed}')
  runs = results.read(epath.Path(tmp_path))
  assert results.varying(runs) == ['init.run']
  assert {run.settings['init.run'] for run in runs} == {'', 'runs+x+stride=32'}
  assert sorted(map(len, report.grouped(runs, ['init.run']).values())) == [2, 2]


@pytest.mark.parametrize(
  ('make', 'sentence'),
  [
    (lambda folder: None, 'holds no run; expected folders with a config.json'),
    (lambda folder: folder.rmdir(), 'there is no folder'),
    (lambda folder: (make_run(folder, seed=0) / 'status.json').write_text('{"state": "do'), 'is damaged'),
    (lambda folder: (make_run(folder, seed=0) / 'config.json').write_text('{'), 'config.json is damaged'),
    (lambda folder: (make_run(folder, seed=0) / 'eval/validation.json').unlink(), 'is done, but has no scores'),
  ],
  ids=['empty', 'none', 'half a status', 'half a config', 'no scores'],
)
def test_a_folder_that_is_no_sweep_is_one_sentence(tmp_path, make, sentence):
  folder = tmp_path / 'runs'
  folder.mkdir()
  make(folder)
  done = run(folder)
  assert done.returncode == 1 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
  assert sentence in done.stderr and not (folder / 'report').exists()


def test_runs_scored_on_other_pictures_are_not_compared(tmp_path):
  make_run(tmp_path, model__stride=32)
  make_run(tmp_path, model__stride=16, ids=9)
  runs = results.read(epath.Path(tmp_path))
  with pytest.raises(UserError, match='not scored on the same pictures'):
    report.differences(report.grouped(runs, ['model.stride']), ['model.stride'])


def test_one_run_is_a_table_too(tmp_path):
  make_run(tmp_path, seed=0)
  done = run(tmp_path)
  assert done.returncode == 0, done.stderr
  text = (tmp_path / 'report' / 'table.md').read_text()
  assert f'| {iou(0.7):.2f} (1) |' in text and 'No differences' in text
  assert len(pd.read_csv(io.StringIO((tmp_path / 'report' / 'table.csv').read_text()))) == 1
