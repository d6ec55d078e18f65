"""What all commands share: flags, the config, logging, and how errors reach the user.

Nothing here imports jax, so that `--help` and errors in a command line appear immediately. A command module has
`define_flags()`, which is called only when the command runs, so that several command modules can be imported together.
"""

import itertools
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator

import ml_collections
from absl import app, flags
from ml_collections import config_flags

from fcn_jax import config as config_lib
from fcn_jax import files, machine
from fcn_jax.config import length
from fcn_jax.data import names
from fcn_jax.errors import UserError
from fcn_jax.run import identity, messages, signals

EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

logger = logging.getLogger(__name__)

# Settings that `default` derives from the argument of the config file, with the form of that argument.
_ARGUMENT_ONLY = {'data.name': 'FILE:DATASET', 'recipe': 'FILE:DATASET,recipe=NAME'}
# The flags --config.x=y of a command line without --config=FILE: settings for the config of a run, see `relocated`.
_of_run: list[str] = []


def run(main: Callable[[list[str]], None], define_flags: Callable[[], None] = lambda: None) -> None:
  """Runs a command: `main(arguments)`, after `define_flags()`; a `UserError` becomes one sentence and exit code 1.

  A signal ends the command with its exit code (`run/signals.py`).
  """
  signals.install()
  with signals.blocked():  # if the program restarts, the new one receives them
    machine.tune_for_cpu()
  sys.stdout.reconfigure(errors='backslashreplace')  # a path or a class may have characters that it cannot encode
  flags.DEFINE_bool('debug', False, "Show tracebacks, and the libraries' log messages.")
  define_flags()
  messages.configure_logging(debug='--debug' in sys.argv)  # flags are not parsed yet, and parsing may fail
  app.run(lambda argv: _guarded(main, argv[1:]), flags_parser=lambda argv: _guarded(_parse, argv))


def define_config() -> None:
  """Defines `--config=FILE[:DATASET]` and `--config.section.field=value`, which `config()` reads."""
  config_flags.DEFINE_config_file(
    'config',
    None,
    'Config file and data set, for example experiments/fcn16s.py:scenes. Any setting (fcn_jax/config/defaults.py) can '
    'be overridden, for example --config.optim.lr=1e-3. The argument DATASET,recipe=NAME chooses a recipe '
    '(fcn_jax/config/recipes.py).',
  )


def config() -> ml_collections.ConfigDict:
  """The config of the command line: overridden, validated and locked."""
  value = flags.FLAGS['config'].value
  if value is None:
    if path := config_path():
      raise UserError(f'{path}: get_config() returned nothing; expected a config made by fcn_jax.config.default()')
    raise UserError('no config given; try --config=experiments/fcn16s.py')
  try:
    sections = set(value)  # if the file did not load, ml_collections raises at the first access
  except OSError as error:
    raise UserError(_not_loaded(error)) from error
  if not {'model', 'data', 'train'} <= sections or not isinstance(value.model, ml_collections.ConfigDict):
    raise UserError(f'{config_path()}: get_config() does not start from fcn_jax.config.default()')
  _shorten_warmup(value)
  try:
    config_lib.validate(value)
  except UserError as error:
    raise UserError(f'{error} ({config_path()})') from error
  return value


def _shorten_warmup(value: ml_collections.ConfigDict) -> None:
  """A tenth of the steps, if --config.train.steps alone leaves fewer steps than the recipe's warmup has."""
  fields = _overridden(sys.argv)
  was, steps = value.optim.warmup, value.train.steps
  shorter = length.shortened_warmup(was, steps)
  if 'train.steps' in fields and 'optim.warmup' not in fields and steps > 0 and shorter != was:
    value.optim.warmup = shorter
    logger.info(f'optim.warmup is {shorter} instead of {was} steps, because train.steps={steps}')


