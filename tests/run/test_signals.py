"""A signal ends a program with its exit code, and a run after it has saved; a second one ends it at once."""

import errno
import logging
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
import tiny

from fcn_jax.run import signals
from fcn_jax.run.signals import EXIT_CODES, SIGNALS, SUPERSEDED, StopSignals

COMMANDS = ('main', 'evaluate', 'predict', 'bounds', 'sweep', 'runs', 'report', 'weights')


@pytest.fixture(autouse=True)
def restored():
  """Handlers of the tests, however a test ends. Under nohup, SIGHUP is ignored, which commands would leave so."""
  before = {number: signal.getsignal(number) for number in SIGNALS}
  signal.signal(signal.SIGHUP, signal.SIG_DFL)
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_is_recorded_and_logged(number, caplog):
  caplog.set_level(logging.INFO, 'fcn_jax')
  with StopSignals() as stop:
    assert stop.signal is None
    signal.raise_signal(number)
    assert stop.signal is number
  assert len(caplog.messages) == 1 and caplog.messages[0].startswith(f'{number.name}: stopping')


@pytest.mark.parametrize(
  ('first', 'second', 'seconds', 'ends'),
  [
    (signal.SIGTERM, signal.SIGTERM, 5, True),
    (signal.SIGUSR1, signal.SIGUSR1, 5, True),
    (signal.SIGTERM, signal.SIGINT, 5, True),
    (signal.SIGINT, signal.SIGINT, 5, True),
    (signal.SIGTERM, signal.SIGTERM, 0.5, False),  # a scheduler signals all processes, and a sweep its runs
    (signal.SIGUSR1, signal.SIGTERM, 60, False),  # SLURM: before the limit, and at the limit
  ],
)
def test_a_repeated_signal_ends_the_process_with_its_exit_code(monkeypatch, first, second, seconds, ends):
  codes = []
  monkeypatch.setattr(os, '_exit', codes.append)
  with StopSignals() as stop:
    signal.raise_signal(first)
    stop._time -= seconds
    signal.raise_signal(second)
  assert codes == ([EXIT_CODES[second]] if ends else [])


def test_the_previous_handlers_are_restored():
  before = [signal.getsignal(number) for number in SIGNALS]
  with pytest.raises(ZeroDivisionError), StopSignals():
    assert not set(before) & {signal.getsignal(number) for number in SIGNALS}
    raise ZeroDivisionError
  assert [signal.getsignal(number) for number in SIGNALS] == before


def test_exit_codes_are_those_that_schedulers_and_shells_expect():
  three = {signal.SIGTERM: 75, signal.SIGHUP: 75, signal.SIGUSR1: 75}
  assert three | {signal.SIGINT: 130, SUPERSEDED: 75} == EXIT_CODES


def test_a_signal_that_was_ignored_stays_ignored():
  """As by `nohup`."""
  signal.signal(signal.SIGHUP, signal.SIG_IGN)
  with StopSignals() as stop:
    signal.raise_signal(signal.SIGHUP)
    assert stop.signal is None
  signals.install()
  signal.raise_signal(signal.SIGHUP)
  assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_closed_terminal_does_not_stop_the_run_from_saving(monkeypatch):
  """Every write to it fails, including that of the message."""
  saved = [os.dup(number) for number in (1, 2)]
  ours, theirs = pty.openpty()
  try:
    for number in (1, 2):
      os.dup2(theirs, number)
    os.close(theirs)
    with StopSignals() as stop:
      os.close(ours)
      with pytest.raises(OSError) as caught:
        os.write(1, b'lost')
      assert caught.value.errno == errno.EIO
      logger = logging.getLogger('fcn_jax.run.signals')
      monkeypatch.setattr(logger, 'info', lambda *_: os.write(1, b'lost'))
      signal.raise_signal(signal.SIGHUP)
      assert stop.signal is signal.SIGHUP
      assert os.write(1, b'nowhere') and os.write(2, b'nowhere')
  finally:
    for number, copy in zip((1, 2), saved, strict=True):
      os.dup2(copy, number)
      os.close(copy)


