"""Draws images of a data set next to the predictions of several networks, and the errors of the last network.

  python -m fcn_jax.evaluate --workdir='runs/stanford/stride=32,seed=0' --save_predictions=predictions/FCN-32s
  ... and the same for the other networks ...
  python docs/grid.py --config=experiments/fcn8s.py:stanford_background --images=4 --out=docs/stanford.png \\
    predictions/FCN-32s predictions/FCN-16s predictions/FCN-8s
"""

import pathlib

import numpy as np
from absl import flags

from fcn_jax import cli, files, image_files, images
from fcn_jax.data import dataset
from fcn_jax.errors import UserError


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_config()
  flags.DEFINE_integer('images', 4, 'Number of images, spread over the split that results are reported on.')
  flags.DEFINE_string('out', 'grid.png', 'File to write.')


def main(arguments: list[str]) -> None:
  """The command."""
  if not arguments:
    raise UserError('no predictions; expected folders that python -m fcn_jax.evaluate --save_predictions wrote')
  folders = [pathlib.Path(argument).expanduser() for argument in arguments]
  data = dataset.load(cli.config().data)
  split, (head, classes) = data.split(data.held_out), next(iter(data.heads.items()))
  rows = []
  for index in np.linspace(0, len(split) - 1, flags.FLAGS.images).astype(int):
    example = split[index]
    label, name = example['labels'][head], f'{example["id"]}.png'
    predictions = [image_files.read_mask(folder / name) for folder in folders]
    wrong = (predictions[-1] != label) & (label != classes.ignore)
    errors = np.where(wrong[..., None], np.uint8((200, 30, 30)), np.uint8(235))
    colored = [images.colorize(x, classes.palette) for x in (label, *predictions)]
    rows.append([images.viewable(example['inputs']), *colored, errors])
  titles = ['image', 'label', *(folder.name for folder in folders), f'errors of {folders[-1].name}']
  files.write(files.path(flags.FLAGS.out), images.grid(titles, rows, classes.names, classes.palette))


if __name__ == '__main__':
  cli.run(main, define_flags)
