"""Converts a weights file to an .npz with this network's names and layouts, and lists its tensors.

  python -m fcn_jax.weights VGG_ILSVRC_16_layers.caffemodel vgg16.npz
  python -m fcn_jax.weights vgg16_bn.safetensors vgg16.npz      # torchvision or timm; batch norm is folded in
  python -m fcn_jax.weights vgg16 vgg16.npz                     # downloads the file

Reads .caffemodel (VGG-16 and the FCN authors' networks), .safetensors, .h5 (Keras applications) and .npz. Training can
read the same files: --config.init.weights=FILE. Layers that an FCN does not have are an error unless you list them with
--allow_unused=A+B. An output that exists is left as it is, unless you pass --overwrite.

The output records the mean and standard deviation of the input that the network was trained with: those in an .npz,
otherwise those that are usual for the kind of file. For other files, for example a network that was trained in Caffe
and saved in torchvision's layout, pass --preprocessing=caffe (or torchvision, or none). The order of the channels
follows the kind of file: R, G, B in .safetensors and .npz, B, G, R in .caffemodel and .h5.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import logging
import os
import shlex

from absl import flags

from fcn_jax import cli, config, files
from fcn_jax.errors import UserError

logger = logging.getLogger('fcn_jax.weights')  # here `__name__` is '__main__'


def define_flags() -> None:
  """Defines the flags of the command."""
  flags.DEFINE_string('allow_unused', '', 'Layers of the file that may be left out of the output, joined by +.')
  flags.DEFINE_enum(
    'preprocessing',
    'from_file',
    config.CHOICES['init.preprocessing'],
    'Mean and standard deviation of the input that the network was trained with. Default: what the file says, or what '
    'is usual for its kind.',
  )
  flags.DEFINE_bool('overwrite', False, 'Write the output even if it exists.')


def main(arguments: list[str]) -> None:
  """The command."""
  given = flags.FLAGS
  if len(arguments) != 2:
    raise UserError(f'found {len(arguments)} arguments; expected 2: SOURCE and OUT.npz')
  source, out = arguments[0], files.path(arguments[1])
  from fcn_jax.weights import formats

  if out.suffix.lower() != '.npz':
    formats.refuse_run(files.path(source))
    raise UserError(f'the output {out} does not end in .npz; expected a file name that does')

  from fcn_jax.weights import match  # imports jax

  if files.exists(out):
    if source not in match.KNOWN and not files.exists(files.path(source)):
      raise UserError(f'there is no weights file {source}')
    if _is_same(files.path(source), out):
      raise UserError(f'{out} is the source itself; expected another file as the output')
    if not given.overwrite:
      logger.info(f'skipped: {out} exists; pass --overwrite to write it again')
      return

  weights = match.read(source, given.preprocessing)
  for name, tensor in weights.tensors.items():
    logger.info(f'  {name} {list(tensor.value.shape)}  {", ".join(filter(None, (tensor.source, tensor.change)))}')
  rows = match.unused(weights, given.allow_unused.split('+'), weights.tensors)
  for row in rows:
    logger.info(f'  {match.row_text(row)}')
  match.refuse(rows, source, allow='--allow_unused={}')
  formats.write(out, weights)
  count = sum(tensor.value.size for tensor in weights.tensors.values())
  mean, std = (', '.join(f'{x:.2f}' for x in values) for values in (weights.mean, weights.std))
  logger.info(f'{out}: {count:,} values. Preprocessing of RGB images in 0..255: subtract ({mean}), divide by ({std})')
  if weights.assumed:
    logger.info(
      f'These numbers are those of {weights.assumed}, because {source} does not say what it was trained with; '
      '--preprocessing chooses others'
    )
  logger.info(f'to train from it: --config.init.weights={shlex.quote(str(out))}')


def _is_same(source, out) -> bool:
  if files.is_remote(source) or files.is_remote(out) or not files.exists(source):
    return source == out
  return os.path.samefile(source, out)


if __name__ == '__main__':
  cli.run(main, define_flags)
