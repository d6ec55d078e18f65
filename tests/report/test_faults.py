"""A run with a fault is named with it, in every output, and the other runs are reported."""

import fcntl
import io
import json
import os
import shutil
import sys
import time

import made
import ordinary_user
import pandas as pd
import pytest
import tiny
from etils import epath

from fcn_jax import outputs
from fcn_jax.errors import UserError
from fcn_jax.report import __main__ as report

pytestmark = pytest.mark.usefixtures('without_plots')
FAULTY = 'stride=8,seed=0'


@pytest.fixture(scope='module')
def intact(tmp_path_factory):
  """Three strides, one seed each."""
  folder = tmp_path_factory.mktemp('reports') / 'intact'
  for stride, skill in ((32, 0.5), (16, 0.6), (8, 0.7)):
    made.run(folder, skill=skill, model__stride=stride, seed=0, model__upsample='learned_random')
  for path in list(folder.iterdir()):
    path.rename(folder / path.name.replace(',upsample=learned_random', ''))
  return folder


@pytest.fixture
def folder(intact, tmp_path):
  """A copy."""
  shutil.copytree(intact, tmp_path / 'runs')
  return tmp_path / 'runs'


def reported(folder, **options) -> dict:
  return report.report(epath.Path(folder), **options)


def check_named(contents: dict, state: str, fault: str, others: int = 2) -> None:
  """The faulty run is named with its state and fault in all outputs, and the other runs have their scores."""
  table = pd.read_csv(io.StringIO(contents['table.csv'])).set_index('run')
  assert table.state[FAULTY] == state and fault in table.fault[FAULTY], table.fault[FAULTY]
  assert table.drop(FAULTY).mean_iou.notna().sum() == others
  section = contents['table.md'].split('## Runs with faults')[1].split('\n## ')[0]
  assert f'* {FAULTY}: {state}: ' in section and fault.replace("'", '') in section.replace("'", '')
  assert '| 32 | 33.33 (1) |' in contents['table.md'].replace('*', '')
  assert f'<td>{state}</td>' in contents['index.html'] and FAULTY in contents['index.html']


def cut(path) -> None:
  path.write_bytes(path.read_bytes()[:-10])


def empty(path) -> None:
  path.write_bytes(b'')


def as_folder(path) -> None:
  path.unlink()
  path.mkdir()


def of_another_evaluation(path) -> None:
  scores = json.loads(path.read_text())
  path.write_text(json.dumps(scores | {'mean_iou': 0.1}))


DAMAGED = [
  ('status.json', empty, 'status.json is empty'),
  ('status.json', cut, 'status.json is damaged'),
  ('status.json', as_folder, 'status.json is a folder'),
  ('status.json', lambda path: path.write_text('{"state": "running", "time": "now"}'), 'status.json is damaged'),
  ('config.json', empty, 'config.json is empty'),
  ('config.json', as_folder, 'config.json is a folder'),
  ('config.json', os.unlink, 'config.json is missing, although there is a run'),
  ('eval/validation.json', cut, 'validation.json is damaged'),
  ('eval/validation.json', of_another_evaluation, 'are of different evaluations'),
  ('eval/validation.npz', empty, 'validation.npz is empty'),
  ('eval/validation.npz', cut, 'validation.npz is damaged'),
  ('eval/validation.npz', os.unlink, 'validation.npz is missing'),
]


@pytest.mark.parametrize(('name', 'change', 'fault'), DAMAGED)
def test_a_run_whose_scores_cannot_be_trusted_is_named_and_left_out(folder, name, change, fault):
  change(folder / FAULTY / name)
  contents = reported(folder)
  check_named(contents, 'damaged', fault)
  assert '2 of 3 runs are done (1 damaged).' in contents['table.md'] and '| stride 8 |' not in contents['table.md']


