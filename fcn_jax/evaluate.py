"""Scores a run or weights on a split, every picture at its own size, or tells what a stride could reach at best.

  python -m fcn_jax.evaluate --workdir=runs/fcn16s-scenes
  python -m fcn_jax.evaluate --workdir=runs/fcn16s-scenes --split=train --save_predictions=predictions
  python -m fcn_jax.evaluate --config=experiments/fcn8s.py:voc2011_sbd --config.model.geometry=caffe \
    --weights=fcn8s-heavy-pascal.caffemodel --out=released
  python -m fcn_jax.evaluate --upper_bounds --config=experiments/fcn16s.py
  python -m fcn_jax.evaluate --upper_bounds --masks=folder/of/png --classes=21

Scores go to WORKDIR/eval/SPLIT.json, one confusion matrix a picture to WORKDIR/eval/SPLIT.npz, size and cost of the
network to WORKDIR/eval/network.json; those of weights to the folder OUT in the same way; upper bounds to the file OUT.
"""

import pathlib

import numpy as np
from absl import flags
from PIL import Image

from fcn_jax import cli
from fcn_jax.errors import UserError

cli.define_config()
_WORKDIR = flags.DEFINE_string('workdir', None, 'The run to score.')
_SPLIT = flags.DEFINE_string('split', None, 'What to score; by default what the run did not train on.')
_CHECKPOINT = flags.DEFINE_enum('checkpoint', 'last', ['last', 'best'], 'Which of the checkpoints.')
_SAVE = flags.DEFINE_string('save_predictions', None, 'Folder for one PNG of class numbers a picture.')
_BOUNDS = flags.DEFINE_bool('upper_bounds', False, 'Score the labels, sent through the grid of each stride and back.')
_MASKS = flags.DEFINE_string('masks', None, 'Folder of PNG masks of class numbers, for --upper_bounds.')
_CLASSES = flags.DEFINE_integer('classes', None, 'How many classes the masks have.', lower_bound=1, upper_bound=255)
_WEIGHTS = flags.DEFINE_string('weights', None, 'Instead of a run: a file for the network of --config.')
_OUT = flags.DEFINE_string('out', None, 'upper_bounds.json for --upper_bounds, the folder scores for --weights.')


def main(arguments: list[str]) -> None:
  if arguments:
    raise UserError(f'unexpected argument {arguments[0]!r}; see --help')
  if _BOUNDS.value:
    upper_bounds()
  elif _WORKDIR.value and (_WEIGHTS.value or flags.FLAGS['config'].value is not None):
    raise UserError('--config and --weights are for --upper_bounds or a file; a run in --workdir has its own')
  elif _WORKDIR.value or _WEIGHTS.value:
    evaluate()
  else:
    raise UserError('nothing to score; expected --workdir=RUN, --config=... with --weights=FILE, or --upper_bounds')


def evaluate() -> None:
  """Scores a checkpoint of the run, or the weights, and writes and prints what comes out."""
  from etils import epath

  from fcn_jax import files
  from fcn_jax.run import directory

  # jax takes seconds to import: not before the config is there.
  config = cli.config() if _WEIGHTS.value else directory.read_config(epath.Path(_WORKDIR.value))
  import jax

  from fcn_jax import evaluation, images
  from fcn_jax.data import dataset
  from fcn_jax.models import cost, fcn
  from fcn_jax.run import checkpoint, devices, progress
  from fcn_jax.weights import match

  devices.keep_compilations()
  # The devices here may be more than the run had: rounded up, they share each batch equally.
  config.eval.batch_size += -config.eval.batch_size % jax.device_count()
  workdir = epath.Path(_WORKDIR.value or _OUT.value or 'scores')
  if not _WEIGHTS.value:
    step, params = checkpoint.load_params(workdir, _CHECKPOINT.value)
  data = dataset.load(config.data, progress.say)
  if _WEIGHTS.value:
    config, params = match.load(config, len(data.classes), _WEIGHTS.value, progress.say)
    step = 0
  split = _SPLIT.value or data.held_out
  chosen = data.split(split)
  names, model = chosen.ids(), fcn.from_config(config, len(data.classes))

  def save(picture: dict) -> None:
    if _SAVE.value:
      path = epath.Path(_SAVE.value) / f'{names[picture["index"]]}.png'
      files.write(path, images.indexed(picture['prediction'], data.palette))
    bar.advance()

  with progress.Counter(len(chosen)) as bar:
    scored = evaluation.score(model, devices.replicate(params), chosen, config, len(data.classes), each=save)
  scores = evaluation.write(workdir, split, scored, data, step)
  cost.write(workdir, split, model, params, data, config.data.train_size)
  scored_what = _WEIGHTS.value or f'{workdir}, step {step}'
  progress.say(f'{scored_what}, on {split} of {data.fingerprint}: {len(chosen)} images, {scores["pixels"]:,} pixels')
  progress.scores(scores)


def upper_bounds() -> None:
  """What the labels themselves score after a trip to the grid of each stride and back."""
  if bool(_MASKS.value) == (flags.FLAGS['config'].value is not None):
    raise UserError('--upper_bounds wants either --config=..., for its data set, or --masks=FOLDER --classes=N')
  if _MASKS.value:
    labels, classes = masks(pathlib.Path(_MASKS.value), _CLASSES.value), _CLASSES.value
  else:
    config = cli.config()
    from fcn_jax.data import dataset
    from fcn_jax.run import progress

    data = dataset.load(config.data, progress.say)
    chosen = data.split(_SPLIT.value or data.held_out)
    labels, classes = (chosen[i]['label'] for i in range(len(chosen))), len(data.classes)

  from etils import epath

  from fcn_jax import bounds, files
  from fcn_jax.report import published
  from fcn_jax.run import progress

  scores = bounds.upper_bounds(labels, classes)
  files.write_json(epath.Path(_OUT.value or 'upper_bounds.json'), scores)
  rows = []
  for stride, x in scores.items():
    theirs = f'{published.UPPER_BOUNDS[stride]} %' if stride in published.UPPER_BOUNDS else ''
    rows.append([str(stride), progress.percent(x['mean_iou']), progress.percent(x['pixel_accuracy']), theirs])
  columns = ['stride', 'mean IoU', 'pixel accuracy', "mean IoU of VOC, CVPR'15"]
  progress.grid('labels through the grid and back', columns, rows)


def masks(folder: pathlib.Path, classes: int | None) -> list[np.ndarray]:
  """The PNG masks of a folder, uint8 [H, W], grayscale or with a palette."""
  if not classes:
    raise UserError('--masks wants --classes=N, the number of classes in the masks')
  paths = sorted(folder.glob('*.png'))
  if not paths:
    raise UserError(f'there is no PNG mask in {folder}')
  labels = []
  for path in paths:
    try:
      with Image.open(path) as opened:
        label = np.asarray(opened)
    except (OSError, SyntaxError, ValueError) as error:
      raise UserError(f'{path} cannot be read: {error}') from error
    if label.ndim != 2 or label.dtype != np.uint8:
      raise UserError(f'{path} is {label.dtype} {list(label.shape)}; expected class numbers, uint8 [H, W]')
    if (wrong := label[(label >= classes) & (label != 255)]).size:
      raise UserError(f'{path} has the class {wrong[0]}; expected 0 to {classes - 1}, or 255 to ignore')
    labels.append(label)
  return labels


if __name__ == '__main__':
  cli.run(main)
