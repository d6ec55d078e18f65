"""The names of runs, and runs that start from other runs of their sweep."""

import json
import os
import pathlib

import pytest
from etils import epath
from small_sweep import CONFIG, HEAD, returning, runs_of

from fcn_jax import config
from fcn_jax.errors import UserError
from fcn_jax.sweep import points, space

ROOT = pathlib.Path(__file__).parents[2]


def test_a_run_can_start_from_another_run_of_the_sweep_by_name(tmp_path):
  first, second, elsewhere = runs_of(
    tmp_path, returning('[{"seed": 0}, {"init.run": "seed=0", "seed": 1}, {"init.run": "runs/other"}]')
  )
  assert second.source == 'seed=0' and second.config.init.run == 'runs/x/seed=0'
  assert elsewhere.source is None and elsewhere.config.init.run == 'runs/other'
  assert points.lineage(second, {run.name: run for run in (first, second)}) == [second, first]


def long_sweep() -> str:
  """A sweep as Python: a point with a name of more than 200 bytes, and one that starts from it."""
  values, sections = config.flatten(config.default('scenes')), ('optim', 'eval', 'loss', 'checkpoint', 'train')
  fields = [field for field in values if field.partition('.')[0] in sections]
  return repr(point := {field: values[field] for field in fields}) + f', {point | {"init.run": space.name(point)}}'


def test_shortened_names_change_no_selection_order_or_setting(tmp_path):
  runs = runs_of(tmp_path, returning(f'[{{"seed": 0}}, {long_sweep()}]'))
  short, first, second = runs
  assert len(space.settings(first.point).encode()) > 250 and len(first.name.encode()) <= 200
  assert (short.source, first.source, second.source) == (None, None, first.name)
  assert second.config.init.run == f'runs/x/{first.name}' and second.command[-1] == f'--workdir=runs/x/{second.name}'
  last, value = list(first.point.items())[-1]
  assert points.choose(runs, only=f'{last}={value}', shard=None) == [first, second]
  assert points.choose(runs, only=second.name, shard=None) == [first, second]
  folder = epath.Path(tmp_path / 'sweep')
  points.write_sweep(folder, 'experiment.py', first.config, runs)
  assert json.loads((folder / 'sweep.json').read_text())['runs'][second.name] == json.loads(json.dumps(second.point))
  assert [run.source for run in points.recorded(folder)] == [None, None, first.name]


@pytest.mark.parametrize('values', ["'a/b', 'a,b'", "'a+b', 'a/b'", "'a\\n', 'a/'"])
def test_points_whose_names_differ_only_by_what_is_replaced_are_an_error_that_shows_both(tmp_path, values):
  with pytest.raises(UserError, match=r"\{'init.run': 'a.*\{'init.run': 'a.*would both have the folder run=a\+"):
    runs_of(tmp_path, returning(f'axis("init.run", [{values}])'))


def test_a_run_of_the_sweep_is_recognized_by_any_address(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', f'{tmp_path}')
  for address in ('seed=0', 'runs/x/seed=0', './runs/x/seed=0/', f'{os.getcwd()}/runs/../runs/x/seed=0'):
    second = runs_of(tmp_path, returning(f'[{{"seed": 0}}, {{"init.run": {address!r}}}]'))[1]
    assert (second.source, second.config.init.run) == ('seed=0', 'runs/x/seed=0')
  path = str(tmp_path / 'experiment.py')
  (_, second) = points.runs(path, points.load(path, '')[1], tmp_path / 'runs' / 'x')
  assert second.source is None and second.config.init.run == f'{os.getcwd()}/runs/../runs/x/seed=0'
  (tmp_path / 'experiment.py').write_text(
    HEAD + CONFIG + returning('[{"seed": 0}, {"init.run": "~/runs/x/seed=0"}, {"init.run": "~/other"}]')
  )
  runs = points.runs(path, points.load(path, '')[1], tmp_path / 'runs' / 'x')
  assert [run.source for run in runs] == [None, 'seed=0', None]


@pytest.mark.parametrize(
  ('point', 'sentence'),
  [
    ({'init.run': 's3://bucket/run'}, r'init\.run: s3://bucket/run is an address that cannot be used'),
    ({'init.run': 3}, 'init.run|run'),
    ({'init.run': 'a\0b'}, r"a command line cannot contain '--config.init.run=a\\x00b'"),
    ({'init.run': '\ud800'}, 'a command line cannot contain'),
    ({3: 3}, 'expected a list of dicts'),
  ],
)
def test_a_value_that_no_run_can_have_is_an_error_before_anything_starts(tmp_path, point, sentence):
  with pytest.raises(UserError, match=sentence):
    runs_of(tmp_path, returning(f'[{point!r}]'))


def test_runs_that_start_from_each_other_in_a_circle_are_an_error(tmp_path):
  with pytest.raises(UserError, match='seed=0 starts from seed=0: no run can be the first'):
    runs_of(tmp_path, returning('axis("seed", [0, 1])'), lambda config: setattr(config.init, 'run', 'seed=0'))
  listed = {'a': {'init.run': 'b'}, 'b': {'init.run': 'c'}, 'c': {'init.run': 'b'}}
  (tmp_path / 'sweep.json').write_text(json.dumps({'experiment': 'x.py', 'config': {}, 'runs': listed}))
  with pytest.raises(UserError, match='b starts from c, which starts from b: no run can be the first'):
    points.recorded(epath.Path(tmp_path))


def test_a_sweep_is_listed_where_an_address_of_it_cannot_be_used(tmp_path):
  listed = {'seed=0': {'seed': 0}, 'a': {'init.run': 's3://bucket/a'}, 'b': {'init.run': f'file://{tmp_path}/seed=0/'}}
  (tmp_path / 'sweep.json').write_text(json.dumps({'experiment': 'x.py', 'config': {}, 'runs': listed}))
  assert [run.source for run in points.recorded(epath.Path(tmp_path))] == [None, None, 'seed=0']