# A signal that the test runner ignores, as in the background of a shell, is not ignored by the program.
START = """
import os, signal, sys
for name in ('SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1'):
  signal.signal(signal.Signals[name], signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def start(*arguments, **env):
  return tiny.start([sys.executable, '-c', START, *arguments], env={'FCN_JAX_TUNE_CPU': '0'} | env)


def end_of(process, number) -> None:
  """Sends a signal as soon as the program has printed a line, and checks how it ends."""
  assert process.stdout.readline() == 'ready\n', process.communicate()
  process.send_signal(number)
  output, errors = process.communicate(timeout=60)
  words = 'interrupted' if number == signal.SIGINT else f'stopped by {number.name}'
  assert (process.returncode, output, errors) == (EXIT_CODES[number], '', f'{words}\n')


@pytest.fixture
def slow_imports(tmp_path):
  """A PYTHONPATH with packages whose imports never end."""
  for name in ('absl', 'numpy', 'pandas'):
    (tmp_path / f'{name}.py').write_text('import time\nprint("ready", flush=True)\ntime.sleep(60)\n')
  return os.pathsep.join((str(tmp_path), str(tiny.ROOT)))


@pytest.mark.parametrize('command', COMMANDS)
def test_a_command_that_still_imports_ends_with_the_exit_code(command, slow_imports):
  number = SIGNALS[COMMANDS.index(command) % len(SIGNALS)]
  end_of(start('-m', f'fcn_jax.{command}', PYTHONPATH=slow_imports), number)


COMMAND = """
import os, signal, subprocess, sys, time
from fcn_jax import cli, machine

def main(_):
  print(signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
  program = 'import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)'
  subprocess.run([sys.executable, '-c', program])
  print('ready', flush=True)
  try:
    time.sleep(60)
  except BaseException:
    print('a library catches everything')

tune = machine.tune_for_cpu

def tune_for_cpu():
  if os.environ.pop('SIGNAL', ''):
    os.kill(os.getpid(), signal.SIGUSR1)
  tune()

machine.tune_for_cpu = tune_for_cpu
print('start', flush=True)
cli.run(main)
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_command_ends_with_the_exit_code_and_neither_it_nor_its_children_block_signals(number):
  process = start('-c', COMMAND, FCN_JAX_TUNE_CPU='1', GLIBC_TUNABLES='')
  lines = [process.stdout.readline() for _ in range(4)]
  assert lines == ['start\n', 'start\n', 'set()\n', 'set()\n'], 'the program restarts once'
  end_of(process, number)


def test_a_signal_during_the_restart_that_tunes_memory_reaches_the_new_program():
  # Without threads: one of numpy could take the signal for the old program, which would end before the restart.
  env = {'FCN_JAX_TUNE_CPU': '1', 'GLIBC_TUNABLES': '', 'OPENBLAS_NUM_THREADS': '1', 'SIGNAL': '1'}
  process = start('-c', COMMAND, **env)
  assert process.communicate(timeout=60) == ('start\nstart\n', 'stopped by SIGUSR1\n') and process.returncode == 75


def test_importing_a_command_installs_no_handlers():
  program = 'import signal, importlib\nbefore = [signal.getsignal(n) for n in range(1, 65)]\n'
  program += f'for name in {COMMANDS}: importlib.import_module(f"fcn_jax.{{name}}")\n'
  program += 'import fcn_jax.data.__main__, fcn_jax.sweep.__main__, fcn_jax.report.__main__, fcn_jax.weights.__main__\n'
  program += 'assert before == [signal.getsignal(n) for n in range(1, 65)]'
  subprocess.run([sys.executable, '-c', program], check=True)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_data_is_prepared_ends_the_command(tmp_path, number):
  """At once: there is nothing to save. The same command prepares the data again."""
  command = tiny.command(tmp_path / 'data', tmp_path / 'run')
  process = start(*command[1:])
  try:
    tiny.until(lambda: (tmp_path / 'data').exists(), process)
    time.sleep(0.3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
  finally:
    process.kill()
  assert process.returncode == EXIT_CODES[number] and 'Traceback' not in errors
  assert not (tmp_path / 'run' / 'status.json').exists()
