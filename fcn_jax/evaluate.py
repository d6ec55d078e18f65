"""Scores a run, or a weights file, on a split. Every image is scored at its original size.

  python -m fcn_jax.evaluate --workdir=runs/fcn16s-scenes
  python -m fcn_jax.evaluate --workdir=runs/fcn16s-scenes --split=train --save_predictions=predictions
  python -m fcn_jax.evaluate --config=experiments/fcn8s.py:voc2011_sbd --config.model.geometry=caffe \\
    --weights=fcn8s-heavy-pascal.caffemodel --out=released

Writes eval/SPLIT.json (scores), eval/SPLIT.npz (one confusion matrix per image) and eval/network.json (size and cost of
the network). With --workdir these files go to the run directory, with --weights to the folder --out.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import logging

from absl import flags

from fcn_jax import cli
from fcn_jax.errors import UserError

logger = logging.getLogger('fcn_jax.evaluate')  # here `__name__` is '__main__'

_MOVED = 'Moved to python -m fcn_jax.bounds.'


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_config()
  flags.DEFINE_string('workdir', None, 'Run to score.')
  flags.DEFINE_string('split', None, 'Split to score. Default: test, or validation if there is no test split.')
  flags.DEFINE_enum('checkpoint', 'last', ['last', 'best'], 'Checkpoint to score.')
  flags.DEFINE_string('save_predictions', None, 'Folder for the predictions: one PNG of class numbers per image.')
  flags.DEFINE_string('weights', None, 'Weights file to score instead of a run; --config describes the network.')
  flags.DEFINE_string('out', 'scores', 'With --weights: folder for the scores.')
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
  evaluate(given)


def evaluate(given) -> None:
  """Scores a checkpoint of the run, or the weights, and writes and prints the result."""
  from fcn_jax.run import directory, progress, saved

  run_directory = directory.RunDirectory(given.workdir or given.out)
  # jax takes seconds to import: not before the config is read.
  config = cli.config() if given.weights else saved.read_config(run_directory.path)
  import jax

  from fcn_jax import bounds, evaluation, files, images, models
  from fcn_jax.data import dataset
  from fcn_jax.run import checkpoint, devices
  from fcn_jax.weights import match

  devices.enable_compilation_cache()
  if not given.weights:
    step, params = checkpoint.load_params(run_directory.path, given.checkpoint)
  data = dataset.load(config.data)
  if given.weights:
    config, params = match.load(config, data.inputs, data.heads, given.weights)
    step = 0
  name = given.split or data.held_out
  split, model = data.split(name), models.build(config.model, data.inputs, data.heads)
  ids, (head, classes) = split.ids(), next(iter(data.heads.items()))

  def save(image: dict) -> None:
    if given.save_predictions:
      path = files.path(given.save_predictions) / f'{ids[image["index"]]}.png'
      files.write(path, images.indexed(image['predictions'][head], classes.palette))
    bar.advance()

  evaluator = evaluation.Evaluator(
    model,
    # This process may have more devices than the run had. They share a batch equally if its size is rounded up.
    batch_size=config.eval.batch_size + -config.eval.batch_size % jax.device_count(),
    canvases=config.eval.canvases,
    threads=config.data.threads,
  )
  with progress.Counter(len(split)) as bar:
    scored = evaluator.score(devices.replicate(params), split, each=save)
  scores = evaluation.write(run_directory, name, split, scored, data.heads, step)
  bounds.write_network(run_directory, name, model, params, data, config.data.train_size)
  source, pixels = given.weights or f'{run_directory}, step {step}', scores[head]['pixels']
  logger.info(f'{source}, on {name} of {data.fingerprint}: {len(split)} images, {pixels:,} pixels')
  for of_head in scores.values():
    progress.show_scores(of_head)


if __name__ == '__main__':
  cli.run(main, define_flags)
