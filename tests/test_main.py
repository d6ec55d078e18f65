"""`python -m fcn_jax.main` trains with the config of its command line; errors that need jax are one sentence too."""

import json
import sys

import pytest
import tiny

from fcn_jax import config as config_lib
from fcn_jax import train
from fcn_jax.errors import UserError
from fcn_jax.run import directory, identity

CONFIG = f'--config={tiny.ROOT}/experiments/fcn16s.py'

# The command with a training that only prints its arguments.
STUB = """
import json, sys, types
train = types.ModuleType('fcn_jax.train')
def run(config, workdir, take_over, profile_steps):
  print(json.dumps([workdir, take_over, profile_steps, config.is_locked, config.to_dict()]))
  return 7
train.run = run
hosts = types.ModuleType('fcn_jax.run.hosts')
hosts.join_hosts = lambda *process: print(json.dumps(process), file=sys.stderr)
hosts.is_first_host = lambda: True
sys.modules['fcn_jax.train'], sys.modules['fcn_jax.run.hosts'] = train, hosts
import fcn_jax.run
fcn_jax.run.hosts = hosts
from fcn_jax import cli, main
cli.run(main.main, main.define_flags)
"""


def given_to_training(without_jax, *arguments):
  """What the command passes to `train.run`: workdir, take_over, profile_steps, whether config is locked, config."""
  env = {'PYTHONPATH': without_jax, 'FCN_JAX_TUNE_CPU': '0'}
  done = tiny.run([sys.executable, '-c', STUB, *arguments], env=env)
  assert done.returncode == 7, done.stderr  # the exit code is that of the training
  return json.loads(done.stdout)


def test_the_workdir_is_named_after_experiment_and_data_set(without_jax):
  assert given_to_training(without_jax, CONFIG)[0] == 'runs/fcn16s-scenes'
  assert given_to_training(without_jax, CONFIG + ':scenes')[0] == 'runs/fcn16s-scenes'
  assert given_to_training(without_jax, CONFIG, '--profile=20,25')[2] == [20, 25]
  named = given_to_training(without_jax, CONFIG + ':voc2012,recipe=scratch_small')
  assert named[0] == 'runs/fcn16s-voc2012,recipe=scratch_small' and named[-1]['recipe'] == 'scratch_small'
  assert given_to_training(without_jax, CONFIG, '--workdir=/tmp/mine', '--take_over')[:2] == ['/tmp/mine', True]


def test_the_training_gets_the_locked_config_of_file_and_overrides(without_jax):
  overrides = ['--config.optim.lr=0.5', '--config.data.train_size=32,64', '--config.model.remat=true']
  _, take_over, steps, locked, config = given_to_training(without_jax, CONFIG, *overrides)
  expected = config_lib.default('scenes')
  expected.model.stride = 16
  expected.optim.lr, expected.data.train_size, expected.model.remat = 0.5, (32, 64), True
  assert locked and not take_over and steps is None
  assert config == identity.plain(expected)


def settings(data_dir, **changes):
  """The smallest run as a config."""
  config = config_lib.default('scenes')
  changed = tiny.SETTINGS | {'model.stride': 32, 'data.train_size': (32, 32), 'data.dir': str(data_dir)}
  config.update_from_flattened_dict(changed | {name.replace('__', '.'): x for name, x in changes.items()})
  return config


# The errors below are found after jax is imported. `cli.run` prints them as one sentence, like all others.


@pytest.mark.parametrize(
  ('fields', 'words'),
  [
    ({'train__batch_size': 12}, ['train.batch_size is 12', '8 devices', 'try 16']),
    ({'eval__batch_size': 4}, ['eval.batch_size is 4', '8 devices', 'try 8']),
    (
      {'train__batch_size': 8, 'train__accumulation': 2},
      ['train.batch_size is 8', '8 devices x train.accumulation 2', 'try 16'],
    ),
  ],
  ids=str,
)
def test_a_batch_that_the_devices_cannot_share_is_an_error_before_anything_is_made(tmp_path, fields, words):
  with pytest.raises(UserError) as caught:
    train.run(settings(tmp_path / 'data', **fields), str(tmp_path / 'run'))
  assert all(word in str(caught.value) for word in words), caught.value
  assert not list(tmp_path.iterdir())


def test_the_workdir_of_another_run_is_an_error_and_stays_unchanged(tmp_path):
  directory.write_config(directory.RunDirectory(tmp_path / 'run'), settings(tmp_path / 'data'))
  before = (tmp_path / 'run' / 'config.json').read_bytes()
  with pytest.raises(UserError, match=r'run holds a run of another config: seed is 0 there, 1 here\. Use another'):
    train.run(settings(tmp_path / 'data', seed=1), str(tmp_path / 'run'))
  assert [path.name for path in tmp_path.iterdir()] == ['run']
  assert [path.name for path in (tmp_path / 'run').iterdir()] == ['config.json']
  assert (tmp_path / 'run' / 'config.json').read_bytes() == before


@pytest.mark.parametrize('place', ['{}/file/run', '{}/file', '/proc/run'])
def test_a_workdir_that_cannot_be_written_is_an_error(tmp_path, place):
  (tmp_path / 'file').write_text('mine')
  workdir = place.format(tmp_path)
  with pytest.raises(UserError, match=f'cannot write {workdir}'):
    train.run(settings(tmp_path / 'data'), workdir)
  assert [path.name for path in tmp_path.iterdir()] == ['file'] and (tmp_path / 'file').read_text() == 'mine'


def mislabel(split, index):
  """A change of one image of a split: two of its pixels get class 9."""

  def change(example):
    if (example['split'], example['index']) == (split, index):
      example['label'][3, 4:6] = 9
    return example

  return change


def test_a_wrong_label_in_the_training_images_is_an_error_before_anything_is_compiled(tmp_path):
  tiny.prepare(tmp_path / 'data', mislabel('train', 5))
  done = tiny.run(tiny.command(tmp_path / 'data', tmp_path / 'run'))
  assert done.returncode == 1
  assert done.stderr == (
    'error: train image train_00005: 2 pixels of the label semantic are 9; expected classes 0 to 7, or 255 for pixels '
    'to ignore\n'
  )
  assert 'step' not in done.stdout


@pytest.mark.slow
def test_a_wrong_label_in_the_validation_images_is_an_error_that_loses_nothing(tmp_path):
  """A thread of the evaluation after step 4 finds it."""
  tiny.prepare(tmp_path / 'data', mislabel('validation', 2))
  done = tiny.run(tiny.command(tmp_path / 'data', tmp_path / 'run'))
  assert done.returncode == 1
  expected = 'error: validation image validation_00002: 2 pixels of the label semantic are 9; expected'
  assert done.stderr.startswith(expected), done.stderr
  assert done.stderr.count('\n') == 1 and 'Traceback' not in done.stderr
  assert (tmp_path / 'run' / 'checkpoints' / '3').exists()
  status = json.loads((tmp_path / 'run' / 'status.json').read_text())
  assert status['state'] == 'failed' and 'validation_00002' in status['error']