def relocated(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config of a run with the settings that the command line gives without --config=FILE.

  Only the settings in `identity.WHERE_AND_HOW` can be given and, if the data set is a module outside the package, those
  that the module adds. A command that reads the data compares their fingerprint with the run's.

  Raises:
    UserError: the run has no such setting, it cannot be changed, or its value is invalid.
  """
  if not _of_run:
    return config
  settings = config_lib.flatten(config)
  for field in _overridden(_of_run):
    if field not in settings:
      raise UserError(f'{config_lib.unknown_setting(field, settings)} in the config of this run')
    if config.data.name in names.DATASETS and field not in identity.WHERE_AND_HOW:
      raise UserError(_belongs_to_run(field))
  values, words = flags.FlagValues(), ['', *_of_run]
  config_flags.DEFINE_config_dict('config', config.copy_and_resolve_references(), flag_values=values, sys_argv=words)
  try:
    values(words)
  except flags.Error as error:
    raise UserError(f'{error} (see --help)') from error
  config_lib.validate(values['config'].value, settings=settings)
  return values['config'].value


def config_words() -> list[str]:
  """The words of the command line that give the config, to use in another command."""
  words = itertools.pairwise(['', *sys.argv[1:]])
  return [word for flag, word in words if re.match('--?config', word) or re.fullmatch('--?config[^=]*', flag)]


def default_workdir(data_name: str) -> str:
  """runs/EXPERIMENT-ARGUMENT; ARGUMENT is the argument of the config file, or the data set if there is none."""
  path, _, argument = config_flags.get_config_filename(flags.FLAGS['config']).partition(':')
  return f'runs/{os.path.splitext(os.path.basename(path))[0]}-{argument or data_name}'


def _guarded(function, argv):
  try:
    return function(argv)
  except UserError as error:
    if '--debug' in sys.argv:
      raise
    sys.exit(messages.wrapped(f'error: {error}', terminal=sys.stderr.isatty()))
  except BrokenPipeError:  # the reader of the output has ended, for example `head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(EXIT_BROKEN_PIPE)


def _parse(argv: list[str]) -> list[str]:
  if {'--help', '-h', '-help'} & set(argv):
    # absl's own help starts with sixty lines about absl's flags, and exits with 1.
    about, terminal = sys.modules['__main__'].__doc__, sys.stdout.isatty()
    if terminal:  # for its width, the lines of a paragraph, or of an item of a list, are one
      about = re.sub(r'(?<=\S)\n(?: {10,})?(?=\S)', ' ', about)
    about = messages.wrapped(about, terminal=terminal, indent=0)
    print(about, flags.FLAGS.main_module_help(), flags.FLAGS.module_help(__name__), sep='\n')
    sys.exit(0)
  argv = list(_with_home(argv))
  for field in _overridden(argv):
    if field in _ARGUMENT_ONLY:
      raise UserError(
        f'--config.{field} cannot be set: it follows from the argument of the config file; write '
        f'--config={_ARGUMENT_ONLY[field]}'
      )
  _of_run.clear()
  if 'config' in flags.FLAGS and not _config_value(argv):
    argv = _settings_apart(argv)
  try:
    arguments = flags.FLAGS(argv)
  except flags.Error as error:
    if 'parsing config file' in str(error):  # by ml_collections, with a traceback as its message
      reason = str(error).strip().splitlines()[-1]
      raise UserError(f'the config file {config_path(argv)} does not load: {reason}') from error
    raise UserError(f'{_flag_fault(error)} (see --help)') from error
  except UserError:
    raise
  except OSError as error:
    raise UserError(_not_loaded(error)) from error
  except Exception as error:  # whatever a config file may raise
    if isinstance(error, AttributeError | KeyError) and not _raised_in(error, config_path(argv)):
      raise UserError(_wrong_field(argv)) from error  # ml_collections walks to the field that an override names
    raise UserError(_not_loaded(error, argv)) from error
  if _of_run and not ('workdir' in flags.FLAGS and flags.FLAGS['workdir'].value):
    raise UserError(f'no config given for {_of_run[0].partition("=")[0]}; try --config=experiments/fcn16s.py')
  return arguments


def _flag_fault(error: flags.Error) -> str:
  """What is wrong with a flag; if it looks like a setting, the setting."""
  if isinstance(error, flags.UnrecognizedFlagError) and 'config' in flags.FLAGS and 'Did you mean' not in str(error):
    meant = config_lib.meant_setting(error.flagname, sorted(set.union(*_settings_by_data().values())))
    return f'{error} (did you mean --config.{meant}?)' if meant else str(error)
  value = re.match(r'flag --config\.([\w.]+)=(.*?): ', str(error))
  default = config_lib.flatten(config_lib.base()).get(value[1]) if value else None
  if value and default is not None:
    return f'{value[1]} is {value[2]!r}; expected {type(default).__name__}, like {default!r}'
  return str(error)


def _with_home(argv: list[str]) -> Iterator[str]:
  """The command line with `~` expanded in the path of the config file, where ml_collections does not expand it."""
  for flag, word in itertools.pairwise(['', *argv]):
    prefix = re.match(r'--?config=|', word)[0]
    path = word.removeprefix(prefix)
    if not prefix and flag not in ('--config', '-config'):
      yield word
    elif files.is_remote(path) and not path.startswith('file:'):
      raise UserError(f'--config={path} is an address; expected a Python file on a disk')
    else:
      yield prefix + (os.fspath(files.path(path)) if path.startswith(('~', 'file:')) else path)


def _settings_apart(argv: list[str]) -> list[str]:
  """The command line without the flags --config.x=y, which go to `_of_run`.

  Raises:
    UserError: one of them is no setting of where the data of a run are and how they are read.
  """
  rest, words = [], iter(argv)
  for word in words:
    if not re.match(r'--?config\.', word):
      rest.append(word)
      continue
    _of_run.append(word if '=' in word else f'{word}={next(words, "")}')
  built_in = {*config_lib.flatten(config_lib.base()), *(f'data.{x}' for own in names.SETTINGS.values() for x in own)}
  for field in _overridden(_of_run):
    # A setting with another name may belong to a data set outside the package: `relocated` checks it.
    if field not in identity.WHERE_AND_HOW and (field in built_in or not field.startswith('data.')):
      raise UserError(_belongs_to_run(field))
  return rest


def _belongs_to_run(field: str) -> str:
  return (
    f'--config.{field} cannot be set without --config=FILE. The run in --workdir keeps its config, except for where '
    f'its data are and how they are read: {", ".join(identity.WHERE_AND_HOW)}'
  )


def _raised_in(error: Exception, path: str) -> bool:
  frames = traceback.extract_tb(error.__traceback__)
  return any(os.path.abspath(frame.filename) == os.path.abspath(path) for frame in frames)


def _overridden(argv: list[str]) -> list[str]:
  """The settings that the command line overrides."""
  flags_of_settings = (re.match(r'--?config\.([^=]*)', word) for word in argv)
  return [match[1] for match in flags_of_settings if match]


def config_path(argv: list[str] | None = None) -> str:
  """The config file that the command line names, without its argument; '' if there is none."""
  return _config_value(argv).split(':')[0]


def _config_value(argv: list[str] | None = None) -> str:
  words = list(argv or _with_home(sys.argv))
  given = [a.partition('=')[2] for a in words if a.startswith(('--config=', '-config='))]
  given += [path for flag, path in itertools.pairwise(words) if flag in ('--config', '-config')]
  return given[-1] if given else ''


def _not_loaded(error: Exception, argv: list[str] | None = None) -> str:
  path = config_path(argv)
  if not os.path.exists(path):
    return f'there is no config file {path} (looked in {os.getcwd()})'
  if os.path.isdir(path):
    return f'{path} is a folder; expected a Python file such as experiments/fcn16s.py'
  reason = str(error).strip().splitlines()[-1].strip()  # ml_collections adds other lines before the reason
  return f'the config file {path} does not load: {type(error).__name__}: {reason}'


def _settings_by_data() -> dict[str, set[str]]:
  return {name: set(config_lib.flatten(config_lib.default(name))) for name in names.DATASETS}


def _wrong_field(argv: list[str]) -> str:
  """The message about an override that the config has no field for."""
  fields = _overridden(argv)
  if not fields:
    return f'{config_path(argv)} defines no get_config()'
  by_data = _settings_by_data()
  argument = _config_value(argv).partition(':')[2].partition(',')[0]
  if '.' in argument:  # a data set outside the package
    by_data = {argument: set(config_lib.flatten(config_lib.default(argument)))}
  everywhere = sorted(set.union(*by_data.values()))
  for field in fields:
    if field not in everywhere:
      if field in flags.FLAGS:
        return f'there is no setting {field}; it is a flag: --{field}=...'
      message = config_lib.unknown_setting(field, everywhere)
      return message if '(' in message or 'called' in message else f'{message}: fcn_jax/config/defaults.py lists all'
  special = [field for field in fields if not all(field in settings for settings in by_data.values())]
  if special:
    return f'{", ".join(special)} is not a setting of this data set'
  return f'{config_path(argv)}: get_config() is missing, or does not return fcn_jax.config.default() with changes'