INCOMPLETE = [
  ('metrics.jsonl', empty, 'metrics.jsonl is empty'),
  ('metrics.jsonl', cut, 'metrics.jsonl is damaged: the last line'),
  ('metrics.jsonl', as_folder, 'metrics.jsonl is a folder'),
  ('timing.jsonl', os.unlink, 'timing.jsonl is missing'),
  ('env.json', cut, 'env.json is damaged'),
  ('env.json', lambda path: path.write_text('[{"data": "x", "devices": []}]'), 'env.json is damaged'),
  ('data.json', empty, 'data.json is empty'),
  ('data.json', lambda path: path.write_text(path.read_text().replace('70', '"<b>"')), 'data.json is damaged'),
  ('data.json', lambda path: path.write_text('{"inputs": {}, "heads": {}}'), 'data.json is damaged'),
  ('eval/network.json', os.unlink, 'network.json is missing'),
  (
    'eval/network.json',
    lambda path: path.write_text(path.read_text().replace('2.5', '"x"')),
    'network.json is damaged',
  ),
  ('eval/kernels.npz', empty, 'kernels.npz is empty'),
]


@pytest.mark.parametrize(('name', 'change', 'fault'), INCOMPLETE)
def test_a_run_with_intact_scores_counts_and_its_fault_is_named(folder, name, change, fault):
  change(folder / FAULTY / name)
  contents = reported(folder)
  check_named(contents, 'done', fault)
  text = contents['table.md']
  assert 'All 3 runs are done.' in text and '| 8 | **53.85 (1)** |' in text
  speed = next(line for line in text.split('## Cost')[1].splitlines() if line.startswith('| stride 8 |'))
  assert speed.split(' | ')[3:5] == (['', ''] if name == 'timing.jsonl' else ['40.0', '1.50'])


def test_without_plots_the_curves_skip_runs_without_rows(folder, monkeypatch):
  monkeypatch.undo()
  for path in folder.iterdir():
    (path / 'metrics.jsonl').unlink()
  assert reported(folder)['curves.png'].startswith(b'\x89PNG')


def test_a_run_that_may_not_be_read_is_named_with_the_reason(folder):
  for name in ('', 'config.json', 'eval', 'eval/validation.npz'):
    path = folder / FAULTY / name
    mode = path.stat().st_mode
    path.chmod(0)
    try:
      with ordinary_user.without_root():
        check_named(reported(folder), 'damaged', 'Permission denied')
    finally:
      path.chmod(mode)
  folder.chmod(0)
  try:
    with ordinary_user.without_root(), pytest.raises(UserError, match=r'cannot read .*: Permission denied'):
      reported(folder)
  finally:
    folder.chmod(0o755)


def test_scores_of_an_earlier_version_get_precision_and_f1_from_the_confusion_matrices(folder):
  expected = reported(folder, metric='mean_f1')
  for path in folder.glob('*/eval/*.json'):
    values = json.loads(path.read_text())
    for part in (values, *values.get('upper_bound', {}).values()):
      for name in ('mean_precision', 'mean_f1', 'precision', 'recall', 'f1', 'share'):
        part.pop(name, None)
    path.write_text(json.dumps(values))
  found = reported(folder, metric='mean_f1')
  assert found['table.csv'] == expected['table.csv'] and '| 8 | **70.00 (1)** |' in found['table.md']
  check = found['table.md'].split('## Precision, recall and F1 per class')[1]
  assert '| stride 8 | recall | 70.00 | 70.00 | 70.00 |' in check


def test_of_two_splits_the_one_of_most_runs_is_compared(folder):
  for ending in ('json', 'npz'):
    (folder / FAULTY / f'eval/validation.{ending}').rename(folder / FAULTY / f'eval/test.{ending}')
  check_named(reported(folder), 'unscored', 'there are no scores of the last checkpoint on validation; run python -m')
  for stride in (32, 16):
    for ending in ('json', 'npz'):
      evaluated = folder / f'stride={stride},seed=0' / 'eval'
      shutil.copy(evaluated / f'validation.{ending}', evaluated / f'test.{ending}')
  assert 'All 3 runs are done' in reported(folder)['table.md']


def test_other_images_labels_classes_and_data_sets_are_named(folder):
  shutil.rmtree(folder / FAULTY)
  for change, fault in (
    ({'images': 9}, 'its scores are of other images or labels than the tables'),
    ({'classes': ('sky', 'tree', 'car')}, 'its classes are sky, tree, car; the tables have sky, tree, road'),
    ({'data': 'stanford_background'}, 'its data set is stanford_background; the tables are of scenes'),
  ):
    path = made.run(folder, model__stride=8, seed=0, **change)
    if 'data' in change:
      for ending in ('json', 'npz'):
        (path / f'eval/test.{ending}').rename(path / f'eval/validation.{ending}')
    check_named(reported(folder), 'incomparable', fault)
    shutil.rmtree(path)


