"""What all commands share: how flags and configs are read, and how errors reach the reader.

Nothing here may import jax: `--help` and every error in a command line come at once.
"""

import os
import sys

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from fcn_jax import config as config_lib
from fcn_jax.errors import UserError

EXIT_INTERRUPTED = 130  # 128 + SIGINT, what shells expect after Ctrl-C

flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')


def run(main) -> None:
  """Runs `main(arguments)`; a `UserError` becomes a sentence and exit code 1."""
  flags.declare_key_flag('debug')
  logging.set_verbosity(logging.ERROR)  # TFDS and Orbax tell of every step that they take
  app.run(lambda argv: _guarded(main, argv[1:]), flags_parser=lambda argv: _guarded(_parse, argv))


def define_config() -> None:
  """Defines `--config=FILE[:DATASET]` and `--config.section.field=value`; `config()` reads them."""
  config_flags.DEFINE_config_file(
    'config',
    None,
    'Config file and data set, as experiments/fcn16s.py:scenes; '
    'any setting (fcn_jax/config.py) is overridden as --config.optim.lr=1e-3.',
  )
  flags.declare_key_flag('config')


def config() -> ml_collections.ConfigDict:
  """The config of the command line, overridden, validated and locked."""
  value = flags.FLAGS.config
  if value is None:
    raise UserError('no config given; try --config=experiments/fcn16s.py')
  path = _config_path()
  try:
    fields = set(value)  # where the file did not load, ml_collections raises at the first touch
  except OSError as error:
    if os.path.exists(path):
      raise UserError(f'the config file {path} is not a Python file that can be read') from error
    raise UserError(f'there is no config file {path} (looked in {os.getcwd()})') from error
  if not fields >= set(config_lib.default()):
    raise UserError(f'{path}: get_config() does not start from fcn_jax.config.default()')
  config_lib.validate(value)
  return value


def experiment_name() -> str:
  """The name of the config file, without folder and ending."""
  return os.path.splitext(os.path.basename(_config_path()))[0]


def _config_path() -> str:
  return config_flags.get_config_filename(flags.FLAGS['config']).split(':')[0]


def _guarded(function, argv):
  try:
    return function(argv)
  except UserError as error:
    if '--debug' in sys.argv:  # not the flag: the error may be about the flags
      raise
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    sys.stderr.write('\ninterrupted\n')
    sys.exit(EXIT_INTERRUPTED)


def _parse(argv: list[str]) -> list[str]:
  if {'--help', '-h', '-help'} & set(argv):
    app.usage(writeto_stdout=True)
    sys.exit(0)  # absl's own exits with 1
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    raise UserError(f'{error} (see --help)') from error
  except (AttributeError, KeyError) as error:
    raise UserError(_wrong_field(argv)) from error  # ml_collections walks to the field that an override names
  except (SyntaxError, ImportError, NameError, TypeError) as error:
    raise UserError(f'the config file does not load: {type(error).__name__}: {error}') from error


def _wrong_field(argv: list[str]) -> str:
  by_data = {name: set(config_lib.flatten(config_lib.default(name))) for name in config_lib.DATASETS}
  known = sorted(set.union(*by_data.values()))
  fields = [a.removeprefix('--config.').split('=')[0] for a in argv if a.startswith('--config.')]
  for field in fields:
    if field not in known:
      return f'there is no setting {field}{config_lib.closest(field, known) or ": fcn_jax/config.py lists all"}'
  special = [field for field in fields if not all(field in own for own in by_data.values())]
  return f'{", ".join(special) or "a setting"} does not go with this data set'
