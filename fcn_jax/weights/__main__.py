"""Turns a file of weights into an .npz in this network's names and layout, and says what is in it.

  python -m fcn_jax.weights VGG_ILSVRC_16_layers.caffemodel vgg16.npz
  python -m fcn_jax.weights vgg16_bn.safetensors vgg16.npz      # torchvision's or timm's; batch norm is folded in
  python -m fcn_jax.weights vgg16 vgg16.npz                     # fetched

Reads .caffemodel (VGG-16, and the authors' FCNs), .safetensors, .h5 (Keras applications) and .npz. A training starts
from any of them as well: --config.init.weights=FILE. What the network has no place for must be named: --without=A+B.
"""

from absl import flags

from fcn_jax import cli
from fcn_jax.errors import UserError

_WITHOUT = flags.DEFINE_string('without', '', 'Layers of the file that may be left over, joined by +.')


def main(arguments: list[str]) -> None:
  if len(arguments) != 2:
    raise UserError(f'{len(arguments)} arguments; expected SOURCE and OUT.npz')
  source, out = arguments
  if not out.endswith('.npz'):
    raise UserError(f'{out} does not end in .npz, which is what is written')

  from fcn_jax.run import progress
  from fcn_jax.weights import formats, match

  weights = match.read(source)
  for name, tensor in weights.tensors.items():
    progress.say(f'  {name} {list(tensor.value.shape)}  {", ".join(filter(None, (tensor.source, tensor.change)))}')
  rows = match.left_over(weights, _WITHOUT.value.split('+'), of=weights.tensors)
  for row in rows:
    progress.say(f'  {row.fate}  {row.name} {list(row.shape)}  {row.note}')
  match.refuse(rows, source, asking='--without')
  formats.write(out, weights)
  count = sum(tensor.value.size for tensor in weights.tensors.values())
  mean, std = (', '.join(f'{x:.2f}' for x in values) for values in (weights.mean, weights.std))
  progress.say(f'{out}: {count:,} values; for pictures of RGB 0..255 minus ({mean}), over ({std})')


if __name__ == '__main__':
  cli.run(main)
