"""Which runs are runs of the same network, and what an interval is over."""

import itertools
import json
import shutil

import made
import pytest
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files
from fcn_jax.data import names as data_names
from fcn_jax.errors import UserError
from fcn_jax.report import __main__ as report
from fcn_jax.report import comparison, differences, figures, results, tables
from fcn_jax.run import identity

OTHER = {'data.threads': 7, 'data.dir': 'elsewhere', 'data.cache_gib': 1.0, 'train.log_every': 3, 'eval.every': 7}
OTHER |= {'eval.batch_size': 3, 'eval.canvases': 2, 'checkpoint.every': 9, 'checkpoint.keep': 1}
OTHER |= {'data.augment_on': 'device', 'data.cache_dir': 'there', 'train.deterministic': True}


def compared(folder, **options):
  """The runs, and their labels and differences."""
  runs, selecting = comparison.compare(results.read(epath.Path(folder), **options))
  rows, cols = comparison.layout(runs, None, None, selecting)
  fields = rows + cols
  cells = comparison.by_values(runs, fields)
  return tables.labeled(cells, fields), differences.between(cells, fields, tables.folds_of(runs))


def test_settings_that_cannot_change_scores_make_no_network(tmp_path):
  assert set(OTHER) <= set(identity.NEUTRAL)
  for seed, settings in enumerate([{}, *({field: value} for field, value in OTHER.items())]):
    made.run(tmp_path, seed=seed, **{field.replace('.', '__'): value for field, value in settings.items()})
  networks, found = compared(tmp_path)
  assert list(map(len, networks.values())) == [1 + len(OTHER)] and not found
  with pytest.raises(UserError, match=r'train\.log_every cannot change scores'):
    report.report(epath.Path(tmp_path), ['train.log_every'])


def test_how_often_a_run_is_evaluated_matters_to_its_best_checkpoint(tmp_path):
  for every in (5, 10):
    path = made.run(tmp_path, eval__every=every)
    for ending in ('json', 'npz'):
      (path / f'eval/validation.{ending}').rename(path / f'eval/validation.best.{ending}')
  assert len(compared(tmp_path, checkpoint='best')[0]) == 2


@pytest.mark.parametrize('seeds', [(1, 1), (1, 3), (3, 1), (2, 2)])
def test_an_interval_with_one_seed_on_a_side_is_over_images_only_and_never_clear(tmp_path, seeds):
  for stride, count in zip((32, 16), seeds, strict=True):
    for seed in range(count):
      made.run(tmp_path, skill=0.5 + 1 / stride + seed / 100, model__stride=stride, seed=seed)
  _, (found,) = compared(tmp_path)
  assert found.low > 0 or found.high < 0
  assert found.over_seeds == found.clear == (min(seeds) > 1)
  line = differences.table([found], '', '', ['']).lines[0]
  assert line[-1] == ('images and seeds' if min(seeds) > 1 else 'images only')
  colors = {drawn.get_color() for drawn in figures.intervals([found]).axes[0].lines} - {'black'}
  assert colors == ({'C0'} if min(seeds) > 1 else {'0.6'})


@pytest.mark.parametrize('folds', [(0, 0), (0, 1)])
def test_runs_are_grouped_by_the_settings_of_the_run_they_start_from_not_by_its_name(tmp_path, folds):
  for seed, (name, fold) in enumerate(zip(('base-a', 'base-b'), folds, strict=True)):
    for stride, source in ((32, ''), (16, name), (8, f'next-{name}')):
      more = {'init__run': f'/moved/runs/{source}'} if source else {}
      path = made.run(
        tmp_path, data='stanford_background', model__stride=stride, data__fold=fold, seed=seed, model__width=0.5, **more
      )
      path.rename(tmp_path / {32: name, 16: f'next-{name}', 8: f'last-{name}'}[stride])
  networks, _ = compared(tmp_path)
  assert list(map(len, networks.values())) == [2, 2, 2]
  origins = {run.settings['init.run'] for members in networks.values() for run in members}
  assert origins == {'', 'stride=32', 'stride=16,run=stride=32'}
  path = tmp_path / 'base-b' / 'config.json'  # now the two start from different networks
  config = json.loads(path.read_text())
  config['optim']['lr'] = 0.5
  path.write_text(json.dumps(config))
  assert len(compared(tmp_path)[0]) == 6


def test_runs_that_start_from_each_other_are_read(tmp_path):
  for name, other in (('a', 'b'), ('b', 'a')):
    made.run(tmp_path, init__run=f'x/{other}').rename(tmp_path / name)
  assert len(results.read(epath.Path(tmp_path))) == 2


def test_tables_read_the_settings_of_a_run_whatever_its_name_is(tmp_path):
  for number, stride in enumerate((32, 16)):
    made.run(tmp_path, model__stride=stride).rename(tmp_path / f'stride={number},{"x" * 200}')
  points = {path.name: {'model.stride': 1} for path in tmp_path.iterdir()}
  points['a hash'] = {'model.stride': 8}
  base = identity.plain(results.config_lib.default('scenes'))
  (tmp_path / 'sweep.json').write_text(json.dumps({'experiment': 'x.py', 'config': base, 'runs': points}))
  text = report.report(epath.Path(tmp_path))['table.md']
  assert '| 8 | 1 waiting |' in text and '| 16 | ' in text and '| 32 | ' in text and '| 1 | ' not in text


