"""The command line: help, and errors in it, which are one sentence and come before jax is imported."""

import functools
import pathlib

import numpy as np
import pytest
import tiny
from command_line import assert_error, run
from PIL import Image

from fcn_jax.config import checks

CONFIG = f'--config={tiny.ROOT}/experiments/fcn16s.py'


@pytest.fixture
def command(without_jax, tmp_path):
  """Runs a command in an empty folder, without jax."""
  return functools.partial(run, without_jax=without_jax, cwd=tmp_path)


@pytest.mark.parametrize(
  ('module', 'flags'),
  [
    ('main', ['config', 'workdir', 'take_over', 'profile', 'coordinator', 'num_processes', 'process_id']),
    ('evaluate', ['config', 'workdir', 'split', 'checkpoint', 'save_predictions', 'worst', 'weights', 'out']),
    ('predict', ['config', 'workdir', 'weights', 'out', 'checkpoint', 'save', 'heatmaps', 'save_scores', 'overwrite']),
    ('bounds', ['config', 'split', 'masks', 'classes', 'out', 'overwrite']),
  ],
)
def test_help_shows_the_command_and_its_flags(command, module, flags):
  done = command(module, '--help')
  assert done.returncode == 0 and done.stderr == ''
  assert f'python -m fcn_jax.{module} --' in done.stdout
  listed = {line.split(':')[0].strip().replace('[no]', '') for line in done.stdout.splitlines() if line[:4] == '  --'}
  assert {f'--{flag}' for flag in (*flags, 'debug')} <= listed
  assert not [line for line in done.stdout.splitlines() if line.startswith('  python') and line.count('   --')], (
    'a continued line lost its backslash'
  )


def test_an_image_with_damaged_exif_data_prints_no_warning_of_pillow(command, tmp_path):
  Image.new('RGB', (8, 8)).save(tmp_path / 'a.jpg', exif=b'Exif\0\0II*\0\xff\xff\xff\xff')
  assert_error(command('predict', '--workdir=none', 'a.jpg'), 'none holds no run')


def test_a_few_steps_have_a_shorter_warmup_and_a_warmup_that_is_given_stays(command):
  arguments = [f'--config={tiny.ROOT}/experiments/width.py', '--config.train.steps=20', '--workdir=runs', '--dry_run']
  done = command('sweep', *arguments)
  assert done.returncode == 0, done.stderr
  assert 'optim.warmup is 2 instead of 40 steps, because train.steps=20' in done.stdout
  assert_error(command('sweep', *arguments, '--config.optim.warmup=30'), 'optim.warmup is 30, but train.steps is 20')


