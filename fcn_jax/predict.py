"""Segments pictures with a trained run, or with the weights of a file.

  python -m fcn_jax.predict --workdir=runs/fcn16s-scenes photo.jpg folder/ --out=predictions
  python -m fcn_jax.predict --config=experiments/fcn8s.py:voc2011 --config.model.geometry=caffe \
    --weights=fcn8s-heavy-pascal.caffemodel photo.jpg

Writes OUT/NAME.png (class numbers, with the class colours as palette) and OUT/NAME.overlay.png (the picture under its
classes, with a legend); with --heatmaps also OUT/NAME.CLASS.png and OUT/NAME.npz with `probabilities` [H, W, C]; with
--save_scores also OUT/NAME.scores.npz with `scores` float32 [H, W, C], before the softmax.
Pictures below a folder keep their place below it. A file that cannot be read is named and skipped, and the exit code
is then 1.
"""

import dataclasses
import io
import pathlib
import sys
import warnings

import numpy as np
from absl import flags
from PIL import Image, ImageOps

from fcn_jax import cli
from fcn_jax.errors import UserError

cli.define_config()
_WORKDIR = flags.DEFINE_string('workdir', None, 'The run to predict with; its preprocessing comes with it.')
_WEIGHTS = flags.DEFINE_string('weights', None, 'Instead of a run: a file for the network of --config.')
_OUT = flags.DEFINE_string('out', 'predictions', 'The folder to write to.')
_CHECKPOINT = flags.DEFINE_enum('checkpoint', 'last', ['last', 'best'], 'Which of the checkpoints.')
_HEATMAPS = flags.DEFINE_bool('heatmaps', False, 'Also write the probability of each class.')
_SCORES = flags.DEFINE_bool('save_scores', False, 'Also write the scores before the softmax.')

ENDINGS = ('.jpg', '.jpeg', '.png', '.webp')
BATCH_PIXELS = 2**20  # of a batch's canvases together; a larger picture goes alone


@dataclasses.dataclass(frozen=True)
class Picture:
  """A file to segment, the name of what is written for it, and its height and width as people see it."""

  path: pathlib.Path
  name: str
  size: tuple[int, int]


def main(arguments: list[str]) -> None:
  has_config = flags.FLAGS['config'].value is not None
  if bool(_WORKDIR.value) == has_config or bool(_WEIGHTS.value) != has_config:
    raise UserError('nothing to predict with; expected --workdir=RUN, or both --config=... and --weights=FILE')
  if not arguments:
    raise UserError('no pictures; expected files or folders, as photo.jpg folder/')
  # A picture of some 180 million pixels or more is an attack or a mistake, and would fill the memory.
  warnings.simplefilter('error', Image.DecompressionBombWarning)
  pictures, broken = [], []
  for path, name in names(arguments, pathlib.Path(_OUT.value)).items():
    try:
      pictures.append(Picture(path, name, size_of(path)))
    except Exception as error:  # whatever a damaged file makes the readers raise
      broken.append(f'{path}: {error}')
  if pictures:
    broken += segment(pictures, _OUT.value)
  for line in broken:
    sys.stderr.write(f'skipped {line}\n')
  sys.exit(1 if broken else 0)


def names(arguments: list[str], out: pathlib.Path) -> dict[pathlib.Path, str]:
  """The files that the arguments stand for, and a name for each: of a file its own, below a folder its place there.

  A folder's pictures are not those in `out`, where that lies below it: earlier predictions.
  """
  found, out = {}, out.resolve()
  for argument in map(pathlib.Path, arguments):
    if argument.is_dir():
      inside = sorted(p for p in argument.rglob('*') if p.suffix.lower() in ENDINGS and p.is_file())
      if out != argument.resolve():
        inside = [path for path in inside if out not in path.resolve().parents]
      if not inside:
        raise UserError(f'there is no picture in {argument}; expected {", ".join(ENDINGS)}')
      found |= {path: str(path.relative_to(argument).with_suffix('')) for path in inside}
    elif argument.exists():
      found[argument] = argument.stem
    else:
      raise UserError(f'there is no file or folder {argument}')
  written = {}
  for path, name in found.items():
    for file in (f'{name}.png', f'{name}.overlay.png'):
      if written.setdefault(file, path) != path:
        raise UserError(f'{written[file]} and {path} would both be written as {file}; take another --out for one')
      if out / file == path.resolve():
        raise UserError(f'{path} would be overwritten by its own prediction; take another --out')
  return found


