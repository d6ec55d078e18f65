"""The config, the format and the data description of a run directory."""

import dataclasses
import json
import subprocess
import sys

import pytest
import tiny
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files
from fcn_jax.data.dataset import Classes
from fcn_jax.errors import UserError
from fcn_jax.run import directory as run_directory
from fcn_jax.run import identity, saved
from fcn_jax.run.directory import RunDirectory


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path / 'run')


def begin(directory, config):
  """The two calls of a start, between which the data is prepared."""
  run_directory.begin(directory, config)
  run_directory.write_config(directory, config)


def test_the_config_is_written_with_its_format_and_the_same_config_is_accepted(directory):
  config = config_lib.default()
  begin(directory, config)
  written = (directory / 'config.json').read_text()
  assert next(iter(json.loads(written).items())) == ('format', 2)
  assert json.loads(written)['data']['train_size'] == list(config.data.train_size)  # JSON has no tuples
  begin(directory, config_lib.default())
  assert (directory / 'config.json').read_text() == written


def test_another_config_is_refused_with_every_difference(directory):
  mine, other = config_lib.default(), config_lib.default()
  mine.optim.lr, mine.data.scale, mine.seed = 0.002, (0.8, 1.25), 0
  other.optim.lr, other.data.scale, other.seed = 0.5, (0.5, 2.0), 3
  begin(directory, mine)
  with pytest.raises(UserError) as caught:
    begin(directory, other)
  message = str(caught.value)
  assert str(directory) in message
  for words in (
    'optim.lr is 0.002 there, 0.5 here',
    'seed is 0 there, 3 here',
    'data.scale is [0.8, 1.25] there, [0.5, 2.0] here',
    '--workdir',
  ):
    assert words in message
  assert 'optim.momentum' not in message and 'format' not in message
  begin(directory, mine)  # the run is as it was


def test_where_and_how_a_run_is_computed_is_no_difference(directory):
  begin(directory, config_lib.default('stanford_background'))
  moved = config_lib.default('stanford_background')
  moved.data.dir, moved.data.archive, moved.data.cache_gib, moved.data.threads = '/data', '/a.tar', 1.0, 9
  begin(directory, moved)
  assert identity.difference(identity.plain(moved), {'data': {'name': 'stanford_background'}})
  moved.data.fold = 3
  with pytest.raises(UserError, match=r'another config: data\.fold is 0 there, 3 here\. '):
    begin(directory, moved)


@pytest.mark.parametrize('there', [True, False])
def test_a_field_that_only_one_of_the_two_has_differs(directory, there):
  """The run of another version of the code."""
  with_it = config_lib.default()
  with with_it.unlocked():
    with_it.optim.nesterov = True
  begin(directory, with_it if there else config_lib.default())
  with pytest.raises(UserError, match=r'optim\.nesterov is (True there, None|None there, True) here'):
    begin(directory, config_lib.default() if there else with_it)


def rewrite(directory, change):
  """Changes `config.json` of a run."""
  content = directory.read_json('config.json', None)
  change(content)
  directory.write_json('config.json', content)


@pytest.mark.parametrize(
  ('change', 'found'),
  [(lambda saved: saved.pop('format'), 'no "format": an earlier version'), (lambda saved: saved.update(format=3), '3')],
)
def test_another_format_is_refused_with_what_to_do(directory, change, found):
  begin(directory, config_lib.default())
  rewrite(directory, change)
  for use in (lambda: saved.read_config(directory.path), lambda: begin(directory, config_lib.default())):
    with pytest.raises(UserError, match=rf'config\.json has (format )?{found}.*; expected format 2\. Use the version'):
      use()


def test_the_config_of_a_run_is_read_with_its_tuples(directory):
  config = config_lib.default('stanford_background')
  config.data.train_size, config.optim.lr = (64, 96), 0.5
  run_directory.write_config(directory, config)
  assert config_lib.flatten(saved.read_config(directory.path)) == config_lib.flatten(config)


def test_a_setting_that_is_newer_than_the_run_has_its_default(directory):
  begin(directory, config_lib.default())
  rewrite(directory, lambda saved: saved['model'].pop('shrink'))
  assert saved.read_config(directory.path).model.shrink == 1
  begin(directory, config_lib.default())


@pytest.mark.parametrize(
  ('section', 'field', 'value', 'words'),
  [
    ('optim', 'nesterov', True, 'there is no setting optim.nesterov'),
    ('data', 'fold', 0, 'there is no setting data.fold'),
    ('optim', 'lr', 'fast', 'lr'),
    ('model', 'stride', 7, 'model.stride is 7'),
  ],
)
def test_a_wrong_setting_of_a_saved_config_is_a_user_error(directory, section, field, value, words):
  begin(directory, config_lib.default())
  rewrite(directory, lambda saved: saved[section].update({field: value}))
  with pytest.raises(UserError, match=r'config\.json: ') as caught:
    saved.read_config(directory.path)
  assert words in str(caught.value)


