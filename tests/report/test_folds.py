"""Reports on a cross-validation: the folds of a network are combined, and compared within each fold."""

import io

import made
import numpy as np
import pandas as pd
import pytest
from etils import epath

from fcn_jax import metrics
from fcn_jax.report import __main__ as report
from fcn_jax.report import bootstrap, comparison, differences, results, tables

pytestmark = pytest.mark.usefixtures('without_plots')
IMAGES = {0: 4, 1: 6, 2: 10}


def skill(stride, fold, seed):
  return 0.9 - stride / 100 + 0.05 * fold + 0.01 * seed


def make(folder, runs, **more):
  """Runs of Stanford Background with a stride, a fold and a seed each."""
  for stride, fold, seed in runs:
    settings = {'data': 'stanford_background', 'model__stride': stride, 'data__fold': fold, 'seed': seed} | more
    made.run(folder, skill=skill(stride, fold, seed), images=IMAGES[fold], **settings)


def every(strides=(32, 16), folds=(0, 1, 2), seeds=(0, 1)):
  return [(stride, fold, seed) for stride in strides for fold in folds for seed in seeds]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('reports') / 'folds'
  make(path, every())
  return epath.Path(path)


@pytest.fixture(scope='module')
def contents(folder):
  return report.report(folder)


def accuracy(stride, fold, seed):
  return 100 * round(1000 * skill(stride, fold, seed)) / 1000


def pooled(stride, seed, folds=IMAGES):
  """Pixel accuracy over the pixels of the folds; each image has equally many pixels."""
  return np.average([accuracy(stride, fold, seed) for fold in folds], weights=[IMAGES[fold] for fold in folds])


def line_of(text: str, start: str) -> list[str]:
  (line,) = (line for line in text.splitlines() if line.startswith(f'| {start} |'))
  return line.strip('| ').split(' | ')


def test_a_cell_has_the_score_of_all_pixels_and_the_mean_and_spread_of_the_folds(folder):
  text = report.report(folder, metric='pixel_accuracy')['table.md']
  for stride in (32, 16):
    of_folds = [np.mean([accuracy(stride, fold, seed) for seed in (0, 1)]) for fold in IMAGES]
    together = np.mean([pooled(stride, seed) for seed in (0, 1)])
    expected = f'{together:.2f}; {np.mean(of_folds):.2f} ± {np.std(of_folds, ddof=1):.2f} (3 folds, 2 seeds each)'
    assert f'| {stride} | {expected} |' in text.replace('*', '')
  assert 'All 12 runs are done' in text and '20 images of test in 3 folds' in text


def test_every_note_says_what_was_done_with_the_folds(contents):
  text = contents['table.md']
  assert text.count('the score of the pixels of all folds together') == 2  # the first table, and that of all metrics
  assert 'Resamples are drawn within each fold' in text and 'The pixels of all folds are counted together.' in text
  assert 'mean over seeds and folds' in text and '(with predictions' not in text
  assert 'Published numbers are means over 5 folds; the numbers of this report are of 3 folds.' in text
  assert 'of the first run on fold 0' in contents['index.html']


def test_classes_are_scored_over_the_pixels_of_all_folds(folder, contents):
  runs = [run for run in results.read(folder) if run.settings['model.stride'] == 16]
  both = [
    metrics.summarize(sum(run.confusion.sum(0) for run in runs if run.seed == seed), made.CLASSES) for seed in (0, 1)
  ]
  shown = f'{100 * np.mean([scores["iou"]["tree"] for scores in both]):.2f}'
  section = contents['table.md'].split('## IoU per class')[1]
  assert line_of(section.split('##')[0], 'stride 16')[2].replace('*', '').startswith(f'{shown} (')


