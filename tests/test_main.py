"""The command: what it says where something is wrong, and that it says so at once."""

import json
import os
import resource
import sys

import pytest
import tiny
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import train
from fcn_jax.errors import UserError
from fcn_jax.run import directory

CONFIG = f'--config={tiny.ROOT}/experiments/fcn16s.py'


@pytest.fixture(scope='module')
def without_jax(tmp_path_factory):
  """A PYTHONPATH with which whatever takes long to import cannot be imported at all."""
  folder = tmp_path_factory.mktemp('without_jax')
  for name in ('jax', 'flax', 'grain', 'orbax', 'optax', 'tensorflow_datasets', 'matplotlib', 'pandas'):
    (folder / f'{name}.py').write_text(f'raise SystemExit("{name} was imported")')
  return os.pathsep.join((str(folder), str(tiny.ROOT)))


@pytest.fixture
def main(without_jax, tmp_path):
  """Runs the command in an empty folder, without jax; checks that it takes no time."""

  def run(*arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = tiny.run([sys.executable, '-m', 'fcn_jax.main', *arguments], env={'PYTHONPATH': without_jax}, cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor, not of the clock: other tests may run beside this one.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    return done

  return run


def assert_said(done, *words):
  """The command ended with one sentence about an error, and made nothing."""
  assert done.returncode == 1
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
  assert 'was imported' not in done.stderr and 'Traceback' not in done.stderr
  for word in words:
    assert word in done.stderr, (word, done.stderr)
  assert done.stdout == ''


@pytest.mark.parametrize('flag', ['--help', '-h', '-help'])
def test_help_explains_the_command_and_its_flags(main, flag):
  done = main(flag)
  assert done.returncode == 0 and done.stderr == ''
  for words in ('python -m fcn_jax.main --config=experiments/fcn16s.py', '--config:', '--workdir:', 'debug:'):
    assert words in done.stdout
  assert '75' in done.stdout, 'the exit codes'


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['no config given', '--config=experiments/fcn16s.py']),
    (['--config=missing.py'], ['there is no config file missing.py', 'looked in']),
    (['--config=missing.py:scenes'], ['there is no config file missing.py']),
    (['--config=missing.py', '--config.optim.lr=1'], ['there is no config file missing.py']),
    ([f'--config={tiny.ROOT}/experiments'], ['experiments', 'not a Python file']),
    ([f'--config={tiny.ROOT}/pyproject.toml'], ['does not load', 'pyproject.toml']),
    ([CONFIG, '--config.model.strid=8'], ['there is no setting model.strid', 'did you mean model.stride?']),
    ([CONFIG, '--config.modle.stride=8'], ['there is no setting modle.stride', 'did you mean model.stride?']),
    ([CONFIG, '--config.optim.lr.x=8'], ['there is no setting optim.lr.x']),
    ([CONFIG, '--config.optim.lr=fast'], ['optim.lr', 'fast', 'float']),
    ([CONFIG, '--config.train.steps=1.5'], ['train.steps', '1.5', 'int']),
    ([CONFIG, '--config.model.remat=perhaps'], ['model.remat', 'perhaps']),
    ([CONFIG, '--config.data.train_size=a,b'], ['data.train_size', 'a']),
    ([CONFIG, '--config.optim=3'], ['optim']),
    ([CONFIG + ':scene'], ["no data set 'scene'", 'did you mean scenes?', 'expected one of scenes']),
    ([CONFIG, '--config.data.fold=1'], ['data.fold does not go with this data set']),
    ([CONFIG, '--config.data.name=scene'], ['data.name', 'did you mean scenes?']),
    ([CONFIG, '--config.model.skips=pool3'], ['pool3', 'finer than model.stride 16', 'model.stride=8']),
    ([CONFIG, '--config.optim.schedule=cosin'], ['optim.schedule', 'did you mean cosine?', 'polynomial']),
    ([CONFIG, '--config.data.train_size=64.5,64'], ['data.train_size', 'whole']),
    ([CONFIG, '--config.seed=-1'], ['seed is -1']),
    ([CONFIG, 'optim.lr=3'], ["unexpected argument 'optim.lr=3'", '--config.x=y']),
    ([CONFIG, '--workdr=x'], ['workdr', 'workdir']),
    ([CONFIG, '--nonsense'], ['nonsense', '--help']),
  ],
  ids=str,
)
def test_an_error_in_the_command_line_is_a_sentence_before_jax_is_imported(main, tmp_path, arguments, words):
  assert_said(main(*arguments), *words)
  assert not list(tmp_path.iterdir())


