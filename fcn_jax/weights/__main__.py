"""Converts a weights file to an .npz with this network's names and layouts, and lists its tensors.

  python -m fcn_jax.weights VGG_ILSVRC_16_layers.caffemodel vgg16.npz
  python -m fcn_jax.weights vgg16_bn.safetensors vgg16.npz      # torchvision or timm; batch norm is folded in
  python -m fcn_jax.weights vgg16 vgg16.npz                     # downloads the file

Reads .caffemodel (VGG-16 and the FCN authors' networks), .safetensors, .h5 (Keras applications) and .npz. Training can
read the same files: --config.init.weights=FILE. Layers that an FCN does not have are an error unless you list them with
--allow_unused=A+B.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

from absl import flags

from fcn_jax import cli
from fcn_jax.errors import UserError


def define_flags() -> None:
  flags.DEFINE_string('allow_unused', '', 'Layers of the file that may be left out of the output, joined by +.')


def main(arguments: list[str]) -> None:
  if len(arguments) != 2:
    raise UserError(f'found {len(arguments)} arguments; expected 2: SOURCE and OUT.npz')
  source, out = arguments
  if not out.endswith('.npz'):
    raise UserError(f'the output {out} does not end in .npz; expected a file name that does')

  from fcn_jax.weights import formats, match

  weights = match.read(source)
  for name, tensor in weights.tensors.items():
    print(f'  {name} {list(tensor.value.shape)}  {", ".join(filter(None, (tensor.source, tensor.change)))}')
  rows = match.unused(weights, flags.FLAGS.allow_unused.split('+'), weights.tensors)
  for row in rows:
    print(f'  {match.row_text(row)}')
  match.refuse(rows, source, flag='--allow_unused')
  formats.write(out, weights)
  count = sum(tensor.value.size for tensor in weights.tensors.values())
  mean, std = (', '.join(f'{x:.2f}' for x in values) for values in (weights.mean, weights.std))
  print(f'{out}: {count:,} values. Preprocessing of RGB images in 0..255: subtract ({mean}), divide by ({std})')


if __name__ == '__main__':
  cli.run(main, define_flags)
