"""The runs of a sweep: reading an experiment file, checking every point, choosing among the runs."""

import pathlib

import pytest
from etils import epath
from small_sweep import returning, runs_of

from fcn_jax.errors import UserError
from fcn_jax.sweep import points

ROOT = pathlib.Path(__file__).parents[2]


def test_a_point_becomes_a_run_with_name_directory_config_and_command(tmp_path):
  sweep = returning("product(axis('model.stride', [32, 16]), axis('data.scale', [(0.5, 2.0)]))")
  runs = runs_of(tmp_path, sweep, lambda config: setattr(config.train, 'steps', 60))
  assert [run.name for run in runs] == ['stride=32,scale=0.5+2.0', 'stride=16,scale=0.5+2.0']
  run = runs[1]
  assert str(run.workdir) == 'runs/x/stride=16,scale=0.5+2.0' and run.source is None
  assert (run.config.model.stride, run.config.data.scale, run.config.train.steps) == (16, (0.5, 2.0), 60)
  assert run.command[1:] == [
    '-m',
    'fcn_jax.main',
    f'--config={tmp_path}/experiment.py',
    '--config.train.steps=60',
    '--config.model.stride=16',
    '--config.data.scale=0.5,2.0',
    '--workdir=runs/x/stride=16,scale=0.5+2.0',
  ]


@pytest.mark.parametrize(
  ('sweep', 'sentence'),
  [
    ('', 'defines no sweep()'),
    (returning('[]'), r'returned \[\]; expected a list of dicts'),
    (returning('{"seed": 0}'), 'expected a list of dicts'),
    (returning('axis("seed", 3)'), r'sweep\(\) failed: TypeError'),
    (returning('axis("model.strid", [8])'), r'strid=8.*no setting model.strid \(did you mean model.stride\?\)'),
    (returning('axis("model.stride", [8, 12])'), r'stride=12.*model.stride is 12'),
    (returning('axis("model.stride", ["eight"])'), 'stride=eight.*int'),
    (returning('product(axis("model.stride", [32]), axis("model.skips", ["pool4"]))'), 'finer than model.stride'),
    (returning('axis("seed", [0, 1, 0])'), 'the point seed=0 twice'),
  ],
)
def test_an_invalid_sweep_is_a_one_line_error(tmp_path, sweep, sentence):
  with pytest.raises(UserError, match=sentence) as error:
    runs_of(tmp_path, sweep)
  assert '\n' not in str(error.value)


def test_only_matches_whole_settings(tmp_path):
  runs = runs_of(tmp_path, returning("product(axis('model.stride', [8, 16]), axis('seed', [1, 11]))"))
  assert [run.name for run in points.choose(runs, only='seed=1,stride=8', shard=None)] == ['stride=8,seed=1']
  with pytest.raises(
    UserError, match='--only=seed=2 matches no run; expected settings of a run, for example stride=8,seed=1'
  ):
    points.choose(runs, only='seed=2', shard=None)


def test_choosing_a_run_also_chooses_the_run_that_it_starts_from(tmp_path):
  runs = runs_of(tmp_path, returning('[{"seed": 0}, {"seed": 2}, {"init.run": "seed=0", "model.stride": 16}]'))
  assert [run.name for run in points.choose(runs, only='stride=16', shard=None)] == ['seed=0', 'run=seed=0,stride=16']


def test_shards_divide_a_sweep_and_keep_dependent_runs_together(tmp_path):
  experiment = str(ROOT / 'experiments/stages.py')
  runs = points.runs(experiment, points.load(experiment, '')[1], epath.Path('x'))
  shards = [points.choose(runs, only=None, shard=f'{i}/4') for i in range(4)]
  assert sorted(run.name for shard in shards for run in shard) == sorted(run.name for run in runs)
  for shard in shards:
    names = {run.name for run in shard}
    assert all(run.source is None or run.source in names for run in shard)
  assert max(map(len, shards)) - min(map(len, shards)) <= 3
  for wrong in ('4/4', '-1/4', '1', 'a/b', '0/0'):
    with pytest.raises(UserError, match='expected i/n'):
      points.choose(runs, only=None, shard=wrong)


SWEEPS = {
  'ablation': 27,
  'fcn_or_unet': 15,
  'fine_tuning': 15,
  'networks': 15,
  'rare_class': 36,
  'skips': 30,
  'stages': 15,
  'train_fraction': 9,
  'width': 27,
  'paper/stages': 3,
  'paper/batch_momentum': 6,
  'paper/patch_sampling': 6,
  'paper/class_balance': 6,
  'paper/augmentation': 12,
  'paper/frozen': 9,
}


def test_the_list_of_sweeps_is_complete():
  folder = ROOT / 'experiments'
  sweeps = (path for path in folder.rglob('*.py') if 'def sweep' in path.read_text())
  found = {str(path.relative_to(folder).with_suffix('')) for path in sweeps}
  assert found - {'stanford_small'} == set(SWEEPS)  # its argument is a stride


@pytest.mark.parametrize(
  ('name', 'dataset'),
  [(x, y) for x in SWEEPS for y in ('scenes', 'stanford_background') if x != 'train_fraction']
  + [(x, 'folder') for x in SWEEPS],
)
def test_every_sweep_is_valid_on_every_data_set(name, dataset):
  experiment = f'{ROOT}/experiments/{name}.py'
  base = points.load(experiment, dataset)[1]
  runs = points.runs(f'{experiment}:{dataset}', base, epath.Path('x'))
  assert len(runs) == SWEEPS[name]
  assert all(run.config.data.name == dataset for run in runs)


def of_sweep(name: str) -> list:
  experiment = f'{ROOT}/experiments/paper/{name}.py'
  return points.runs(experiment, points.load(experiment, '')[1], epath.Path('x'))


def test_all_batch_sizes_and_momenta_see_as_many_images_and_move_the_weights_as_far():
  """An image's gradient moves the weights by lr / batch size at first, by 1 / (1 - momentum) times that in total."""
  configs = [run.config for run in of_sweep('batch_momentum')]
  assert {c.train.steps * c.train.batch_size for c in configs} == {4000}
  for config in configs:
    moved = config.optim.lr / config.train.batch_size / (1 - config.optim.momentum)
    assert moved == pytest.approx(configs[0].optim.lr / 8 / 0.1)
    assert (config.optim.name, config.optim.schedule, config.loss.reduction) == ('sgd', 'constant', 'mean')


def test_sampling_keeps_the_number_of_patches_per_batch():
  configs = [run.config for run in of_sweep('patch_sampling')]
  assert {c.loss.sampling * c.train.batch_size for c in configs} == {8.0}
  assert len({c.train.steps for c in configs}) == 1


def test_frozen_and_unfrozen_runs_start_from_the_same_run():
  runs = {run.name: run for run in of_sweep('frozen')}
  later = [run for run in runs.values() if run.source]
  assert len(later) == 6 and {run.config.optim.freeze_backbone for run in later} == {False, True}
  for run in later:
    source = runs[run.source].config
    assert not source.optim.freeze_backbone and source.seed == run.config.seed
    # At equal strides, all score layers would be loaded already trained.
    assert source.model.stride > run.config.model.stride


def test_the_augmentation_sweep_uses_flips_and_jitter_only():
  for run in of_sweep('augmentation'):
    data = run.config.data
    assert tuple(data.scale) == (1, 1) and data.brightness == data.contrast == data.color == 0
