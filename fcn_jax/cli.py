"""What all commands share: how flags and configs are read, and how errors reach the reader.

Nothing here may import jax: `--help` and every error in a command line come at once.
"""

import itertools
import logging as python_logging
import os
import sys
import traceback
import warnings

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from fcn_jax import config as config_lib
from fcn_jax import machine
from fcn_jax.errors import UserError

EXIT_INTERRUPTED = 130  # 128 + SIGINT, what shells expect after Ctrl-C
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')


def run(main, define_flags=lambda: None) -> None:
  """Runs `main(arguments)` after `define_flags()`; a `UserError` becomes a sentence and exit code 1."""
  define_flags()
  messages = python_logging.getLogger('fcn_jax')
  messages.addHandler(_Stdout())
  messages.setLevel(python_logging.INFO)
  messages.propagate = False
  machine.tune_for_cpu()
  if '--debug' not in sys.argv:
    # TFDS and Orbax tell of every step that they take, and of a file that cannot be read or written in hundreds of
    # lines from several threads; `checkpoint` says it in a sentence.
    logging.set_verbosity(logging.FATAL)
    python_logging.getLogger('asyncio').setLevel(python_logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    # Where a write fails, Orbax closes its event loop over the writes that have not begun.
    warnings.filterwarnings('ignore', 'coroutine .* was never awaited', RuntimeWarning)
  app.run(lambda argv: _guarded(main, argv[1:]), flags_parser=lambda argv: _guarded(_parse, argv))


class _Stdout(python_logging.StreamHandler):
  """Writes to the `sys.stdout` of the moment: a live table of rich puts its own in place, to print above itself."""

  @property
  def stream(self):
    return sys.stdout

  @stream.setter
  def stream(self, _) -> None:
    pass


def define_config() -> None:
  """Defines `--config=FILE[:DATASET]` and `--config.section.field=value`; `config()` reads them."""
  config_flags.DEFINE_config_file(
    'config',
    None,
    'Config file and data set, as experiments/fcn16s.py:scenes; '
    'any setting (fcn_jax/config.py) is overridden as --config.optim.lr=1e-3.',
  )


def config() -> ml_collections.ConfigDict:
  """The config of the command line, overridden, validated and locked."""
  value = flags.FLAGS['config'].value
  if value is None:
    if path := config_path():
      raise UserError(f'{path}: get_config() returned nothing; expected a config made by fcn_jax.config.default()')
    raise UserError('no config given; try --config=experiments/fcn16s.py')
  try:
    sections = set(value)  # where the file did not load, ml_collections raises at the first touch
  except OSError as error:
    raise UserError(_not_loaded(error)) from error
  if not {'model', 'data', 'train'} <= sections or not isinstance(value.model, ml_collections.ConfigDict):
    raise UserError(f'{config_path()}: get_config() does not start from fcn_jax.config.default()')
  try:
    config_lib.validate(value)
  except UserError as error:
    raise UserError(f'{error} ({config_path()})') from error
  return value


def default_workdir(data_name: str) -> str:
  """runs/EXPERIMENT-ARGUMENT, the argument of the config file being the data set where none is given."""
  path, _, argument = config_flags.get_config_filename(flags.FLAGS['config']).partition(':')
  return f'runs/{os.path.splitext(os.path.basename(path))[0]}-{argument or data_name}'


def _guarded(function, argv):
  try:
    return function(argv)
  except UserError as error:
    if '--debug' in sys.argv:  # not the flag: the error may be about the flags
      raise
    sys.exit(f'error: {error}')
  except BrokenPipeError:  # as `| head` leaves it
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(EXIT_BROKEN_PIPE)
  except KeyboardInterrupt:
    sys.stderr.write('\ninterrupted\n')
    sys.exit(EXIT_INTERRUPTED)


def _parse(argv: list[str]) -> list[str]:
  if {'--help', '-h', '-help'} & set(argv):
    # absl's own begins with sixty lines about its own flags, and exits with 1.
    print(sys.modules['__main__'].__doc__, flags.FLAGS.main_module_help(), flags.FLAGS.module_help(__name__), sep='\n')
    sys.exit(0)
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    if 'parsing config file' in str(error):  # by ml_collections, with a traceback as its message
      reason = str(error).strip().splitlines()[-1]
      raise UserError(f'the config file {config_path(argv)} does not load: {reason}') from error
    raise UserError(f'{error} (see --help)') from error
  except UserError:
    raise
  except OSError as error:
    raise UserError(_not_loaded(error)) from error
  except Exception as error:  # whatever a config file may raise
    if isinstance(error, AttributeError | KeyError) and not _raised_in(error, config_path(argv)):
      raise UserError(_wrong_field(argv)) from error  # ml_collections walks to the field that an override names
    raise UserError(_not_loaded(error, argv)) from error


def _raised_in(error: Exception, path: str) -> bool:
  frames = traceback.extract_tb(error.__traceback__)
  return any(os.path.abspath(frame.filename) == os.path.abspath(path) for frame in frames)


def config_path(argv: list[str] | None = None) -> str:
  """The config file that the command line names, without its argument; '' where there is none."""
  words = list(argv or sys.argv)
  given = [a.removeprefix('--config=') for a in words if a.startswith('--config=')]
  given += [path for flag, path in itertools.pairwise(words) if flag == '--config']
  return given[-1].split(':')[0] if given else ''


def _not_loaded(error: Exception, argv: list[str] | None = None) -> str:
  path = config_path(argv)
  if not os.path.exists(path):
    return f'there is no config file {path} (looked in {os.getcwd()})'
  if os.path.isdir(path):
    return f'{path} is not a Python file; expected one as experiments/fcn16s.py'
  reason = str(error).strip().splitlines()[-1].strip()  # ml_collections puts lines of its own before it
  return f'the config file {path} does not load: {type(error).__name__}: {reason}'


def _wrong_field(argv: list[str]) -> str:
  if not any(argument.startswith('--config.') for argument in argv):
    return f'{config_path(argv)} defines no get_config()'
  by_data = {name: set(config_lib.flatten(config_lib.default(name))) for name in config_lib.DATASETS}
  known = sorted(set.union(*by_data.values()))
  fields = [a.removeprefix('--config.').split('=')[0] for a in argv if a.startswith('--config.')]
  for field in fields:
    if field not in known:
      return f'there is no setting {field}{config_lib.closest(field, known) or ": fcn_jax/config.py lists all"}'
  special = [field for field in fields if not all(field in own for own in by_data.values())]
  if special:
    return f'{", ".join(special)} does not go with this data set'
  return f'{config_path(argv)}: get_config() is missing, or does not return fcn_jax.config.default() with changes'
