"""`sweep.json`: a sweep that grows, moves, is damaged, or is in a folder that is no sweep."""

import dataclasses
import json
import pathlib
import re

import ordinary_user
import pytest
from etils import epath
from small_sweep import CONFIG, HEAD, returning, runs_of

from fcn_jax.errors import UserError
from fcn_jax.run import directory
from fcn_jax.sweep import points, status

ROOT = pathlib.Path(__file__).parents[2]


def test_a_directory_belongs_to_one_sweep_which_may_grow(tmp_path):
  experiment = str(ROOT / 'experiments/ablation.py')
  base, folder = points.load(experiment, '')[1], epath.Path(tmp_path / 'sweep')
  runs = points.runs(experiment, base, folder)
  points.write_sweep(folder, 'ablation.py', base, runs[1:])
  points.write_sweep(folder, 'ablation.py', base, runs[:2])
  listed = json.loads((folder / 'sweep.json').read_text())['runs']
  assert sorted(listed) == sorted(run.name for run in runs)
  with pytest.raises(UserError, match=r'holds the sweep ablation.py, not skips.py'):
    points.write_sweep(folder, 'skips.py', base, runs)
  base.train.steps = 7
  with pytest.raises(UserError, match=r'a sweep with another config: train\.steps is 500 there, 7 here'):
    points.write_sweep(folder, 'ablation.py', base, runs)
  (tmp_path / 'config.json').write_text('{}')
  with pytest.raises(UserError, match='holds a single run, not a sweep'):
    points.write_sweep(epath.Path(tmp_path), 'ablation.py', base, runs)


def test_the_runs_of_a_sweep_that_has_started_are_read_from_sweep_json(tmp_path):
  """Names, folders, points and sources, without the experiment file."""
  experiment = str(ROOT / 'experiments/stages.py')
  base, folder = points.load(experiment, '')[1], epath.Path(tmp_path)
  runs = points.runs(experiment, base, folder)
  points.write_sweep(folder, 'stages.py', base, runs)
  recorded = points.recorded(folder)
  assert any(run.source for run in recorded)
  for mine, theirs in zip(recorded, runs, strict=True):
    assert (mine.name, mine.workdir, mine.source) == (theirs.name, theirs.workdir, theirs.source)
    assert mine.point == json.loads(json.dumps(theirs.point)) and mine.config is None
  chosen = [[run.name for run in points.choose(x, only=None, shard='1/2')] for x in (recorded, runs)]
  assert chosen[0] == chosen[1]
  with pytest.raises(UserError, match='holds no sweep: there is no folder of this name'):
    points.recorded(epath.Path(tmp_path / 'other'))


def test_a_sweep_may_move_and_its_data_too(tmp_path):
  """Sources are found in the new place, and no run there has another config."""
  sweep = returning('[{"seed": 0}, {"init.run": "seed=0", "seed": 1}]')
  (tmp_path / 'experiment.py').write_text(HEAD + CONFIG + sweep)
  path, old, new = str(tmp_path / 'experiment.py'), epath.Path(tmp_path / 'old'), epath.Path(tmp_path / 'new')
  base = points.load(path, '')[1]
  runs = points.runs(path, base, old)
  points.write_sweep(old, 'experiment.py', base, runs)
  for run in runs:
    directory.write_config(directory.RunDirectory(run.workdir), run.config)
  old.rename(new)
  base.data.dir, base.data.threads, base.data.cache_gib = '/elsewhere', 7, 0.5
  moved = points.runs(path, base, new)
  points.write_sweep(new, 'experiment.py', base, moved)
  for runs in (points.recorded(new), moved):
    assert [(run.name, run.source) for run in runs] == [('seed=0', None), ('run=seed=0,seed=1', 'seed=0')]
    assert [status.fault(run) for run in runs] == ['', '']
  assert f'--config.init.run={new}/seed=0' in moved[1].command and '--config.data.dir=/elsewhere' in moved[1].command
  elsewhere = dataclasses.replace(moved[1], config=moved[1].config.copy_and_resolve_references())
  elsewhere.config.init.run = '/elsewhere/seed=0'
  assert 'init.run is ' in status.fault(elsewhere)  # a run of the same name in another sweep is another run