def test_runs_that_have_not_started_are_in_the_cells_of_their_networks(tmp_path):
  """They have no `model.mean` yet, which a run resolves when it starts."""
  for seed in (0, 1):
    run = made.run(tmp_path, optim__lr=0.5, seed=seed)
    config = json.loads((run / 'config.json').read_text())
    config['model']['mean'] = [1.0, 2.0, 3.0]
    (run / 'config.json').write_text(json.dumps(config))
  points = {f'lr={lr},seed={seed}': {'optim.lr': lr, 'seed': seed} for lr in (0.5, 0.25) for seed in (0, 1, 2)}
  base = identity.plain(config_lib.default('scenes'))
  files.write_json(epath.Path(tmp_path) / 'sweep.json', {'experiment': 'x.py', 'config': base, 'runs': points})
  table = report.report(epath.Path(tmp_path))['table.md']
  assert 'mean (' not in table
  assert '(2); 1 waiting |' in table and '| 3 waiting |' in table


def test_of_two_copies_of_a_run_the_intact_one_counts(tmp_path):
  made.run(tmp_path, seed=0)
  shutil.copytree(tmp_path / 'seed=0', tmp_path / 'a copy')
  (tmp_path / 'a copy' / 'data.json').write_text('')
  assert (
    'a copy: duplicate: has the settings and the seed of seed=0, which counts'
    in (report.report(epath.Path(tmp_path))['table.md'])
  )


def test_labels_name_what_a_setting_is_about_and_no_two_settings_share_one():
  fields = {*config_lib.flatten(config_lib.base()), *itertools.chain(*map(data_names.settings, data_names.SETTINGS))}
  labels = {field: comparison.short(field) for field in fields - {*identity.NEUTRAL}}
  assert len({*labels.values()}) == len(labels)
  named = {'model.stride': 'stride', 'loss.name': 'loss', 'init.run': 'init.run', 'seed': 'seed', 'optim.name': 'optim'}
  named |= {'init.optimizer': 'init.optimizer', 'model.mean': 'model.mean', 'train.batch_size': 'batch_size'}
  assert {field: labels[field] for field in named} == named
  assert not {'mean', 'std', 'label', 'classes', 'range', 'run', 'path', 'state', 'minutes'} & {*labels.values()}


def on_data(folder, name, mean, fingerprint='a', command=(), **settings):
  """A run on a folder of images, with the mean that it has resolved."""
  path = made.run(folder / name, data='folder', data__folder=f'photos/{fingerprint}', model__mean=mean, **settings)
  path = path.rename(folder / name / 'run').rename(folder / f'run {name}')
  (start,) = json.loads((path / 'env.json').read_text())
  (path / 'env.json').write_text(json.dumps([start | {'data': f'folder {fingerprint}', 'command': ['x', *command]}]))


def test_what_a_run_measured_on_its_data_is_no_setting_in_which_runs_differ(tmp_path):
  for name, fraction, mean in (('a', 0.5, 10.0), ('b', 0.5, 10.0), ('c', 1.0, 20.0)):
    on_data(tmp_path, name, (mean,) * 3, data__train_fraction=fraction, seed=int(name == 'b'))
  networks, (found,) = compared(tmp_path)
  assert {*networks} == {'train_fraction 0.5', 'train_fraction 1.0'} and found.factor == ('data.train_fraction',)
  # Of the same data, a mean that a user has set makes another network: in the command, or in an experiment file.
  on_data(tmp_path, 'd', (5.0,) * 3, command=['--config.model.mean=5,5,5'], data__train_fraction=1.0)
  assert {*compared(tmp_path)[0]} == {
    'train_fraction 0.5, model.mean chosen at start',
    'train_fraction 1.0, model.mean chosen at start',
    'train_fraction 1.0, model.mean (5.0, 5.0, 5.0)',
  }
  on_data(tmp_path, 'e', (6.0,) * 3, data__train_fraction=1.0)
  assert len(compared(tmp_path)[0]) == 4


def test_runs_that_differ_in_their_data_only_are_different_networks(tmp_path):
  for name, fingerprint, mean in (('a', 'a', 10.0), ('b', 'a', 10.0), ('c', 'c', 20.0)):
    on_data(tmp_path, name, (mean,) * 3, fingerprint=fingerprint, seed=int(name == 'b'))
  networks, (found,) = compared(tmp_path)
  assert {name: len(members) for name, members in networks.items()} == {'data photos/a': 2, 'data photos/c': 1}
  assert found.factor == ('data',)


def test_other_data_remain_a_difference_if_another_setting_differs_too(tmp_path):
  on_data(tmp_path, 'a', (10.0,) * 3, optim__lr=0.5)
  on_data(tmp_path, 'b', (20.0,) * 3, fingerprint='b', optim__lr=0.25)
  assert {*compared(tmp_path)[0]} == {'lr 0.5, data photos/a', 'lr 0.25, data photos/b'}


def test_constants_of_recipes_are_a_difference_though_augmentation_differs_too(tmp_path):
  made.run(tmp_path, data__flip=0.5, model__std=(64.0,) * 3)
  made.run(tmp_path, data__flip=0.0, model__std=(1.0,) * 3)
  assert all('std' in name for name in compared(tmp_path)[0])
