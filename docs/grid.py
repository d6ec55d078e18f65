"""Draws pictures of a data set beside what several networks predict, and where the last one errs.

  python -m fcn_jax.evaluate --workdir='runs/stanford/stride=32,seed=0' --save_predictions=predictions/FCN-32s
  ... and likewise for the others ...
  python docs/grid.py --config=experiments/fcn8s.py:stanford_background --pictures=4 --out=docs/stanford.png \
      predictions/FCN-32s predictions/FCN-16s predictions/FCN-8s
"""

import pathlib

import numpy as np
from absl import flags
from etils import epath
from PIL import Image

from fcn_jax import cli, files, images
from fcn_jax.data import dataset
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError

cli.define_config()
_COUNT = flags.DEFINE_integer('pictures', 4, 'How many, spread over the split.')
_OUT = flags.DEFINE_string('out', 'grid.png', 'The file to write.')


def main(arguments: list[str]) -> None:
  if not arguments:
    raise UserError('no predictions; expected folders that `evaluate --save_predictions` wrote')
  folders = [pathlib.Path(argument) for argument in arguments]
  data = dataset.load(cli.config().data)
  chosen = data.split(data.held_out)
  rows = []
  for index in np.linspace(0, len(chosen) - 1, _COUNT.value).astype(int):
    picture = chosen[index]
    predictions = [read(folder / f'{picture["id"]}.png') for folder in folders]
    wrong = (predictions[-1] != picture['label']) & (picture['label'] != IGNORE)
    errors = np.where(wrong[..., None], np.uint8((200, 30, 30)), np.uint8(235))
    maps = [images.colorize(label, data.palette) for label in (picture['label'], *predictions)]
    rows.append([picture['image'], *maps, errors])
  titles = ['image', 'label', *(folder.name for folder in folders), f'errors of {folders[-1].name}']
  files.write(epath.Path(_OUT.value), images.grid(titles, rows, data.classes, data.palette))


def read(path: pathlib.Path) -> np.ndarray:
  try:
    return np.asarray(Image.open(path))
  except OSError as error:
    raise UserError(f'cannot read the prediction {path}: {error.strerror or error}') from error


if __name__ == '__main__':
  cli.run(main)