FILE = """
from fcn_jax.config import default


def get_config(dataset='scenes'):
  config = default(dataset)
  {}
  return config
"""


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('def get_config(:', ['does not load', 'SyntaxError', 'mine.py']),
    ('import nonsense', ['does not load', "No module named 'nonsense'"]),
    ('x = 3', ['mine.py', 'get_config']),
    ('from fcn_jax.config import default as get_config', []),
    (FILE.format('config.model.strid = 8'), ['model.strid', 'did you mean model.stride?']),
    (FILE.format('config.modle.stride = 8'), ['modle', 'model']),
    (FILE.format('config.more = 8'), ['more']),
    (FILE.format('config.model.stride = "8"'), ['mine.py', 'stride', 'int']),
    (FILE.format('config.model.stride = 7'), ['model.stride is 7']),
    (FILE.format('del config.model.stride'), ['model.stride']),
    (FILE.format('return None'), ['mine.py', 'get_config']),
    (FILE.format('return {"model": 3}'), ['mine.py', 'fcn_jax.config.default()']),
    (FILE.format('raise ValueError("my own reason")'), ['mine.py', 'my own reason']),
    (FILE.format('1 / 0'), ['mine.py', 'ZeroDivisionError', 'division by zero']),
    (FILE.format('open("weights.npz")'), ['mine.py', 'weights.npz']),
  ],
  ids=lambda value: (
    value.strip().splitlines()[-2 if 'return config' in value else -1] if isinstance(value, str) else ''
  ),
)
@pytest.mark.parametrize('override', [[], ['--config.optim.lr=0.5']], ids=['alone', 'overridden'])
def test_an_error_in_a_config_file_is_a_sentence_that_names_it(main, tmp_path, text, words, override):
  (tmp_path / 'mine.py').write_text(text)
  done = main('--config=mine.py', '--workdir=run', *override)
  if not words:  # the one that is right gets as far as jax
    assert 'was imported' in done.stderr
    return
  assert_said(done, *words)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('text', ['x = 3', FILE.format('config.model.strid = 8')], ids=['no get_config', 'typo'])
def test_the_config_file_may_stand_in_a_word_of_its_own(main, tmp_path, text):
  assert_said(main('--config', 'missing.py'), 'there is no config file missing.py')
  (tmp_path / 'mine.py').write_text(text)
  assert_said(main('--config', 'mine.py'), 'mine.py')


def test_debug_shows_where_an_error_came_from(main):
  done = main(CONFIG, '--config.model.skips=pool3', '--debug')
  assert done.returncode == 1
  assert 'Traceback' in done.stderr and 'UserError: model.skips has pool3' in done.stderr


# What Orbax leaves when a write fails: a closed loop, with writes that were never begun and one that comes too late.
LEFT_OVER = """
import asyncio, gc
from fcn_jax import cli
from fcn_jax.errors import UserError
async def write():
  await asyncio.sleep(0)
class Late:
  def __del__(self):
    raise RuntimeError('Event loop is closed')
def main(_):
  global left
  gc.disable()
  loop = asyncio.new_event_loop()
  left = [loop.create_task(write()), write(), Late()]
  left.append(left)  # gone with the interpreter only
  loop.close()
  raise UserError('the disk is full')
cli.run(main)
"""


def test_what_a_failed_write_leaves_behind_is_not_shown(without_jax):
  done = tiny.run([sys.executable, '-c', LEFT_OVER], env={'PYTHONPATH': without_jax})
  assert_said(done, 'the disk is full')
  debug = tiny.run([sys.executable, '-c', LEFT_OVER, '--debug'], env={'PYTHONPATH': without_jax})
  assert debug.returncode == 1
  assert 'never awaited' in debug.stderr and 'loop is closed' in debug.stderr


# The command with a training that only tells what it was asked for.
STUB = """
import json, sys, types
train = types.ModuleType('fcn_jax.train')
def run(config, workdir, take_over):
  print(json.dumps([workdir, config.is_locked, config.to_dict()]))
  return 7
train.run = run
parallel = types.ModuleType('fcn_jax.run.devices')
parallel.join_hosts = lambda *hosts: print(json.dumps(hosts), file=sys.stderr)
sys.modules['fcn_jax.train'], sys.modules['fcn_jax.run.devices'] = train, parallel
from fcn_jax import cli, main
cli.run(main.main)
"""


def asked(without_jax, *arguments):
  done = tiny.run([sys.executable, '-c', STUB, *arguments], env={'PYTHONPATH': without_jax})
  assert done.returncode == 7, done.stderr  # the exit code is that of the training
  return json.loads(done.stdout)


