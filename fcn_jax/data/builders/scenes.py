"""scenes: street-like pictures that the project draws itself, so that a run needs no download."""

import io
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageFilter

from fcn_jax.data.builders import scenes_drawing
from fcn_jax.data.dataset import IGNORE

SPLITS = {'train': 600, 'validation': 100}

SMUDGES, SMUDGE_RADIUS = (2, 5), (1, 3)  # lowest and highest, both included
UNKNOWN_BORDER = 0.1  # the share of the picture's columns whose borders are unknown

# How strongly each texture shows in each class, in grey levels:
# fine grain, soft blotches, lying ripples, standing blades.
TEXTURES = {
  'sky': (1, 3, 0, 0),
  'tree': (12, 18, 0, 0),
  'road': (3, 2, 0, 0),
  'grass': (6, 6, 0, 15),
  'water': (2, 3, 18, 0),
  'building': (3, 4, 0, 0),
  'mountain': (4, 10, 0, 3),
  'foreground': (4, 2, 0, 0),
}


def textures(s: scenes_drawing.Scene, label: np.ndarray) -> np.ndarray:
  """Grey levels to add, float32 [H, W]: each class mixes four noises in its own proportions."""
  height, width = label.shape
  total = np.zeros(label.shape, np.float32)
  for kind, cell in enumerate(((1, 1), (3, 3), (1, 6), (4, 1))):  # rows and columns of a grain
    grains = (height // cell[0] + 1, width // cell[1] + 1)
    noise = Image.fromarray(s.rng.standard_normal(grains, dtype=np.float32))
    noise = np.asarray(noise.resize((width, height), Image.Resampling.BILINEAR))
    total += np.array([TEXTURES[name][kind] for name in scenes_drawing.CLASSES], np.float32)[label] * noise
  return total


def photograph(s: scenes_drawing.Scene, label: np.ndarray) -> np.ndarray:
  """The colours under this picture's light, through a slightly soft lens: uint8 [H, W, 3]."""
  colour, light = (np.asarray(s.layers[i], np.float32) for i in (0, 2))
  across = np.linspace(-1, 1, label.shape[1], dtype=np.float32) * s.rng.uniform(-0.1, 0.1)
  light = (light / 255 * (1 + across))[..., None] * s.rng.normal(1, 0.04, 3)
  contrast, middle = s.rng.uniform(0.9, 1.1), s.rng.uniform(115, 140)
  shot = ((colour + textures(s, label)[..., None]) * light - 128) * contrast + middle
  shot = Image.fromarray(np.clip(shot, 0, 255).astype(np.uint8))
  shot = np.asarray(shot.filter(ImageFilter.GaussianBlur(s.rng.uniform(0.3, 0.7))), np.float32)
  return np.clip(shot + s.rng.normal(0, 3, shot.shape), 0, 255).astype(np.uint8)


def forget(s: scenes_drawing.Scene, label: np.ndarray) -> np.ndarray:
  """Sets 255 where an annotator was unsure: small smudges, and borders in some of the columns."""
  height, width = label.shape
  known, rows, columns = label.copy(), *np.ogrid[:height, :width]
  border = np.zeros(label.shape, bool)
  border[1:] |= label[1:] != label[:-1]
  start, count = s.rng.integers(width), int(UNKNOWN_BORDER * width)
  known[border & (columns >= start) & (columns < start + count)] = IGNORE
  for _ in range(s.within(SMUDGES)):
    y, x, radius = s.rng.integers(height), s.rng.integers(width), s.within(SMUDGE_RADIUS)
    known[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = IGNORE
  return known


def draw(rng: np.random.Generator) -> dict[str, np.ndarray]:
  """One scene: image uint8 [H, W, 3] RGB and label uint8 [H, W], 0 to 7 or 255 = unknown."""
  scene = scenes_drawing.Scene(rng)
  for part in scenes_drawing.FAR_TO_NEAR:
    part(scene)
  label = np.array(scene.layers[1])
  return {'image': photograph(scene, label), 'label': forget(scene, label)}


def picture(split: str, index: int) -> dict[str, np.ndarray]:
  """Picture `index` of a split, a pure function of both: see `draw` for what it holds."""
  return draw(np.random.default_rng([list(SPLITS).index(split), index]))


def encoded(pixels: np.ndarray, file_format: str, **options) -> bytes:
  """uint8 [H, W, 3] or [H, W] as a file. TFDS needs TensorFlow to encode arrays itself."""
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, file_format, **options)
  return buffer.getvalue()


def features() -> tfds.features.FeaturesDict:
  """The record of every data set here, which `pipeline` decodes: a JPEG, a grayscale PNG of class numbers, a name."""
  return tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg'),
      'label': tfds.features.Image(shape=(None, None, 1), encoding_format='png'),
      'id': tfds.features.Text(),
    }
  )


def make(data) -> 'Scenes':
  """The builder for a config's section `data`."""
  return Scenes(data_dir=data.dir or None, file_format='array_record')


def splits(data) -> dict[str, str]:
  """TFDS split expressions, by what they are for."""
  del data  # there is one way to split them
  return {'train': 'train', 'validation': 'validation'}


class Scenes(tfds.core.GeneratorBasedBuilder):
  """Drawn street scenes with the eight classes of the Stanford Background Dataset."""

  VERSION = tfds.core.Version('1.0.0')
  CLASSES = scenes_drawing.CLASSES
  # Okabe and Ito's colours, which stay apart for colour-blind readers, and two greys (for road and
  # mountain); each class has the one that suggests it most.
  PALETTE = (
    (86, 180, 233),
    (0, 158, 115),
    (60, 60, 60),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (160, 160, 160),
    (204, 121, 167),
  )

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        'Street scenes drawn by fcn_jax from random numbers, with an exact class for every pixel '
        'but about one in a hundred, which is left unknown (255). They have the classes and the '
        'thin structures of outdoor photographs, so that strides, skips and upsampling make a '
        'difference within minutes; they are no photographs, and scores on them say nothing '
        'about scores on real pictures.'
      ),
      features=features(),
    )

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    del dl_manager  # nothing to download
    return {split: self._generate_examples(split) for split in SPLITS}

  def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
    for index in range(SPLITS[split]):
      name, drawn = f'{split}_{index:05d}', picture(split, index)
      yield (
        name,
        {
          'image': encoded(drawn['image'], 'JPEG', quality=92),
          'label': encoded(drawn['label'], 'PNG'),
          'id': name,
        },
      )