def test_a_config_that_is_damaged_or_missing_is_a_user_error(directory):
  with pytest.raises(UserError, match=r'holds no run: there is no folder of this name'):
    saved.read_config(directory.path)
  directory.path.mkdir()
  with pytest.raises(UserError, match=r'holds no run: there is no config\.json in it'):
    saved.read_config(directory.path)
  directory.write('config.json', '{"model": {"stri')
  for use in (lambda: saved.read_config(directory.path), lambda: begin(directory, config_lib.default())):
    with pytest.raises(UserError, match=r'config\.json is damaged'):
      use()


OUTSIDE = """
SETTINGS = {'depth': True, 'sensors': ('a', 'b'), 'eval.canvases': 1}


def load(data):
  raise AssertionError('not called')
"""


def test_a_run_on_data_from_outside_is_read_without_their_module(directory, tmp_path, monkeypatch):
  (tmp_path / 'outside_of_the_package.py').write_text(OUTSIDE)
  with monkeypatch.context() as patch:
    patch.syspath_prepend(tmp_path)
    config = config_lib.default('outside_of_the_package')
  config.data.depth = False
  begin(directory, config)
  sys.modules.pop('outside_of_the_package')
  read = saved.read_config(directory.path)
  assert config_lib.flatten(read) == config_lib.flatten(config) and read.data.sensors == ('a', 'b')
  plain = identity.plain(config)
  assert config_lib.flatten(identity.from_plain(plain)) == config_lib.flatten(config)
  assert identity.difference(plain, plain) == ''
  assert 'outside_of_the_package' not in sys.modules


def test_the_normalization_that_a_run_started_with_stays(directory):
  config = config_lib.default()
  config.init.weights, config.model.mean, config.model.std = 'vgg16', (1.0, 2.0, 3.0), (4.0, 4.0, 4.0)
  begin(directory, config)
  again = config_lib.default()
  again.init.weights = 'vgg16'
  run_directory.begin(directory, again)
  assert run_directory.resolve_config(directory.path, again).model.mean == (1.0, 2.0, 3.0)
  again.model.std = (5.0, 5.0, 5.0)
  with pytest.raises(
    UserError, match=r'config: model\.std is \[4\.0, 4\.0, 4\.0\] there, \[5\.0, 5\.0, 5\.0\] here\. '
  ):
    begin(directory, again)


def test_where_a_run_augments_stays(directory):
  """On the hardware of its first start; 'auto' matches either. Runs of earlier versions augment on the host."""
  for saved_as in ('device', 'host', None):
    config = config_lib.default()
    config.data.augment_on = saved_as or 'host'
    directory.write_json('config.json', {'format': saved.FORMAT} | identity.plain(config))
    if saved_as is None:
      rewrite(directory, lambda there: there['data'].pop('augment_on'))
    run_directory.begin(directory, config)
    run_directory.begin(directory, config_lib.default())
    assert run_directory.resolve_config(directory.path, config_lib.default()).data.augment_on == config.data.augment_on
    other = config_lib.default()
    other.data.augment_on = {'host': 'device', 'device': 'host'}[config.data.augment_on]
    with pytest.raises(UserError, match=f'augment_on is {config.data.augment_on} there, {other.data.augment_on} here'):
      run_directory.begin(directory, other)


@dataclasses.dataclass
class Data:
  inputs: dict
  heads: dict
  fingerprint: str


def test_classes_and_inputs_of_a_run_are_read_without_its_data(directory):
  heads = {
    'semantic': Classes(('sky', 'tree'), ((0, 0, 255), (0, 255, 0))),
    'parts': Classes(('leaf',), ((9, 9, 9),)),
  }
  run_directory.write_data(directory, Data({'rgb': 3, 'depth': 1}, heads, 'outside 1'))
  assert saved.read_data(directory.path) == ({'rgb': 3, 'depth': 1}, heads)
  assert directory.read_json('data.json', None)['fingerprint'] == 'outside 1'
  with pytest.raises(UserError, match=r'none has no data\.json'):
    saved.read_data(directory / 'none')


def test_reading_a_run_needs_no_jax():
  code = "import sys, fcn_jax.run.directory, fcn_jax.run.lock, fcn_jax.run.signals; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, '-c', code], cwd=tiny.ROOT, check=False).returncode == 0


def test_a_workdir_that_cannot_be_made_is_a_user_error(tmp_path):
  files.write(epath.Path(tmp_path) / 'file', 'mine')
  for place in (tmp_path / 'file' / 'run', tmp_path / 'file', '/proc/run'):
    with pytest.raises(UserError, match=f'cannot write {place}'):
      run_directory.begin(RunDirectory(place), config_lib.default())