def test_the_workdir_is_named_after_experiment_and_data_set(without_jax):
  assert asked(without_jax, CONFIG)[0] == 'runs/fcn16s-scenes'
  assert asked(without_jax, CONFIG + ':scenes')[0] == 'runs/fcn16s-scenes'
  assert asked(without_jax, CONFIG, '--workdir=/tmp/mine')[0] == '/tmp/mine'


def test_the_training_gets_the_locked_config_of_file_and_overrides(without_jax):
  _, locked, config = asked(
    without_jax, CONFIG, '--config.optim.lr=0.5', '--config.data.train_size=32,64', '--config.model.remat=true'
  )
  expected = config_lib.default('scenes')
  expected.model.stride = 16
  expected.optim.lr, expected.data.train_size, expected.model.remat = 0.5, (32, 64), True
  assert locked
  assert {**config, 'data': {n: tuple(x) if isinstance(x, list) else x for n, x in config['data'].items()}} == (
    expected.to_dict()
  )


def settings(data_dir, **changes):
  """The smallest run as a config."""
  config = config_lib.default('scenes')
  changed = tiny.SETTINGS | {'model.stride': 32, 'data.train_size': (32, 32), 'data.dir': str(data_dir)}
  config.update_from_flattened_dict(changed | {name.replace('__', '.'): x for name, x in changes.items()})
  return config


# What is wrong below is found once jax is there, by functions whose errors `cli.run` makes sentences of, as seen above.


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
def test_a_batch_that_the_devices_cannot_share_is_refused_before_anything_is_made(tmp_path, fields, words):
  with pytest.raises(UserError) as caught:
    train.run(settings(tmp_path / 'data', **fields), str(tmp_path / 'run'))
  assert all(word in str(caught.value) for word in words)
  assert not list(tmp_path.iterdir())


def test_the_workdir_of_another_run_is_refused_and_stays_as_it_is(tmp_path):
  directory.write_config(epath.Path(tmp_path / 'run'), settings(tmp_path / 'data'))
  before = (tmp_path / 'run' / 'config.json').read_bytes()
  with pytest.raises(UserError, match=r'run holds a run of another config: seed is 0 there, 1 here\. Take another'):
    train.run(settings(tmp_path / 'data', seed=1), str(tmp_path / 'run'))
  assert [path.name for path in tmp_path.iterdir()] == ['run']
  assert [path.name for path in (tmp_path / 'run').iterdir()] == ['config.json']
  assert (tmp_path / 'run' / 'config.json').read_bytes() == before


@pytest.mark.parametrize('place', ['{}/file/run', '{}/file', '/proc/run'])
def test_a_workdir_that_cannot_be_written_is_a_sentence(tmp_path, place):
  (tmp_path / 'file').write_text('mine')
  workdir = place.format(tmp_path)
  with pytest.raises(UserError, match=f'cannot write {workdir}'):
    train.run(settings(tmp_path / 'data'), workdir)
  assert [path.name for path in tmp_path.iterdir()] == ['file'] and (tmp_path / 'file').read_text() == 'mine'


def mislabel(split, index):
  """A change of one picture of a split: two of its pixels get class 9."""

  def change(picture):
    if (picture['split'], picture['index']) == (split, index):
      picture['label'][3, 4:6] = 9
    return picture

  return change


def test_a_label_out_of_range_in_the_training_pictures_is_a_sentence_before_anything_is_compiled(tmp_path):
  tiny.prepare(tmp_path / 'data', mislabel('train', 5))
  done = tiny.run(tiny.command(tmp_path / 'data', tmp_path / 'run'))
  assert done.returncode == 1
  assert done.stderr == (
    'error: train picture train_00005: 2 pixels are labelled 9; expected classes 0 to 7, or 255 for pixels to ignore\n'
  )
  assert 'step' not in done.stdout


@pytest.mark.slow
def test_a_label_out_of_range_in_the_validation_pictures_is_a_sentence_and_loses_nothing(tmp_path):
  """It is found by a thread of the evaluation after step 4."""
  tiny.prepare(tmp_path / 'data', mislabel('validation', 2))
  done = tiny.run(tiny.command(tmp_path / 'data', tmp_path / 'run'))
  assert done.returncode == 1
  assert done.stderr.startswith('error: validation picture validation_00002: 2 pixels are labelled 9; expected'), (
    done.stderr
  )
  assert done.stderr.count('\n') == 1 and 'Traceback' not in done.stderr
  assert (tmp_path / 'run' / 'checkpoints' / '3').exists()
  assert '"state": "failed"' in (tmp_path / 'run' / 'status.json').read_text()
  assert 'validation_00002' in (tmp_path / 'run' / 'status.json').read_text()