@pytest.mark.parametrize(
  ('content', 'fault'),
  [
    ('', 'sweep.json is empty'),
    ('{"experiment": "a.py", "ru', 'sweep.json is damaged'),
    ('[]', 'holds a JSON list; expected a dict'),
    ('{"experiment": "a.py", "config": {}}', 'is damaged: runs is None; expected a dict'),
    ('{"experiment": "a.py", "config": {}, "runs": {"a": 3}}', "run 'a' is 3; expected a dict of settings"),
    ('{"experiment": "a.py", "config": {}, "runs": {"../a": {}}}', "run '../a' is "),
    (None, 'sweep.json is a folder; expected a file'),
  ],
)
def test_a_damaged_sweep_json_is_named_with_what_to_do(tmp_path, content, fault):
  path = tmp_path / 'sweep.json'
  path.write_text(content) if content is not None else path.mkdir()
  with pytest.raises(UserError) as error:
    points.recorded(epath.Path(tmp_path))
  assert str(path) in str(error.value) and fault in str(error.value)
  assert content is None or 'run the command of the sweep again, with --config' in str(error.value)
  run = runs_of(tmp_path, returning('[{"seed": 0}]'))[0]
  with pytest.raises(UserError, match=re.escape(fault)):
    points.write_sweep(epath.Path(tmp_path), 'a.py', run.config, [run])
  assert content is None or path.read_text() == content


def test_a_folder_of_another_point_is_an_error(tmp_path):
  folder, run = epath.Path(tmp_path), runs_of(tmp_path, returning('[{"data.dir": "a/b"}]'))[0]
  points.write_sweep(folder, 'a.py', run.config, [run])
  points.write_sweep(folder, 'a.py', run.config, [run])
  with pytest.raises(UserError, match=r'dir=a\+b is the folder of another point: .*a/b.* there, .*a,b.* here'):
    points.write_sweep(folder, 'a.py', run.config, [dataclasses.replace(run, point={'data.dir': 'a,b'})])


def test_a_folder_that_is_no_sweep_or_has_no_permission_is_an_error_with_the_reason(tmp_path):
  run = runs_of(tmp_path, returning('[{"seed": 0}]'))[0]

  def write(folder):
    points.write_sweep(folder, 'a.py', run.config, [run])

  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'config.json').write_text('{}')
  (tmp_path / 'file').write_text('')
  (tmp_path / 'closed').mkdir(mode=0)
  (tmp_path / 'fixed').mkdir(mode=0o500)
  cases = [
    (points.recorded, 'run', 'holds no sweep: it is a single run'),
    (points.recorded, 'none', 'there is no folder of this name'),
    (points.recorded, 'file', 'there is no sweep.json in it'),
    (points.recorded, 'closed', 'Permission denied'),
    (write, 'run', 'holds a single run, not a sweep'),
    (write, 'file', 'cannot write .*sweep.json: '),
    (write, 'closed', 'Permission denied'),
    (write, 'fixed', 'cannot write .*sweep.json: Permission denied'),
  ]
  with ordinary_user.without_root():
    for function, name, reason in cases:
      with pytest.raises(UserError, match=reason):
        function(epath.Path(tmp_path / name))


def test_a_single_run_is_not_trained_in_the_directory_of_a_sweep(tmp_path):
  run = runs_of(tmp_path, returning('[{"seed": 0}]'))[0]
  points.write_sweep(epath.Path(tmp_path), 'a.py', run.config, [run])
  with pytest.raises(UserError, match='holds a sweep, not a run; choose another --workdir'):
    directory.begin(directory.RunDirectory(tmp_path), run.config)
