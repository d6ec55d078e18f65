"""Scores a run, or a weights file, on a split. Every image is scored at its original size.

  python -m fcn_jax.evaluate --workdir=runs/fcn16s-scenes
  python -m fcn_jax.evaluate --workdir=runs/fcn16s-scenes --split=train --save_predictions=predictions
  python -m fcn_jax.evaluate --workdir=copied/run --config.data.dir=/data/here
  python -m fcn_jax.evaluate --config=experiments/fcn8s.py:voc2011_sbd --config.model.geometry=caffe \\
    --weights=fcn8s-heavy-pascal.caffemodel --out=released

Prints the scores and writes eval/SPLIT.json (scores), eval/SPLIT.npz (one confusion matrix per image) and
eval/network.json (size and cost of the network) to the run directory, or to the folder --out. Files of the best
checkpoint are called eval/SPLIT.best.json and so on. In --out and --save_predictions, only files of an earlier call are
replaced.

If data.resize makes images smaller, the scores of the network are enlarged bilinearly to the size of the labels, where
pixels are counted.

The data must be those of the run: their fingerprints are compared. With --workdir, only settings of where the data are
and how they are read can be set, for example --config.data.dir and --config.data.threads. A run that was trained on a
folder can also be scored on another folder with the same classes; then --out is required, and the run stays as it is:

  python -m fcn_jax.evaluate --workdir=runs/mine --config.data.folder=/data/other --out=other
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import logging
import os

from absl import flags

from fcn_jax import cli, files, images, outputs
from fcn_jax.errors import UserError
from fcn_jax.run import directory, saved

logger = logging.getLogger('fcn_jax.evaluate')  # here `__name__` is '__main__'

_MOVED = 'Moved to python -m fcn_jax.bounds.'


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_config()
  flags.DEFINE_string('workdir', None, 'Run to score.')
  flags.DEFINE_string('split', None, 'Split to score, or all. Default: test, else validation; all of another folder.')
  flags.DEFINE_enum('checkpoint', 'last', ['last', 'best'], 'Checkpoint to score.')
  flags.DEFINE_string('save_predictions', None, 'Folder for the predictions: one PNG of class numbers per image.')
  flags.DEFINE_string('weights', None, 'Weights file to score instead of a run; --config describes the network.')
  flags.DEFINE_string('out', None, 'Folder for the scores. Default: the run directory; with --weights, scores.')
  flags.DEFINE_bool('upper_bounds', None, _MOVED)
  flags.DEFINE_string('masks', None, _MOVED)
  flags.DEFINE_string('classes', None, _MOVED)


def main(arguments: list[str]) -> None:
  """The command."""
  given = flags.FLAGS
  has_config = given['config'].value is not None
  if given.upper_bounds or given.masks or given.classes:
    raise UserError(
      'upper bounds have moved to another command: python -m fcn_jax.bounds --config=... or --masks=FOLDER --classes=N'
    )
  if arguments:
    raise UserError(f'unexpected argument {arguments[0]!r}; see --help')
  if given.workdir and (given.weights or has_config):
    raise UserError(
      '--config and --weights cannot be combined with --workdir, whose run has its own config and weights'
    )
  if not given.workdir and not given.weights:
    raise UserError('nothing to score; expected --workdir=RUN, or --config=... with --weights=FILE')
  if given.weights and given.checkpoint == 'best':
    raise UserError('--checkpoint=best requires --workdir=RUN; a weights file has one set of weights')
  evaluate(given)


def evaluate(given) -> None:
  """Scores a checkpoint of the run, or the weights; prints the result, then writes it."""
  output = _output(given)
  # jax takes seconds to import: not before the config is read.
  config = cli.config() if given.weights else _config_of_run(files.path(given.workdir))
  from fcn_jax import bounds, evaluation, models
  from fcn_jax.run import devices, progress

  devices.enable_compilation_cache()
  config, data, params, step = _load(given, config, may_differ=isinstance(output, Folder))
  name = given.split or ('all' if _is_other(given, data) else data.held_out)
  if isinstance(output, Folder):
    stems = [saved.file_stem(name, head, data.heads, given.checkpoint) for head in data.heads]
    others = [f'{kind}{saved.SUFFIXES[given.checkpoint]}' for kind in ('network', 'kernels')]
    outputs.check(output.path, [f'eval/{stem}.{ending}' for stem in stems + others for ending in ('json', 'npz')])
  split, model = data.split(name), models.build(config.model, data.inputs, data.heads)
  predictions = Predictions(given.save_predictions, split.ids(), data.heads)
  scored = _score(model, params, split, config, predictions)
  scores = evaluation.summarize(name, scored, data.heads, step)
  source, pixels = given.weights or f'{files.path(given.workdir)}, step {step}', next(iter(scores.values()))['pixels']
  logger.info(f'{source}, on {name} of {data.fingerprint}: {len(split)} images, {pixels:,} pixels')
  for of_head in scores.values():
    progress.show_scores(of_head)
  try:
    evaluation.write(output, name, split, scored, data.heads, step, given.checkpoint)
    bounds.write_network(output, name, model, params, data, config.data.train_size, given.checkpoint)
    if not isinstance(output, Folder) and not files.exists(output / 'data.json'):
      directory.write_data(output, data)  # it was damaged, and has been deleted
  except UserError as error:
    if given.out:
      raise
    logger.warning(f'the scores are not saved: {error}. Use --out=FOLDER to write them to another folder')
  if predictions.error:
    raise predictions.error


def _output(given) -> directory.RunDirectory:
  """What the scores are written to: the run directory, or the folder --out."""
  if given.workdir:
    run = directory.RunDirectory(given.workdir)
    if not given.out or os.path.realpath(files.path(given.out)) == os.path.realpath(run):
      return run
  folder = Folder(given.out or 'scores')
  if saved.is_run(folder.path):
    raise UserError(f'--out={folder} is the directory of another run, which has its own scores; use another folder')
  return folder


def _config_of_run(workdir):
  """The config of a run, with the settings of the command line that say where its data are.

  Raises:
    UserError: there is no such run, or the folder of its data does not exist: other data might be prepared there.
  """
  saved_config = saved.read_config(workdir)
  config = cli.relocated(saved_config)
  folder = config.data.dir
  if folder and folder == saved_config.data.dir and not files.exists(files.path(folder)):
    raise UserError(
      f'the data of {workdir} were in {folder}, which does not exist here; give their folder with '
      '--config.data.dir=FOLDER, where they are prepared if it has none'
    )
  return config


def _load(given, config, *, may_differ: bool):
  """The config, the data, the parameters and their step.

  Args:
    given: the flags.
    config: of the run, or of the weights.
    may_differ: whether a run that was trained on a folder may be scored on another one.

  Raises:
    UserError: the data are not those of the run.
  """
  from fcn_jax.data import dataset
  from fcn_jax.run import checkpoint, environment
  from fcn_jax.weights import match

  if given.weights:
    data = dataset.load(config.data)
    config, params = match.load(config, data.inputs, data.heads, given.weights)
    return config, data, params, 0
  run = directory.RunDirectory(given.workdir)
  step, params = checkpoint.load_params(run.path, given.checkpoint)
  data = dataset.load(config.data)
  if may_differ and config.data.name == 'folder':
    if config.data.train_fraction < 1 and _is_other(given, data):
      config.data.train_fraction = 1.0  # a share of the images of the run, not of another folder
      data = dataset.load(config.data)
    _check_classes(run, config.data.folder, data)
  else:
    environment.check_fingerprint(run, data.fingerprint)
  return config, data, params, step


def _is_other(given, data) -> bool:
  """Whether the data are not those of the run --workdir."""
  return bool(given.workdir) and saved.read_fingerprint(files.path(given.workdir)) not in (None, data.fingerprint)


def _check_classes(run: directory.RunDirectory, folder: str, data) -> None:
  """Raises `UserError` if the images or classes of a folder are of another kind than those of the run."""
  inputs, heads = saved.read_data(run.path)
  names, expected = (next(iter(found.values())).names for found in (data.heads, heads))
  if names != expected:
    raise UserError(
      f'the classes of {folder} are {", ".join(names)}; expected those of {run}: {", ".join(expected)}; list them in '
      f'{folder}/dataset.toml'
    )
  if data.inputs != inputs:
    raise UserError(f'the images in {folder} have the channels {data.inputs}; expected {inputs}, as in {run}')


def _score(model, params: dict, split, config, predictions: 'Predictions'):
  import jax

  from fcn_jax import evaluation
  from fcn_jax.run import devices, progress

  evaluator = evaluation.Evaluator(
    model,
    # This process may have more devices than the run had. They share a batch equally if its size is rounded up.
    batch_size=config.eval.batch_size + -config.eval.batch_size % jax.device_count(),
    canvases=config.eval.canvases,
    threads=config.data.threads,
  )
  with progress.Counter(len(split)) as bar:

    def each(image: dict) -> None:
      predictions.save(image)
      bar.advance()

    return evaluator.score(devices.replicate(params), split, predicted=predictions.indices, each=each)


class Folder(directory.RunDirectory):
  """A folder that is not the directory of a run: only files that an earlier call wrote there are replaced."""

  def write(self, name: str, content: str | bytes) -> None:
    outputs.reserve(self.path, [name])
    super().write(name, content)

  def write_json(self, name: str, value) -> None:
    outputs.reserve(self.path, [name])
    super().write_json(name, value)


class Predictions:
  """The files in --save_predictions.

  Attributes:
    indices: of the images that have a file.
    error: why a file could not be written, after which nothing more is written; else None.
  """

  def __init__(self, folder: str | None, ids: list[str], heads: dict):
    """Without a folder, nothing is written. Raises: UserError: the folder has other files of these names."""
    self._folder, self._ids, self.error = folder and files.path(folder), ids, None
    self._head, self._classes = next(iter(heads.items()))
    self.indices = range(len(ids) if folder else 0)
    if folder:
      outputs.reserve(self._folder, [f'{name}.png' for name in ids])

  def save(self, image: dict) -> None:
    """Writes the prediction of the first head for an image, which `evaluation.Evaluator.images` yields."""
    if self._folder and not self.error:
      content = images.indexed(image['predictions'][self._head], self._classes.palette)
      try:
        files.write(self._folder / f'{self._ids[image["index"]]}.png', content)
      except UserError as error:  # the scores do not depend on it
        self.error = error


if __name__ == '__main__':
  cli.run(main, define_flags)
