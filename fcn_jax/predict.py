"""Segments images with a trained run, or with a weights file.

  python -m fcn_jax.predict --workdir=runs/fcn16s-scenes photo.jpg folder/ --out=predictions
  python -m fcn_jax.predict --config=experiments/fcn8s.py:voc2011 --config.model.geometry=caffe \\
    --weights=fcn8s-heavy-pascal.caffemodel photo.jpg

Writes for each image:
  OUT/NAME.png          class numbers, with the class colors as palette
  OUT/NAME.overlay.png  the image overlaid with the class colors, and a legend
  OUT/NAME.CLASS.png    with --heatmaps: the probability of each class, as an image
  OUT/NAME.npz          with --heatmaps: `probabilities` [H, W, C]
  OUT/NAME.scores.npz   with --save_scores: `scores` float32 [H, W, C], before the softmax

Images in subfolders keep their relative paths. A file that cannot be read is reported and skipped; the exit code is
then 1.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import dataclasses
import io
import pathlib
import sys
import warnings

import numpy as np
from absl import flags
from PIL import Image, ImageOps

from fcn_jax import cli, files, images
from fcn_jax.errors import UserError

ENDINGS = ('.jpg', '.jpeg', '.png', '.webp')


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_config()
  flags.DEFINE_string('workdir', None, 'Run directory of a trained network, whose preprocessing is used.')
  flags.DEFINE_string('weights', None, 'Weights file to use instead of a run; --config describes the network.')
  flags.DEFINE_string('out', 'predictions', 'Folder to write to.')
  flags.DEFINE_enum('checkpoint', 'last', ['last', 'best'], 'Checkpoint to use.')
  flags.DEFINE_bool('heatmaps', False, 'Also write the probability of each class.')
  flags.DEFINE_bool('save_scores', False, 'Also write the scores before the softmax.')


@dataclasses.dataclass(frozen=True)
class Photo:
  """A file to segment, the name of its output, and its height and width after the EXIF rotation."""

  path: pathlib.Path
  name: str
  size: tuple[int, int]


def main(arguments: list[str]) -> None:
  """The command."""
  given = flags.FLAGS
  has_config = given['config'].value is not None
  if bool(given.workdir) == has_config or bool(given.weights) != has_config:
    raise UserError('nothing to predict with; expected --workdir=RUN, or both --config=... and --weights=FILE')
  if not arguments:
    raise UserError('no images; expected files or folders, for example photo.jpg folder/')
  # An image of more than 90 million pixels is an attack or a mistake, and would fill the memory.
  warnings.simplefilter('error', Image.DecompressionBombWarning)
  photos, broken = [], []
  for path, name in output_names(arguments, pathlib.Path(given.out).expanduser()).items():
    try:
      photos.append(Photo(path, name, size_of(path)))
    except Exception as error:  # whatever a damaged file makes the readers raise
      broken.append(f'{path}: {error}')
  if photos:
    broken += segment(photos, given)
  for line in broken:
    sys.stderr.write(f'skipped {line}\n')
  sys.exit(1 if broken else 0)


def output_names(arguments: list[str], out: pathlib.Path) -> dict[pathlib.Path, str]:
  """The image files that the arguments name, each with the name of its output without the ending.

  The output of a file is named after its stem. The output of a file in a folder is named after its path below the
  folder. If `out` is inside one of the folders, its images are skipped: they are earlier predictions.
  """
  found, out = {}, out.resolve()
  for argument in (pathlib.Path(word).expanduser() for word in arguments):
    if argument.is_dir():
      inside = sorted(p for p in argument.rglob('*') if p.suffix.lower() in ENDINGS and p.is_file())
      if out != argument.resolve():
        inside = [path for path in inside if out not in path.resolve().parents]
      if not inside:
        raise UserError(f'there is no image in {argument}; expected {", ".join(ENDINGS)}')
      found |= {path: str(path.relative_to(argument).with_suffix('')) for path in inside}
    elif argument.exists():
      found[argument] = argument.stem
    else:
      raise UserError(f'there is no file or folder {argument}')
  _check_outputs(found, out)
  return found


def _check_outputs(found: dict[pathlib.Path, str], out: pathlib.Path) -> None:
  written: dict[str, pathlib.Path] = {}
  for path, name in found.items():
    for file in (f'{name}.png', f'{name}.overlay.png'):
      if written.setdefault(file, path) != path:
        raise UserError(
          f'{written[file]} and {path} would both be written to {file}; use another --out for one of them'
        )
      if out / file == path.resolve():
        raise UserError(f'{path} would be overwritten by its own prediction; use another --out')


def size_of(path: pathlib.Path) -> tuple[int, int]:
  """Height and width of an image after its EXIF rotation, from the header alone."""
  with Image.open(path) as image:
    width, height = image.size
    turned = image.getexif().get(0x0112) in (5, 6, 7, 8)  # the EXIF orientations that swap the axes
  return (width, height) if turned else (height, width)


def read(path: pathlib.Path) -> np.ndarray:
  """Any image as people see it: uint8 [H, W, 3], rotated by its EXIF orientation, transparency over white."""
  with Image.open(path) as image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # 16 bits per pixel, which `convert` would clip at 255
      image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
      image = image.convert('RGBA')
      white = Image.new('RGBA', image.size, 'white')
      image = Image.alpha_composite(white, image)
    return np.asarray(image.convert('RGB'))


def load_predictor(given):
  """Loads the network of the run, or of --config with --weights.

  Raises:
    UserError: the network has input streams that an image file does not provide.
  """
  if given.weights:
    config = cli.config()
    from fcn_jax import api
    from fcn_jax.data import dataset
    from fcn_jax.weights import match

    inputs, heads = dataset.describe(config.data)
    config, params = match.load(config, inputs, heads, given.weights)
    predictor = api.Predictor(config, inputs, heads, params)
  else:
    from fcn_jax.run import saved

    cli.relocated(saved.read_config(files.path(given.workdir)))  # an error here comes before jax is imported
    from fcn_jax import api

    predictor = api.load_run(given.workdir, checkpoint=given.checkpoint)
  channels = {stream: len(mean) for stream, mean in predictor.model.mean.items()}
  if list(channels.values()) != [3]:
    listed = ', '.join(f'{stream} with {count}' for stream, count in channels.items())
    raise UserError(
      f'the network expects the input streams {listed} channels, but image files have one stream of 3; use '
      'fcn_jax.load_run(...).predict with a dict of arrays'
    )
  return predictor


def segment(photos: list[Photo], given) -> list[str]:
  """Writes the predictions of all photos; returns one line for each photo that turns out to be broken."""
  predictor = load_predictor(given)
  from fcn_jax import api
  from fcn_jax.run import devices, progress

  devices.enable_compilation_cache()
  out, broken = files.path(given.out), []
  sizes = np.array([photo.size for photo in photos])
  with progress.Counter(len(photos)) as bar:
    for canvas, members in api.batches(sizes, predictor.config.eval.canvases):
      whole = []
      for photo in (photos[i] for i in members):
        try:
          whole.append((photo, read(photo.path)))
        except Exception as error:  # as in `main`: the header may be intact although the rest is not
          broken.append(f'{photo.path}: {error}')
      scores = predictor.scores([image for _, image in whole], canvas, len(members)) if whole else []
      for (photo, image), score in zip(whole, scores, strict=True):
        head, classes = next(iter(predictor.heads.items()))
        write(out, photo.name, image, score[head], classes, given)
      for _ in members:
        bar.advance()
  return broken


def write(out, name: str, image: np.ndarray, scores: np.ndarray, classes, given) -> None:
  """Writes all files of an image uint8 [H, W, 3] from the scores of its classes before the softmax, [H, W, C]."""
  from scipy.special import softmax

  def save_arrays(ending: str, **arrays) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    files.write(out / f'{name}.{ending}', buffer.getvalue())

  prediction = scores.argmax(-1).astype(np.uint8)
  files.write(out / f'{name}.png', images.indexed(prediction, classes.palette))
  files.write(out / f'{name}.overlay.png', images.overlay(image, prediction, classes.names, classes.palette))
  if given.save_scores:
    save_arrays('scores.npz', scores=scores)
  if given.heatmaps:
    probabilities = softmax(scores, axis=-1)
    for number, label in enumerate(classes.names):
      gray = Image.fromarray((255 * probabilities[..., number]).round().astype(np.uint8))
      files.write(out / f'{name}.{label}.png', images.encoded(gray))
    save_arrays('npz', probabilities=probabilities, classes=classes.names)


if __name__ == '__main__':
  cli.run(main, define_flags)
