"""What makes two runs the same run, or two runs of the same network: their configs, without what cannot matter."""

import json
import os
import posixpath

import ml_collections

from fcn_jax import config as config_lib
from fcn_jax import files
from fcn_jax.data import names
from fcn_jax.errors import UserError
from fcn_jax.models import names as model_names

# Settings that decide only where and how a run is computed. Two configs that differ only in these are the same run.
WHERE_AND_HOW = (
  'data.dir',
  'data.folder',
  'data.archive',
  'data.sbd_archive',
  'data.cache_dir',
  'data.cache_gib',
  'data.threads',
)
# Settings that change the scores of a run by rounding at most. Runs that differ only in these train the same network.
NEUTRAL = (
  *WHERE_AND_HOW,
  'data.augment_on',
  'train.deterministic',  # a run keeps its value, so that `config.json` says whether all steps are repeatable
  'train.log_every',
  'eval.every',
  'eval.batch_size',
  'eval.canvases',
  'eval.keep',
  'checkpoint.every',
  'checkpoint.keep',
)
_CONSTANTS = {f'model.{field}': list(value) for field, value in model_names.DEFAULT_PREPROCESSING._asdict().items()}


def plain(config: ml_collections.ConfigDict) -> dict:
  """The config as nested dicts, with lists instead of tuples, as JSON has it."""
  return json.loads(config.to_json())


def difference(mine: dict, theirs: dict, workdir: os.PathLike | str | None = None) -> str:
  """The settings in which two plain configs differ, 'seed is 0 there, 1 here; ...', or '' if they are the same run.

  Args:
    mine: the config of this command.
    theirs: the config that was saved. A setting that did not exist then has its default, and so have `model.mean` and
      `model.std` if they are not resolved. `format` and the settings in `WHERE_AND_HOW` are not compared, nor is
      `data.augment_on` if it is 'auto' in `mine`.
    workdir: the directory of the run, if the configs are those of a run. It may have moved together with the run that
      it starts from, so `init.run` may be another address of a run with the same name.
  """
  mine, theirs = (config_lib.flatten(ml_collections.ConfigDict(c)) for c in (mine, theirs))
  usual = config_lib.flatten(ml_collections.ConfigDict(plain(_defaults(theirs.get('data.name')))))
  theirs = usual | {'data.augment_on': 'host'} | theirs  # the host augmented before there was this setting
  for fields in (mine, theirs):
    fields.update({name: value for name, value in _CONSTANTS.items() if not fields.get(name)})
  skipped = ('format', *WHERE_AND_HOW)
  if mine['data.augment_on'] == 'auto':
    skipped = (*skipped, 'data.augment_on')
  if workdir is not None and _same_run(mine['init.run'], theirs['init.run'], os.fspath(workdir)):
    skipped = (*skipped, 'init.run')
  different = [n for n in {**theirs, **mine} if n not in skipped and mine.get(n) != theirs.get(n)]
  return '; '.join(f'{n} is {theirs.get(n)} there, {mine.get(n)} here' for n in different)


def _same_run(mine: str, theirs: str, workdir: str) -> bool:
  """Whether two values of `init.run` are one path, or one name and `mine` is next to the run that starts from it."""
  if not (mine and theirs):
    return mine == theirs
  (folder, name), (_, old_name), (parent, _) = (posixpath.split(place(path)) for path in (mine, theirs, workdir))
  return place(mine) == place(theirs) or (folder, name) == (parent, old_name)


def place(path: os.PathLike | str) -> str:
  """The same text for all spellings of a path; other than `files.path`, it neither checks the path nor connects."""
  text = os.fspath(path).removeprefix('file://')
  return text.rstrip('/') if files.is_remote(text) else os.path.abspath(os.path.expanduser(text))


def from_plain(saved: dict) -> ml_collections.ConfigDict:
  """The config that `plain` turned into `saved`, with defaults for settings that it lacks.

  Raises:
    UserError: `saved` has an unknown setting, or a value of the wrong type. If the data set is a module outside the
      package, every setting of the section `data` is accepted.
  """
  fields = with_tuples(config_lib.flatten(ml_collections.ConfigDict(saved)))
  fields.pop('format', None)
  name = fields.get('data.name', '')
  config = _defaults(name)
  defaults = config_lib.flatten(config)
  for field in fields:
    if field not in defaults and not (field.startswith('data.') and name not in names.DATASETS):
      raise UserError(config_lib.unknown_setting(field, defaults))
  try:
    config.update_from_flattened_dict(fields)
  except TypeError as error:
    raise UserError(str(error)) from error
  return config


def with_tuples(fields: dict) -> dict:
  """Settings with tuples, as a config has them, instead of JSON's lists."""
  return {name: tuple(x) if isinstance(x, list) else x for name, x in fields.items()}


def _defaults(data_name: str) -> ml_collections.ConfigDict:
  """The settings of every run, and those of a built-in data set. Other data sets' settings are saved with the run."""
  config = config_lib.base()
  if data_name in names.DATASETS:
    config_lib.add_settings(config, names.settings(data_name))
  return config