def size_of(path: pathlib.Path) -> tuple[int, int]:
  """Height and width of a picture after its EXIF rotation, from the header alone."""
  with Image.open(path) as image:
    width, height = image.size
    turned = image.getexif().get(0x0112) in (5, 6, 7, 8)  # the EXIF orientations that swap the axes
  return (width, height) if turned else (height, width)


def read(path: pathlib.Path) -> np.ndarray:
  """Any picture as people see it: uint8 [H, W, 3], turned as its EXIF says, transparency over white."""
  with Image.open(path) as image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # 16 bits a pixel, which `convert` would clip at 255
      image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
      image = image.convert('RGBA')
      white = Image.new('RGBA', image.size, 'white')
      image = Image.alpha_composite(white, image)
    return np.asarray(image.convert('RGB'))


def segment(pictures: list[Picture], out: str) -> list[str]:
  """Writes the predictions of all pictures; returns a line for each that turned out to be broken."""
  from etils import epath

  from fcn_jax.run import directory

  config = cli.config() if _WEIGHTS.value else directory.read_config(epath.Path(_WORKDIR.value))
  import jax  # takes seconds to import: not before the run is there

  from fcn_jax.data import augment, dataset
  from fcn_jax.models import fcn
  from fcn_jax.run import checkpoint, devices, progress
  from fcn_jax.weights import match

  devices.keep_compilations()
  classes, palette = dataset.classes_and_palette(config.data)
  if _WEIGHTS.value:
    config, params = match.load(config, len(classes), _WEIGHTS.value, progress.say)
  else:
    _, params = checkpoint.load_params(_WORKDIR.value, _CHECKPOINT.value)
  model, out = fcn.from_config(config, len(classes)), epath.Path(out)
  params = jax.device_put(params)
  scores_of = jax.jit(lambda params, *inputs: model.apply({'params': params}, *inputs))
  broken = []
  with progress.Counter(len(pictures)) as bar:
    for canvas, batch in batches(pictures, config.eval.canvases):
      images = []
      for picture in batch:
        try:
          images.append((picture, read(picture.path)))
        except Exception as error:  # as in `main`: a header may be whole where the rest is not
          broken.append(f'{picture.path}: {error}')
      examples = [augment.on_canvas(image, image[..., 0], canvas) for _, image in images]
      examples += examples[:1] * (len(batch) - len(examples))
      if examples:
        stacked = (np.stack([e[name] for e in examples]) for name in ('image', 'size'))
        scores = np.asarray(scores_of(params, *stacked))
        for (picture, image), score in zip(images, scores, strict=False):
          write(out, picture.name, image, score[: image.shape[0], : image.shape[1]], classes, palette)
      for _ in batch:
        bar.advance()
  return broken


def batches(pictures: list[Picture], count: int):
  """Pictures that share a canvas, as many as fit `BATCH_PIXELS`: yields ((height, width), pictures)."""
  from fcn_jax.data import canvases

  sizes = np.array([picture.size for picture in pictures])
  for canvas, members in canvases.eval_plan(sizes, batch_size=len(pictures), canvases=count):
    most = max(1, BATCH_PIXELS // (canvas[0] * canvas[1]))
    for start in range(0, len(members), most):
      yield canvas, [pictures[i] for i in members[start : start + most]]


def write(out, name: str, image: np.ndarray, scores: np.ndarray, classes, palette) -> None:
  """All files of a picture, image uint8 [H, W, 3], from the scores of its classes before the softmax, [H, W, C]."""
  from scipy.special import softmax

  from fcn_jax import files, images

  def save_arrays(ending: str, **arrays) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    files.write(out / f'{name}.{ending}', buffer.getvalue())

  prediction = scores.argmax(-1).astype(np.uint8)
  files.write(out / f'{name}.png', images.indexed(prediction, palette))
  files.write(out / f'{name}.overlay.png', images.overlay(image, prediction, classes, palette))
  if _SCORES.value:
    save_arrays('scores.npz', scores=scores)
  if _HEATMAPS.value:
    probabilities = softmax(scores, axis=-1)
    for number, label in enumerate(classes):
      grey = Image.fromarray((255 * probabilities[..., number]).round().astype(np.uint8))
      files.write(out / f'{name}.{label}.png', images.encoded(grey))
    save_arrays('npz', probabilities=probabilities, classes=classes)


if __name__ == '__main__':
  cli.run(main)