def test_a_second_run_of_a_network_and_seed_is_a_duplicate(folder):
  shutil.copytree(folder / 'stride=32,seed=0', folder / 'stride=64,seed=0')
  contents = reported(folder)
  table = pd.read_csv(io.StringIO(contents['table.csv'])).set_index('run')
  assert table.state['stride=64,seed=0'] == 'duplicate' and '33.33 (1); 1 duplicate' in contents['table.md']
  assert 'has the settings and the seed of stride=32,seed=0, which counts' in contents['table.md']


def test_a_run_whose_process_is_gone_is_stopped(folder):
  status = {'state': 'running', 'step': 12, 'steps': 20, 'time': time.time() - 3 * 3600}
  (folder / FAULTY / 'status.json').write_text(json.dumps(status))
  check_named(reported(folder), 'stopped', 'it stopped at step 12 of 20, 3.0 h ago')
  held = os.open(folder / FAULTY, os.O_RDONLY)
  try:
    fcntl.flock(held, fcntl.LOCK_EX)
    assert '2 of 3 runs are done (1 running).' in reported(folder)['table.md']
  finally:
    os.close(held)


def test_the_best_checkpoint_has_its_files(folder):
  for path in folder.iterdir():
    for name in ('validation.json', 'validation.npz', 'network.json', 'kernels.npz') if path.name != FAULTY else ():
      stem, ending = name.split('.')
      shutil.move(path / 'eval' / name, path / 'eval' / f'{stem}.best.{ending}')
    if path.name != FAULTY:
      (path / 'eval/validation').rename(path / 'eval/validation.best')
  contents = reported(folder, checkpoint='best')
  check_named(contents, 'unscored', '--split=validation --checkpoint=best')
  assert 'Sample predictions' in contents['index.html'] and '| stride 32, ' not in contents['table.md']
  with pytest.raises(UserError, match='there are no scores of the best checkpoint'):
    shutil.rmtree(folder / 'stride=16,seed=0')
    shutil.rmtree(folder / 'stride=32,seed=0')
    reported(folder, checkpoint='best')


def test_a_damaged_list_of_a_sweep_is_a_warning(folder, caplog):
  (folder / 'sweep.json').write_text('{')
  assert 'All 3 runs are done.' in reported(folder)['table.md']
  assert 'sweep.json is damaged' in caplog.text


def test_a_file_of_a_user_is_not_replaced(folder):
  contents = reported(folder)
  report.write(epath.Path(folder / 'report'), contents)
  report.write(epath.Path(folder / 'report'), contents)
  (folder / 'mine').mkdir()
  (folder / 'mine' / 'table.tex').write_text('mine')
  with pytest.raises(UserError, match='would be overwritten'):
    report.write(epath.Path(folder / 'mine'), contents)
  assert [path.name for path in (folder / 'mine').iterdir()] == ['table.tex']
  assert (folder / 'report' / outputs.LIST).exists()


def test_the_command_shows_faults_and_tables_before_it_writes(folder):
  (folder / FAULTY / 'status.json').write_text(json.dumps({'state': 'failed', 'step': 1, 'error': 'no [/x] :cat: *y*'}))
  folder.chmod(0o555)
  command = ordinary_user.command(sys.executable, '-m', 'fcn_jax.report', str(folder))
  done = tiny.run(command, env={'COLUMNS': '300'})
  folder.chmod(0o755)
  assert done.returncode == 0, done.stderr
  printed = done.stdout.index('no [/x] :cat: *y*'), done.stdout.index('Mean IoU'), done.stdout.index('not written')
  assert printed == tuple(sorted(printed)) and '--out=DIR' in done.stdout and 'Permission denied' in done.stdout


def test_a_run_whose_status_is_gone_is_named_with_the_file(folder):
  (folder / FAULTY / 'status.json').unlink()
  section = reported(folder)['table.md'].split('## Runs with faults')[1]
  assert f'* {FAULTY}: stopped: ' in section and 'status.json is missing; run the command that trains' in section