@pytest.mark.parametrize('flag', ['-h', '-help'])
def test_help_has_short_forms_and_the_exit_codes(command, flag):
  done = command('main', flag)
  assert done.returncode == 0 and done.stderr == '' and '75' in done.stdout


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['no config given', '--config=experiments/fcn16s.py']),
    (['--config=missing.py'], ['there is no config file missing.py', 'looked in']),
    (['--config=missing.py:scenes'], ['there is no config file missing.py']),
    (['--config=~/missing.py:scenes'], [f'there is no config file {pathlib.Path.home()}/missing.py']),
    (['--config=s3://bucket/x.py'], ['--config=s3://bucket/x.py is an address; expected a Python file on a disk']),
    (['--workdir=x', '--config.optim.lr=1'], ['--config.optim.lr cannot be set without --config=FILE']),
    (['--workdir=x', '--config.data.dir=/x'], ['no config given']),
    (['--config=missing.py', '--config.optim.lr=1'], ['there is no config file missing.py']),
    ([f'--config={tiny.ROOT}/experiments'], ['experiments is a folder; expected a Python file']),
    ([f'--config={tiny.ROOT}/pyproject.toml'], ['does not load', 'pyproject.toml']),
    # Settings.
    ([CONFIG, '--config.model.strid=8'], ['there is no setting model.strid', 'did you mean model.stride?']),
    ([CONFIG, '--config.optim.learning_rate=1'], ['no setting optim.learning_rate', 'did you mean optim.lr?']),
    ([CONFIG, '--lr=0.1'], ["flag 'lr'", '(did you mean --config.optim.lr?)']),
    ([CONFIG, '--config.model.stride=4s'], ["model.stride is '4s'; expected int, like 8"]),
    ([CONFIG, '--config.train.epochs=1', '--config.train.steps=300'], ['train.steps is 300', 'drop train.epochs']),
    ([CONFIG, '--config.workdir=x'], ['there is no setting workdir; it is a flag: --workdir=']),
    ([CONFIG, '--config.modle.stride=8'], ['there is no setting modle.stride', 'did you mean model.stride?']),
    ([CONFIG, '--config.optim.lr.x=8'], ['there is no setting optim.lr.x']),
    ([CONFIG, '--config.qqq=8'], ['there is no setting qqq', 'fcn_jax/config/defaults.py lists all']),
    ([CONFIG, '--config.data.fold=1'], ['data.fold is not a setting of this data set']),
    ([CONFIG, '--config.optim.lr=fast'], ['optim.lr', 'fast', 'float']),
    ([CONFIG, '--config.train.steps=1.5'], ['train.steps', '1.5', 'int']),
    ([CONFIG, '--config.model.remat=perhaps'], ['model.remat', 'perhaps']),
    ([CONFIG, '--config.data.train_size=a,b'], ['data.train_size', 'a']),
    ([CONFIG, '--config.data.train_size=64.5,64'], ['data.train_size', 'whole']),
    ([CONFIG, '--config.optim=3'], ['optim']),
    ([CONFIG, '--config.model.skips=pool3'], ['pool3', 'finer than model.stride 16', 'model.stride=8']),
    ([CONFIG, '--config.optim.schedule=cosin'], ['optim.schedule', 'did you mean cosine?', 'polynomial']),
    ([CONFIG, '--config.seed=-1'], ['seed is -1']),
    *(([CONFIG, f'--config.{old}=1'], [f'{old} is now called {new}']) for old, new in checks.RENAMED.items()),
    ([CONFIG, '--config.data.mean=1,2,3'], ['data.mean is now called model.mean']),
    ([CONFIG, '--config.optim.freeze_trunk'], ['optim.freeze_trunk is now called optim.freeze_backbone']),
    # The argument of the config file.
    ([CONFIG + ':scens'], ["no data set 'scens'", 'did you mean scenes?', 'expected one of scenes']),
    ([CONFIG + ':my.module'], ["no data set 'my.module'", 'dotted path']),
    ([CONFIG + ':voc2012,recipe=scratch_smal'], ["no recipe 'scratch_smal'", 'did you mean scratch_small?']),
    ([CONFIG + ':voc2012,recip=x'], ["'voc2012,recip=x'", 'expected DATASET or DATASET,recipe=NAME']),
    ([CONFIG, '--config.data.name=scenes'], ['--config.data.name cannot be set', 'write --config=FILE:DATASET']),
    ([CONFIG, '--config.data.name', 'scenes'], ['--config.data.name cannot be set', 'write --config=FILE:DATASET']),
    ([CONFIG, '--config.recipe=scratch_full'], ['--config.recipe cannot be set', '--config=FILE:DATASET,recipe=NAME']),
    # Flags and arguments.
    ([CONFIG, 'optim.lr=3'], ["unexpected argument 'optim.lr=3'", '--config.x=y']),
    ([CONFIG, '--workdr=x'], ['workdr', 'workdir']),
    ([CONFIG, '--nonsense'], ['nonsense', '--help']),
    ([CONFIG, '--coordinator=a:1'], ['--coordinator, --num_processes and --process_id', 'together']),
    ([CONFIG, '--profile=20'], ["--profile is '20'", 'FROM,TO', '1 to 800 (train.steps)']),
    ([CONFIG, '--profile=0,5'], ["--profile is '0,5'"]),
    ([CONFIG, '--profile=7,6'], ["--profile is '7,6'"]),
    ([CONFIG, '--profile=700,801'], ["--profile is '700,801'"]),
    ([CONFIG, '--coordinator=a:1', '--num_processes=2', '--process_id=2'], ['--process_id is 2', 'expected 0 to 1']),
  ],
  ids=str,
)
def test_an_error_in_the_command_line_of_main(command, tmp_path, arguments, words):
  assert_error(command('main', *arguments), *words)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['nothing to score', '--workdir=RUN', '--weights=FILE']),
    ([CONFIG], ['nothing to score', '--weights=FILE']),
    (['--weights=fcn.npz'], ['no config given']),
    (['--weights=fcn.npz', CONFIG, '--config.model.strid=8'], ['did you mean model.stride?']),
    (['--workdir=run', 'photo.jpg'], ["unexpected argument 'photo.jpg'", '--help']),
    (['--workdir=here'], ['here holds no run', 'config.json']),
    (['--workdir=nowhere'], ['nowhere holds no run']),
    (['--workdir=here', '--checkpoint=first'], ['checkpoint', 'first', 'last', 'best']),
    (['--workdir=here', '--config.optim.lr=1'], ['--config.optim.lr cannot be set', 'data.dir', 'data.threads']),
    (['--workdir=here', '--config.data.fold', '1'], ['--config.data.fold cannot be set without --config=FILE']),
    (['--workdir=here', '--config.data.dir=/x'], ['here holds no run']),
    (['--weights=fcn.npz', '--config.data.dir=/x'], ['no config given for --config.data.dir']),
    (['--weights=fcn.npz', CONFIG, '--checkpoint=best'], ['--checkpoint=best requires --workdir=RUN']),
    (['--workdir=here', CONFIG], ['--config and --weights cannot be combined with --workdir']),
    (['--upper_bounds'], ['python -m fcn_jax.bounds']),
    (['--upper_bounds', '--masks=masks', '--classes=4'], ['python -m fcn_jax.bounds --config=... or --masks=FOLDER']),
    (['--upper_bounds', CONFIG], ['python -m fcn_jax.bounds']),
  ],
  ids=str,
)
def test_an_error_in_the_command_line_of_evaluate(command, tmp_path, arguments, words):
  (tmp_path / 'here').mkdir()
  assert_error(command('evaluate', *arguments), *words)
  assert [path.name for path in tmp_path.rglob('*')] == ['here']


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['nothing to predict with', '--workdir=RUN', '--weights=FILE']),
    ([CONFIG, 'photo.png'], ['nothing to predict with', 'both --config=... and --weights=FILE']),
    (['--weights=fcn.npz', 'photo.png'], ['nothing to predict with', 'both --config=... and --weights=FILE']),
    (['--workdir=run', CONFIG, 'photo.png'], ['nothing to predict with']),
    (['--workdir=run'], ['no images', 'photo.jpg folder/']),
    (['--workdir=run', 'photo.png'], ['run holds no run', 'there is no folder of this name']),
    (['--workdir=run', 'photo.png', '--checkpoint=first'], ['checkpoint', 'first', 'last', 'best']),
    (['--workdir=run', 'photo.png', '--config.data.dir=/x'], ['run holds no run']),
    (['--workdir=run', 'photo.png', '--config.model.stride=8'], ['cannot be set without --config=FILE']),
    (['--workdir=run', 'photo.png', '--palette=x'], ['palette', '--help']),
    (['--weights=fcn.npz', CONFIG + ':scens', 'photo.png'], ['did you mean scenes?']),
  ],
  ids=str,
)
def test_an_error_in_the_command_line_of_predict(command, tmp_path, arguments, words):
  Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / 'photo.png')
  assert_error(command('predict', *arguments), *words)
  assert [path.name for path in tmp_path.iterdir()] == ['photo.png']


