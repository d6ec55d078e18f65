"""Runs commands without jax or in this process, for the tests of commands."""

import contextlib
import resource
import sys

import pytest
import tiny
from absl import flags
from absl.testing import flagsaver


def run(module: str, *arguments, without_jax: str, cwd, **env):
  """Runs `python -m fcn_jax.MODULE` without jax; checks that it takes less than three seconds of processor time."""
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  command = [sys.executable, '-m', f'fcn_jax.{module}', *map(str, arguments)]
  # Without the restart that tunes memory (`machine.tune_for_cpu`), which doubles the time.
  done = tiny.run(command, env={'PYTHONPATH': without_jax, 'FCN_JAX_TUNE_CPU': '0'} | env, cwd=cwd)
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  # Processor time and not wall time: other tests may run at the same time.
  assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3  # a first start compiles modules, too
  return done


def assert_error(done, *words) -> None:
  """Asserts that a command ended with a one-sentence error with these words, before it printed anything else."""
  assert done.returncode == 1
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
  assert 'was imported' not in done.stderr and 'Traceback' not in done.stderr
  for word in words:
    assert word in done.stderr, (word, done.stderr)
  assert done.stdout == ''


def call(module, *arguments, **options) -> int:
  """Runs a command, whose flags are defined, in this process; returns its exit code."""
  with flagsaver.flagsaver(**options), pytest.raises(SystemExit) as caught:
    module.main([str(argument) for argument in arguments])
  return caught.value.code


@contextlib.contextmanager
def flags_of(module):
  """Defines the flags of a command module, with their defaults, so that its `main` can be called in this process."""
  before = set(flags.FLAGS)
  module.define_flags()
  try:
    yield
  finally:
    for name in set(flags.FLAGS) - before:
      delattr(flags.FLAGS, name)
