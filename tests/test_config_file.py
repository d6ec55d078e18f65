"""Errors in a config file are one sentence; `--debug` shows more; messages are plain lines."""

import functools
import sys

import pytest
import tiny
from command_line import assert_error, run

CONFIG = f'--config={tiny.ROOT}/experiments/fcn16s.py'


@pytest.fixture
def main(without_jax, tmp_path):
  """Runs `python -m fcn_jax.main` in an empty folder, without jax."""
  return functools.partial(run, 'main', without_jax=without_jax, cwd=tmp_path)


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
    (FILE.format('config.data.mean = (1.0, 1.0, 1.0)'), ['data.mean is now called model.mean']),
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
def test_an_error_in_a_config_file_is_one_sentence_that_names_the_file(main, tmp_path, text, words, override):
  (tmp_path / 'mine.py').write_text(text)
  done = main('--config=mine.py', '--workdir=run', *override)
  if not words:  # the file without an error gets as far as importing jax
    assert 'was imported' in done.stderr
    return
  assert_error(done, *words)
  assert not (tmp_path / 'run').exists()


def test_a_recipe_after_the_data_set_is_valid(main):
  assert 'was imported' in main(CONFIG + ':voc2012,recipe=scratch_small').stderr


def test_debug_shows_the_traceback_of_an_error(main):
  done = main(CONFIG, '--config.model.skips=pool3', '--debug')
  assert done.returncode == 1
  assert 'Traceback' in done.stderr and 'UserError: model.skips has pool3' in done.stderr
  done = main(CONFIG, '--config.model.strid=3', '--debug')
  assert done.returncode == 1
  assert 'Traceback' in done.stderr and 'UserError: there is no setting model.strid' in done.stderr


def script(without_jax, text, *arguments, **env):
  return tiny.run([sys.executable, '-c', text, *arguments], env={'PYTHONPATH': without_jax} | env)


# What Orbax leaves if a write fails: a closed loop, with writes that never began and one that comes too late.
LEFT_OVER = """
import asyncio, atexit
from fcn_jax import cli
from fcn_jax.errors import UserError
async def write():
  await asyncio.sleep(0)
class Late:
  def __del__(self):
    raise RuntimeError('Event loop is closed')
def main(_):
  loop = asyncio.new_event_loop()
  left = [loop.create_task(write()), write(), Late()]
  atexit.register(left.clear)
  loop.close()
  raise UserError('the disk is full')
cli.run(main)
"""


def test_what_a_failed_write_leaves_behind_is_shown_with_debug_only(without_jax):
  assert_error(script(without_jax, LEFT_OVER), 'the disk is full')
  debug = script(without_jax, LEFT_OVER, '--debug')
  assert debug.returncode == 1
  assert 'never awaited' in debug.stderr and 'loop is closed' in debug.stderr


MESSAGES = """
import logging
from absl import logging as absl_logging
from fcn_jax import cli
from fcn_jax.run import messages
def main(_):
  ours, library = logging.getLogger('fcn_jax.some.module'), logging.getLogger('library')
  ours.debug('our detail')
  ours.info('%s [bold]line[/bold] [%d]', 'a ' + 90 * 'long ', 3)
  ours.warning('our warning')
  library.info('message of a library')
  library.warning('warning of a library')
  absl_logging.info('message by absl')
  if MUTED:
    messages.mute()
    ours.info('of another host')
    ours.warning('warning of another host')
cli.run(main)
"""


def test_messages_are_plain_lines_on_standard_output(without_jax):
  done = script(without_jax, f'MUTED = False\n{MESSAGES}')
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.splitlines() == [f'a {90 * "long "} [bold]line[/bold] [3]', 'our warning']


def test_debug_shows_the_messages_of_the_libraries(without_jax):
  done = script(without_jax, f'MUTED = False\n{MESSAGES}', '--debug')
  assert done.returncode == 0
  for message in ('message of a library', 'warning of a library', 'message by absl'):
    assert done.stderr.count(message) == 1 and message not in done.stdout
  assert done.stdout.splitlines()[-1] == 'our warning'


def test_another_host_prints_warnings_only(without_jax):
  done = script(without_jax, f'MUTED = True\n{MESSAGES}')
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.splitlines()[1:] == ['our warning', 'warning of another host']


TUNED = """
import json, os
from fcn_jax import cli
print('started')
cli.run(lambda _: print(json.dumps({name: os.environ.get(name, '') for name in ('XLA_FLAGS', 'GLIBC_TUNABLES')})))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='the restart sets a variable of glibc')
@pytest.mark.parametrize(('switch', 'starts'), [('1', 2), ('0', 1)])
def test_a_command_restarts_itself_to_tune_memory_unless_it_is_switched_off(without_jax, tmp_path, switch, starts):
  (tmp_path / 'command.py').write_text(TUNED)
  env = {'PYTHONPATH': without_jax, 'FCN_JAX_TUNE_CPU': switch, 'GLIBC_TUNABLES': '', 'XLA_FLAGS': ''}
  done = tiny.run([sys.executable, str(tmp_path / 'command.py')], env=env)
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.count('started') == starts
  assert ('hugetlb' in done.stdout) == (switch == '1') and ('xla' in done.stdout) == (switch == '1')