def make_masks(folder):
  """Folders of masks, each with another mistake."""
  rng = np.random.default_rng(0)
  label = rng.integers(0, 3, (5, 6), np.uint8)
  with_three = label.copy()
  with_three[1, 2] = 3
  files = {
    'masks/a.png': label,
    'masks/b.png': with_three,
    'colors/a.png': np.dstack([label] * 3),
    'deep/a.png': label.astype(np.uint16),
    'cut/a.png': rng.integers(0, 3, (90, 90), np.uint8),
  }
  for name, pixels in files.items():
    (folder / name).parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / name)
  whole = (folder / 'cut' / 'a.png').read_bytes()
  (folder / 'cut' / 'a.png').write_bytes(whole[: len(whole) // 2])
  (folder / 'broken').mkdir()
  (folder / 'broken' / 'a.png').write_text('no image')


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['either --config', 'or --masks=FOLDER with --classes=N']),
    (['--masks=masks', '--classes=4', CONFIG], ['either --config', 'or --masks=FOLDER with --classes=N']),
    (['--config=missing.py'], ['there is no config file missing.py']),
    ([CONFIG, '--config.model.stride=7'], ['model.stride is 7']),
    ([CONFIG, 'masks'], ["unexpected argument 'masks'"]),
    (['--masks=masks', '--classes=4', '--config.data.dir=x'], ['no config given for --config.data.dir']),
    (['--masks=masks', '--classes=4', '--out=masks/a.png'], ['masks/a.png is an input of this command']),
    (['--masks=masks'], ['--masks requires --classes=N']),
    (['--masks=masks', '--classes=0'], ['classes', '[1, 255]']),
    (['--masks=nowhere', '--classes=4'], ['cannot read nowhere: No such file']),
    (['--masks=masks', '--classes=3'], ['masks/b.png has the class 3; expected 0 to 2, or 255']),
    (['--masks=colors', '--classes=4'], ['cannot read colors/a.png', 'color mode is RGB']),
    (['--masks=deep', '--classes=4'], ['cannot read deep/a.png', '16; expected class numbers']),
    (['--masks=broken', '--classes=4'], ['cannot read broken/a.png']),
    (['--masks=cut', '--classes=4'], ['cannot read cut/a.png']),
  ],
  ids=str,
)
def test_an_error_in_the_command_line_of_bounds(command, tmp_path, arguments, words):
  make_masks(tmp_path)
  before = sorted(tmp_path.rglob('*'))
  assert_error(command('bounds', *arguments), *words)
  assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('text', ['x = 3', "raise ValueError('a reason')"])
def test_the_config_file_may_be_a_separate_word(command, tmp_path, text):
  assert_error(command('main', '--config', 'missing.py'), 'there is no config file missing.py')
  (tmp_path / 'mine.py').write_text(text)
  assert_error(command('main', '--config', 'mine.py'), 'mine.py')


def test_commands_can_be_imported_together_and_define_no_flags():
  from absl import flags

  import fcn_jax.bounds
  import fcn_jax.evaluate
  import fcn_jax.main
  import fcn_jax.predict  # noqa: F401

  assert not {'workdir', 'config', 'debug'} & set(flags.FLAGS)
