"""Upper bounds: downsamples the ground truth to each stride, upsamples it again, and scores the result.

  python -m fcn_jax.bounds --config=experiments/fcn16s.py
  python -m fcn_jax.bounds --masks=folder/of/png --classes=21

A network of a stride cannot be expected to score higher than the bound of that stride (CVPR'15, appendix A). Each cell
of the grid has the fraction of each class in it. These fractions are upsampled bilinearly, and the class with the
largest fraction wins. If data.resize makes images smaller, labels are those after resizing, since strides are in pixels
of these images. Prints a table, and writes the scores to --out; a file that exists is kept, unless --overwrite
is given.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import contextlib
import functools
import logging
import os
from collections.abc import Iterable

import numpy as np
from absl import flags
from etils import epath

from fcn_jax import cli, files, image_files
from fcn_jax.errors import UserError

logger = logging.getLogger('fcn_jax.bounds')  # here `__name__` is '__main__'

STRIDES = (128, 64, 32, 16, 8, 4, 2)  # pixels
CANVAS = 128  # labels are padded to multiples of it, so that few shapes are compiled


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_config()
  flags.DEFINE_string(
    'split', None, 'Split of the data set of --config. Default: test, or validation if there is no test split.'
  )
  flags.DEFINE_string('masks', None, 'Folder with PNG masks of class numbers, instead of --config.')
  flags.DEFINE_integer('classes', None, 'Number of classes in the masks.', lower_bound=1, upper_bound=255)
  flags.DEFINE_string('out', 'upper_bounds.json', 'JSON file to write.')
  flags.DEFINE_bool('overwrite', False, 'Replace the file --out if it exists; otherwise it stays as it is.')


def main(arguments: list[str]) -> None:
  """The command."""
  given = flags.FLAGS
  if arguments:
    raise UserError(f'unexpected argument {arguments[0]!r}; see --help')
  if bool(given.masks) == (given['config'].value is not None):
    raise UserError('expected either --config=..., for its data set, or --masks=FOLDER with --classes=N')
  out = _output(given)
  if given.masks:
    labels, classes = read_masks(files.path(given.masks), given.classes), given.classes
  else:
    labels, classes = _labels_of_config(given.split)

  from fcn_jax.report import published
  from fcn_jax.run import progress

  scores = upper_bounds(labels, classes)
  rows = []
  for stride, x in scores.items():
    theirs = f'{published.UPPER_BOUNDS[stride]} %' if stride in published.UPPER_BOUNDS else ''
    rows.append([str(stride), progress.percent(x['mean_iou']), progress.percent(x['pixel_accuracy']), theirs])
  columns = ['stride, pixels', 'mean IoU', 'pixel accuracy', "mean IoU of VOC, CVPR'15"]
  progress.show_table('upper bounds by stride', columns, rows)
  if files.exists(out) and not given.overwrite:
    logger.warning(f'{out} exists and is kept, so these scores are not written; --overwrite replaces it')
  else:
    files.write_json(out, scores)
    logger.info(f'{files.printable(str(out))} is written')
  if not given.masks:
    progress.show_next(('main', *cli.config_words()))


def _output(given) -> epath.Path:
  """The file to write. Raises: UserError: it is an input, or a folder."""
  out = files.path(given.out)
  if files.exists(out) and out.is_dir():
    raise UserError(f'--out={given.out} is a folder; expected a JSON file, for example {out / "upper_bounds.json"}')
  if given.masks:
    is_input = out.suffix.lower() == '.png' and os.path.realpath(out.parent) == os.path.realpath(
      files.path(given.masks)
    )
  else:
    data = [value for value in cli.config().data.values() if isinstance(value, str) and value]  # archives among them
    is_input = os.path.realpath(out) in map(os.path.realpath, [cli.config_path(), *map(files.path, data)])
  if is_input:
    raise UserError(f'--out={out} is an input of this command, which would be overwritten; use another name')
  return out


def _labels_of_config(split: str | None) -> tuple[Iterable[np.ndarray], int]:
  """The labels of the first head of the data set of --config, and the number of classes."""
  config = cli.config()
  from fcn_jax.data import dataset

  data = dataset.load(config.data)
  chosen, head = data.split(split or data.held_out), next(iter(data.heads))
  return (chosen[i]['labels'][head] for i in range(len(chosen))), len(data.heads[head])


def read_masks(folder: epath.Path, classes: int | None) -> list[np.ndarray]:
  """The PNG masks of a folder, grayscale or with a palette: uint8 [H, W]. Hidden files are left out.

  Raises:
    UserError: there is none, one cannot be read, or one has other values than 0 to `classes` - 1 and 255.
  """
  if not classes:
    raise UserError('--masks requires --classes=N, the number of classes in the masks')
  if files.exists(folder) and not folder.is_dir():
    raise UserError(f'--masks={folder} is a file; expected a folder with PNG masks')
  with files.explained(folder):
    found = sorted(path for path in folder.iterdir() if not path.name.startswith('.'))
  paths = [path for path in found if path.suffix.lower() == '.png']
  others = sorted({path.suffix.lower() for path in found} & {*image_files.ENDINGS} - {'.png'})
  if not paths:
    remedy = f'; convert its {", ".join(others)} files to PNG' if others else ''
    raise UserError(f'there is no PNG mask in {folder}{remedy}')
  if others:
    logger.warning('only PNG masks are scored; the %s files in %s are left out', ', '.join(others), folder)
  labels = []
  for path in paths:
    label = image_files.read_mask(path)
    if (wrong := label[(label >= classes) & (label != 255)]).size:
      raise UserError(f'{path} has the class {wrong[0]}; expected 0 to {classes - 1}, or 255 for pixels to ignore')
    labels.append(label)
  return labels


@functools.cache
def _compiled():
  """The function (label [H, W], stride, classes) -> confusion matrix [C, C]; H and W are multiples of the stride."""
  import jax
  import jax.numpy as jnp

  from fcn_jax.counting import confusion
  from fcn_jax.models.upsample import interpolate

  def through_grid(label: jax.Array, stride: int, classes: int) -> jax.Array:
    height, width = label.shape
    shares = label[..., None] == jnp.arange(classes)
    shares = shares.reshape(height // stride, stride, width // stride, stride, classes).mean((1, 3))[None]
    back = interpolate(shares, stride, stride // 2, (height, width)) if stride > 1 else shares
    return confusion(jnp.argmax(back, -1), label[None], classes)[0]

  return jax.jit(through_grid, static_argnums=(1, 2))


def upper_bounds(labels: Iterable[np.ndarray], classes: int, strides: tuple[int, ...] = STRIDES) -> dict[int, dict]:
  """The upper bound of each stride.

  Args:
    labels: uint8 [H, W] each, 255 for pixels to ignore.
    classes: the number of classes.
    strides: in pixels.

  Returns:
    The result of `metrics.summarize` for each stride; classes are named by their numbers.

  Raises:
    UserError: no pixel has a class.
  """
  from fcn_jax import metrics
  from fcn_jax.data.dataset import IGNORE

  totals = {stride: np.zeros((classes, classes), np.int64) for stride in strides}
  for label in labels:
    padding = [(0, -length % CANVAS) for length in label.shape]
    label = np.pad(label, padding, constant_values=IGNORE)  # only labeled pixels count in the fractions of a cell
    for stride in strides:
      totals[stride] += np.asarray(_compiled()(label, stride, classes))
  if not totals[strides[0]].any():
    raise UserError('no pixel of these labels has a class, so there is nothing to score')
  names = tuple(str(number) for number in range(classes))
  return {stride: metrics.summarize(total, names) for stride, total in totals.items()}


def write_network(
  directory, split: str, model, params: dict, data, size: tuple[int, int], checkpoint: str = 'last'
) -> None:
  """Writes `eval/network.json`, and `eval/kernels.npz` with the trained upsampling kernels [k, k, C], by layer.

  Those of the best checkpoint are `eval/network.best.json` and `eval/kernels.best.npz`.

  The JSON file has these fields:
    parameters: the number of parameters.
    size, gflop: height and width of an image, and the GFLOP of its forward pass.
    upper_bound: by split, the upper bound of the first head at the stride of the network's finest scores.
    kernel_distance: by layer and class, the relative distance of the trained kernel from the bilinear kernel.
  """
  from fcn_jax.metrics import METRICS
  from fcn_jax.models import cost
  from fcn_jax.run import saved

  chosen, head, suffix = data.split(split), next(iter(data.heads)), saved.SUFFIXES[checkpoint]
  labels = (chosen[i]['labels'][head] for i in range(len(chosen)))
  (bound,) = upper_bounds(labels, len(data.heads[head]), (model.stride * model.shrink,)).values()
  kernels = {name: np.asarray(layer['kernel']) for name, layer in params.items() if name.startswith('upsample_')}
  if kernels:
    directory.write(f'eval/kernels{suffix}.npz', files.npz(**kernels))
  previous = {}
  if saved.is_run(directory.path):  # elsewhere, the file may be about another network
    with contextlib.suppress(UserError):  # a damaged file is made again
      previous = (saved.read_network(directory.path, f'network{suffix}') or {}).get('upper_bound', {})
  directory.write_json(
    f'eval/network{suffix}.json',
    {
      'parameters': cost.parameters(params),
      'gflop': cost.flops(model, tuple(size)) / 1e9,
      'size': list(size),
      'upper_bound': previous | {split: {name: bound[name] for name in METRICS}},
      'kernel_distance': {name: cost.kernel_distances(kernel) for name, kernel in kernels.items()},
    },
  )


if __name__ == '__main__':
  cli.run(main, define_flags)
