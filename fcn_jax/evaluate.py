"""Scores a run, or a weights file, on a split. Every image is scored at its original size.

  python -m fcn_jax.evaluate --workdir=runs/fcn16s-scenes
  python -m fcn_jax.evaluate --workdir=runs/fcn16s-scenes --split=train --save_predictions=predictions
  python -m fcn_jax.evaluate --workdir=copied/run --config.data.dir=/data/here
  python -m fcn_jax.evaluate --config=experiments/fcn8s.py:voc2011_sbd --config.model.geometry=caffe \\
    --weights=fcn8s-heavy-pascal.caffemodel --out=released

Prints the scores and writes to the run directory, or to the folder --out:
  eval/SPLIT.json           the scores, with IoU, precision, recall and F1 of each class
  eval/SPLIT.npz            one confusion matrix per image
  eval/SPLIT.images.csv     one line per image, worst first: id, mean IoU, pixel accuracy, most confused pair of classes
  eval/SPLIT.confusion.png  the confusion matrix as an image; each row adds up to 1
  eval/SPLIT/               example images with labels and predictions
  eval/SPLIT.worst/         with --worst=20: the 20 images with the lowest mean IoU, each as RANK.ID.png: image, label,
                            prediction and errors; they replace those of the last call with --worst
  eval/network.json         size and cost of the network

Files of the best checkpoint are called eval/SPLIT.best.json and so on. If there are several heads, these are the files
of the first head; every other head has its files too, called eval/SPLIT.HEAD.json or eval/SPLIT.HEAD.best.json.
--save_predictions writes the predictions of the first head. In --out and --save_predictions, only files of an earlier
call are replaced.

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
from collections.abc import Sequence

from absl import flags

from fcn_jax import cli, files, outputs
from fcn_jax.errors import UserError
from fcn_jax.evaluate_files import Folder, Predictions, Worst
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
  flags.DEFINE_integer('worst', 0, 'Also save so many images, those with the lowest mean IoU.', lower_bound=0)
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
    expected = [f'{stem}.{ending}' for stem in stems + others for ending in ('json', 'npz')]
    expected += [f'{stem}.{ending}' for stem in stems for ending in ('images.csv', 'confusion.png')]
    outputs.check(output.path, [f'eval/{name}' for name in expected])
  split, model = data.split(name), models.build(config.model, data.inputs, data.heads)
  predictions = Predictions(given.save_predictions, split.ids(), data.heads)
  worst = Worst(given.worst, split.ids(), data.heads)
  scored = _score(model, params, split, config, [predictions, worst])
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
    worst.write(output, name, given.checkpoint)
    for head in data.heads:
      logger.info('wrote %s', _written(output, saved.file_stem(name, head, data.heads, given.checkpoint), worst))
  except UserError as error:
    if given.out:
      raise
    logger.warning(f'not all files are written: {error}. Use --out=FOLDER to write them to another folder')
  if predictions.error:
    raise predictions.error
  if given.save_predictions:
    logger.info('wrote %s predictions to %s', len(split), given.save_predictions)
  if not isinstance(output, Folder):
    of_best = ['--checkpoint=best'] if given.checkpoint == 'best' else []
    image = progress.kept_image(output.path)
    progress.show_next(('predict', f'--workdir={output}', *of_best, image), ('report', *of_best, str(output)))


def _written(output, stem: str, worst: Worst) -> str:
  """The files of a head, for people."""
  text = f'{output}/eval/{stem}.json, .npz, .images.csv (worst images first) and .confusion.png'
  return text + (f', and the {worst.most} worst images to {output}/eval/{stem}.worst' if worst.most else '')


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


def _score(model, params: dict, split, config, savers: Sequence):
  """The counts of a split; the savers get the images with predictions whose `indices` they have, and the others."""
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
      for saver in savers:
        saver.add(image)
      bar.advance()

    predicted = set().union(*(saver.indices for saver in savers))
    return evaluator.score(devices.replicate(params), split, predicted=predicted, each=each)


if __name__ == '__main__':
  cli.run(main, define_flags)
