"""The sentences that answer what the runs show: what is best, what is not decided, and what is missing."""

import itertools

import made
import pytest
from etils import epath

from fcn_jax.report import answer, comparison, differences, results, tables

pytestmark = pytest.mark.usefixtures('without_plots')


def answered(folder) -> str:
  runs, selecting = comparison.compare(results.read(epath.Path(folder)))
  rows, cols = comparison.layout(runs, None, None, selecting)
  fields = [field for field in rows + cols if field not in selecting]
  cells, folds = comparison.by_values(runs, fields), tables.folds_of(runs)
  return '\n'.join(answer.sentences(runs, cells, fields, differences.between(cells, fields, folds), folds))


def make(folder, skills, seeds=(0, 1), **more):
  """Runs by (stride, upsample or None), each seed a little better than the one before."""
  for ((stride, upsample), skill), seed in itertools.product(skills.items(), seeds):
    settings = {'model__stride': stride} | ({'model__upsample': upsample} if upsample else {}) | {'seed': seed} | more
    made.run(folder, skill=skill + 0.002 * seed, **settings)


def test_one_setting_names_the_best_value_its_lead_and_what_the_interval_covers(tmp_path):
  make(tmp_path, {(32, None): 0.5, (8, None): 0.7})
  text = answered(tmp_path)
  assert text.startswith('Stride 8 is best: 54.0 % mean IoU, 20.5 points above stride 32 (95 % interval ')
  assert '; 4 runs, 2 seeds).' in text.splitlines()[0] and 'over images only' not in text
  assert 'covers the choice of the 10 scored images and of the seeds' in text and 'Missing' not in text


def test_with_one_seed_nothing_is_decided_and_no_interval_is_over_seeds(tmp_path):
  make(tmp_path, {(32, None): 0.5, (8, None): 0.7}, seeds=(0,))
  text = answered(tmp_path)
  assert text.startswith('Not decided: stride 8 has the highest mean IoU, 53.8 %, 20.5 points above stride 32 ')
  assert '95 % interval over images only' in text and '2 runs, 1 seed)' in text
  assert 'with one seed, an interval does not cover what another seed would change' in text
  assert 'scored images, not that of the seeds' in text and 'is best' not in text


def test_a_difference_whose_interval_includes_zero_is_not_decided(tmp_path):
  for stride, skills in {32: (0.5, 0.501), 16: (0.69, 0.72), 8: (0.72, 0.70)}.items():
    for seed, skill in enumerate(skills):
      made.run(tmp_path, skill=skill, model__stride=stride, seed=seed)
  first = answered(tmp_path).splitlines()[0]
  assert first.startswith('Not decided: stride 8 has the highest mean IoU, ') and 'this interval includes 0' in first
  assert 'points above stride 16 (95 % interval -' in first and 'It is clearly 21.7 points above stride 32' in first


def test_two_settings_that_interact_are_named_with_the_combinations(tmp_path):
  fixed, random = 'bilinear_fixed', 'learned_random'
  make(tmp_path, {(32, fixed): 0.5, (8, fixed): 0.8, (32, random): 0.6, (8, random): 0.5})
  text = answered(tmp_path)
  assert 'The highest of 4 networks: stride 8, upsample bilinear_fixed with 66.8 % mean IoU.' in text
  (stride,) = (line for line in text.splitlines() if line.startswith('Stride 8 is best on average: '))
  assert 'means over 2 combinations of the other settings; stride 8 is ahead of stride 32 in 1 of 2' in stride
  assert 'The order depends on the other settings: with upsample bilinear_fixed, stride 8 is ' in stride
  assert '; with upsample learned_random, stride 32 is 9.5 points above stride 8 (95 % interval ' in stride


def test_settings_that_change_together_are_one(tmp_path):
  for stride, skips, upsample in ((32, 'none', 'bilinear_fixed'), (16, 'pool4', 'learned_random')):
    for seed in (0, 1):
      more = {'model__stride': stride, 'model__skips': skips, 'model__upsample': upsample, 'seed': seed}
      made.run(tmp_path, skill=0.9 - stride / 100 + seed / 500, **more)
  (first, _) = answered(tmp_path).splitlines()
  assert first.startswith('Skips pool4, stride 16, upsample learned_random is best: 58.9 % mean IoU, 17.9 points above')


def test_folds_are_pooled_and_a_network_that_lacks_one_is_not_ranked(tmp_path):
  for stride, fold in itertools.product((32, 16, 8), (0, 1)):
    for seed in (0, 1):
      more = {'model__stride': stride, 'data__fold': fold, 'seed': seed, 'data': 'stanford_background'}
      state = 'failed' if (stride, fold) == (8, 1) else 'done'
      made.run(tmp_path, skill=0.8 - stride / 100 + fold / 10 + seed / 500, state=state, **more)
  text = answered(tmp_path)
  assert text.startswith('Stride 16 is best: ') and '; 8 runs, 2 seeds)' in text.splitlines()[0]
  assert 'within each of 2 folds' in text and 'Not ranked: stride 8 (it lacks folds).' in text
  assert 'Missing: 2 of 12 runs: ' in text and 'stride=8,fold=1,seed=0' in text and '(failed)' in text


def test_missing_runs_are_named_and_what_they_leave_is_compared(tmp_path):
  make(tmp_path, {(32, None): 0.5, (8, None): 0.7}, seeds=(0, 1))
  made.run(tmp_path, state='failed', model__stride=16, seed=0)
  text = answered(tmp_path)
  assert text.startswith('Stride 8 is best: ') and 'Missing: 1 of 5 runs: stride=16,seed=0 (failed).' in text
  assert 'stride 16' not in text


@pytest.mark.parametrize('others', [0, 1])
def test_a_single_network_has_a_score_and_nothing_to_compare(tmp_path, others):
  made.run(tmp_path, model__stride=32, seed=0)
  for stride in (16, 8)[:others]:
    made.run(tmp_path, state='failed', model__stride=stride, seed=0)
  text = answered(tmp_path)
  assert 'has 53.8 % mean IoU (1 run).' in text and 'interval' not in text
  assert ('Nothing to compare: no run of the other 1 network is done.' in text) == bool(others)


def test_without_a_run_that_is_done_there_is_no_score(tmp_path):
  made.run(tmp_path, state='failed', seed=0)
  assert answered(tmp_path) == 'No run is done, so there is no score.\nMissing: 1 of 1 run: seed=0 (failed).'
