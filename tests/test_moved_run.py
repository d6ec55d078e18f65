"""A run that was copied to another machine: where the data are can be given, and other data are refused."""

import hashlib
import pathlib
import shutil

import numpy as np
import pytest
import tiny
import untrained
from absl.testing import flagsaver
from command_line import flags_of

from fcn_jax import cli, evaluate, train
from fcn_jax.data import dataset
from fcn_jax.errors import UserError
from fcn_jax.run import directory, environment, saved


def change_one_mask(image):
  if (image['split'], image['index']) == ('validation', 3):
    image['label'] = np.where(image['label'] == 0, 1, image['label'])
  return image


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with `run`, which stopped at step 7, its `data`, and `other` data, in which one mask differs."""
  folder = tmp_path_factory.mktemp('moved')
  tiny.prepare(folder / 'data')
  tiny.prepare(folder / 'other', change_one_mask)
  settings = {'data.dir': str(folder / 'data'), 'eval.batch_size': 8, 'train.batch_size': 8, 'model.stride': 32}
  untrained.write(folder / 'run', **{name.replace('.', '__'): x for name, x in settings.items()})
  run = directory.RunDirectory(folder / 'run')
  environment.add_environment(run, ['cpu'], dataset.load(saved.read_config(run.path).data).fingerprint)
  run.status(100).write('preempted', 7)
  for name in ('eval/validation.json', 'metrics.jsonl', 'timing.jsonl'):
    run.write(name, '')
  return folder


@pytest.fixture
def run(folder, tmp_path):
  shutil.copytree(folder / 'run', tmp_path / 'run', copy_function=shutil.copy2)
  return directory.RunDirectory(tmp_path / 'run').path


def contents(workdir) -> dict:
  """The content and the time of every file and folder."""
  return {
    path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None)
    for path in pathlib.Path(workdir).rglob('*')
  }


def evaluated(monkeypatch, *settings, **flags):
  """Runs `evaluate` in this process; `settings` are flags like --config.data.dir=FOLDER."""
  monkeypatch.setattr(cli, '_of_run', list(settings))
  with flags_of(evaluate), flagsaver.flagsaver(**flags):
    evaluate.main([])


@pytest.mark.parametrize('command', ['evaluate', 'main'])
def test_data_that_differ_in_one_mask_are_refused_and_no_file_of_the_run_changes(folder, run, monkeypatch, command):
  before = contents(run)
  with pytest.raises(UserError) as caught:
    if command == 'evaluate':
      evaluated(monkeypatch, f'--config.data.dir={folder}/other', workdir=str(run))
    else:
      config = saved.read_config(run)
      config.data.dir = f'{folder}/other'
      train.run(config, str(run))
  for data_dir in ('data', 'other'):
    data = saved.read_config(run).data
    data.dir = str(folder / data_dir)
    assert dataset.load(data).fingerprint in str(caught.value)
  assert '--config.data.dir=FOLDER' in str(caught.value)
  assert contents(run) == before


def test_data_are_not_prepared_in_a_folder_that_does_not_exist_here(folder, run, monkeypatch, tmp_path):
  config = saved.read_config(run)
  config.data.dir = str(tmp_path / 'home' / 'data')
  directory.write_config(directory.RunDirectory(run), config)
  before = contents(run)
  with pytest.raises(UserError, match=r'were in .*/home/data, which does not exist here; .* --config.data.dir=FOLDER'):
    evaluated(monkeypatch, workdir=str(run))
  assert contents(run) == before and not (tmp_path / 'home').exists()


def test_a_run_without_starts_is_compared_with_its_data_json(run):
  (run / 'env.json').unlink()
  with pytest.raises(UserError, match="fingerprint is 'x'; expected 'none'"):
    environment.check_fingerprint(directory.RunDirectory(run), 'x')


def test_settings_of_where_the_data_are_change_nothing_else(run, monkeypatch):
  config = saved.read_config(run)
  monkeypatch.setattr(cli, '_of_run', ['--config.data.dir=~/x', '--config.data.threads=9', '-config.data.cache_gib=1'])
  changed = cli.relocated(config)
  assert (changed.data.dir, changed.data.threads, changed.data.cache_gib) == ('~/x', 9, 1.0)
  assert config.data.threads == 4, 'the argument stays as it was'
  with changed.unlocked():
    changed.data.update(dir=config.data.dir, threads=4, cache_gib=config.data.cache_gib)
  assert changed.to_json() == config.to_json()


@pytest.mark.parametrize(
  ('setting', 'words'),
  [
    ('data.archive=/a.tar', 'no setting data.archive'),
    ('data.threads=two', 'invalid literal'),
    ('data.threads=0', 'data.threads is 0; expected 1 or more'),
    ('data.train_size=3,3', 'cannot be set without --config=FILE.*data.dir, data.folder, data.archive'),
    ('data.root=/x', 'no setting data.root'),
  ],
)
def test_other_settings_and_values_are_refused(run, monkeypatch, setting, words):
  monkeypatch.setattr(cli, '_of_run', [f'--config.{setting}'])
  with pytest.raises(UserError, match=words):
    cli.relocated(saved.read_config(run))


def test_a_setting_of_a_module_outside_the_package_may_say_where_its_data_are(run, monkeypatch):
  config = saved.read_config(run)
  with config.unlocked():
    config.data.name, config.data.root = 'my_package.my_data', '/data/mine'
  monkeypatch.setattr(cli, '_of_run', ['--config.data.root=/here'])
  assert cli.relocated(config).data.root == '/here'