def test_differences_are_taken_within_folds_and_averaged(folder):
  runs, selecting = comparison.compare(results.read(folder))
  assert selecting == ['data.fold']
  folds = tables.folds_of(runs)
  assert folds == ['fold 0', 'fold 1', 'fold 2']
  (found,) = differences.between(comparison.by_values(runs, ['model.stride']), ['model.stride'], folds)
  by_fold = {}
  for run in runs:
    by_fold.setdefault(run.fold, {}).setdefault(run.settings['model.stride'], []).append(run)
  expected, drawn = [], []
  for number, fold in enumerate(folds):
    a, b = (
      bootstrap.resample(np.stack([run.confusion for run in by_fold[fold][stride]]), seed=number) for stride in (16, 32)
    )
    each = bootstrap.difference(b, a, paired_seeds=True, over_seeds=True, seed=number)
    expected.append(100 * (b.iou.mean() - a.iou.mean()))
    drawn.append(100 * each.drawn)
  low, high = np.percentile(np.mean(drawn, axis=0), (2.5, 97.5))
  assert (found.first, found.second, found.over_seeds, found.folds) == ('stride 16', 'stride 32', True, folds)
  assert found.value == pytest.approx(np.mean(expected)) and found.spread == pytest.approx(np.std(expected, ddof=1))
  assert (found.low, found.high) == pytest.approx((low, high))


def test_folds_form_rows_or_columns_on_request(folder):
  text = report.report(folder, ['data.fold'], metric='pixel_accuracy')['table.md']
  assert '| fold | stride 16 | stride 32 |' in text
  values = [np.mean([accuracy(16, 1, seed) for seed in (0, 1)]), np.std([accuracy(16, 1, s) for s in (0, 1)], ddof=1)]
  assert line_of(text, '1')[1] == '{:.2f} ± {:.2f} (2)'.format(*values)
  # The best score would be that of the easiest images.
  assert '**' not in text.split('## Pixel accuracy')[1].split('##')[0]
  assert (
    '| stride 16 | 3 folds, 2 seeds each |' in text.split('## All metrics')[1]
  )  # the other tables combine the folds
  text = report.report(folder, ['model.stride'], ['data.fold'])['table.md']
  assert '| stride | fold 0 | fold 1 | fold 2 |' in text


def test_a_missing_fold_is_named_and_its_network_is_not_the_best(tmp_path):
  make(tmp_path, [*every(strides=(32,), seeds=(0,)), (16, 1, 0), (16, 2, 0)])
  text = report.report(epath.Path(tmp_path))['table.md']
  first = text.split('## Mean IoU')[1].split('##')[0]
  assert '(2 folds); without fold 0 |' in first and '| **' not in first.split('| 16 |')[1] and '| 32 | ' in first
  assert text.count('These networks lack folds: stride 16: fold 0.') == 4
  (line,) = (line for line in text.splitlines() if line.startswith('| stride') and 'images only' in line)
  assert line.endswith('| 2, without fold 0 |')  # the pair is compared in the folds that both have


def test_a_fold_that_is_not_done_is_named_with_its_state(tmp_path):
  make(tmp_path, every(strides=(16,), folds=(0, 1), seeds=(0,)))
  make(tmp_path, [(16, 2, 0)], state='failed')
  text = report.report(epath.Path(tmp_path))['table.md']
  assert '(2 folds); without fold 2; 1 failed |' in text


def test_folds_with_different_seeds_use_every_run(tmp_path):
  make(tmp_path, [(16, 0, 0), (16, 0, 1), (16, 1, 7)])
  text = report.report(epath.Path(tmp_path), metric='pixel_accuracy')['table.md']
  together = np.mean([np.average([accuracy(16, 0, s), accuracy(16, 1, 7)], weights=(4, 6)) for s in (0, 1)])
  assert f'{together:.2f}; ' in text and '(2 folds, 1 to 2 seeds each)' in text


def test_networks_without_a_common_fold_have_no_difference(tmp_path):
  make(tmp_path, [(16, 0, 0), (32, 1, 0)])
  text = report.report(epath.Path(tmp_path))['table.md']
  assert (
    '## Differences' not in text
    and 'no network has all folds' in text
    and 'without fold 1' in text
    and 'without fold 0' in text
  )


def test_a_setting_that_does_not_change_the_scored_images_is_no_fold(tmp_path):
  for fraction in (0.0, 0.2):
    make(tmp_path, [(16, 0, 0)], data__val_fraction=fraction)
  runs, selecting = comparison.compare(results.read(epath.Path(tmp_path)))
  assert selecting == [] and comparison.varying(runs) == ['data.val_fraction'] and {run.fold for run in runs} == {''}


def test_the_csv_has_one_row_per_run_with_its_fold(contents):
  table = pd.read_csv(io.StringIO(contents['table.csv']))
  assert len(table) == 12 and set(table['data.fold']) == {0, 1, 2}
