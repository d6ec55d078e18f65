"""scenes: images of street-like scenes that fcn_jax draws from random numbers, so that a run needs no download."""

import functools
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFilter

from fcn_jax import images
from fcn_jax.data import records
from fcn_jax.data.builders import scenes_drawing as drawing
from fcn_jax.data.dataset import IGNORE, Classes

SPLITS = {'train': 600, 'validation': 100}  # number of images

# The color of each class in images of labels, and the strength of four textures in its drawn areas, in gray levels:
# fine grain, soft blotches, horizontal ripples, vertical blades. The colors are two grays (road and mountain) and those
# of Okabe and Ito, which color-blind readers can tell apart; each class has the color that suggests it most.
LOOKS = {
  'sky': ((86, 180, 233), (1, 3, 0, 0)),
  'tree': ((0, 158, 115), (12, 18, 0, 0)),
  'road': ((60, 60, 60), (3, 2, 0, 0)),
  'grass': ((240, 228, 66), (6, 6, 0, 15)),
  'water': ((0, 114, 178), (2, 3, 18, 0)),
  'building': ((213, 94, 0), (3, 4, 0, 0)),
  'mountain': ((160, 160, 160), (4, 10, 0, 3)),
  'foreground': ((204, 121, 167), (4, 2, 0, 0)),
}
CLASSES = Classes(drawing.CLASSES, tuple(LOOKS[name][0] for name in drawing.CLASSES))

SMUDGES, SMUDGE_RADIUS = (2, 5), (1, 3)  # lowest and highest, both included
UNKNOWN_BORDER = 0.1  # fraction of the image's columns in which class borders are unlabeled


def load(data):
  """The data set, prepared in `data.dir` if necessary: see `dataset.load`."""
  return records.load_builder(Scenes, {name: name for name in SPLITS}, data, CLASSES)


def describe(data):
  """Streams and heads, which depend on no setting: see `dataset.describe`."""
  return records.INPUTS, {records.HEAD: CLASSES}


class Scenes(records.Builder):
  """Street scenes that fcn_jax draws from random numbers, with the eight classes of the Stanford Background Dataset.

  Every pixel has an exact class, except for about 1 in 100, which is unlabeled (255). The scenes have the classes and
  the thin structures of outdoor photographs, so that strides, skips and upsampling make a difference within minutes.
  Scores on scenes do not predict scores on photographs.
  """

  def examples(self, dl_manager) -> dict[str, Iterator[dict]]:
    """They are drawn; nothing is downloaded."""
    return {split: map(functools.partial(_example, split), range(count)) for split, count in SPLITS.items()}


def _example(split: str, index: int) -> dict:
  drawn = image(split, index)
  jpeg = images.encoded(Image.fromarray(drawn['image']), 'JPEG', quality=92)
  return {'image': jpeg, 'label': images.encoded(Image.fromarray(drawn['label'])), 'id': f'{split}_{index:05d}'}


def image(split: str, index: int) -> dict[str, np.ndarray]:
  """Image `index` of a split, a pure function of both: image uint8 [H, W, 3] RGB and label uint8 [H, W].

  Labels are 0 to 7, or 255 for unlabeled pixels.
  """
  scene = drawing.Scene(np.random.default_rng([list(SPLITS).index(split), index]))
  for part in (drawing.sky, drawing.mountains, drawing.skyline, drawing.ground, drawing.ways, street):  # far to near
    part(scene)
  label = np.array(scene.layers[1])
  return {'image': photograph(scene, label), 'label': without_unsure_pixels(scene, label)}


def street(s: drawing.Scene) -> None:
  """Draws all objects on the ground, from the most distant to the nearest. An object on water becomes a boat."""
  ground = np.array(s.layers[1])
  objects = []
  for kind, (fewest, most) in drawing.OBJECTS.items():
    for _ in range(s.rng.integers(fewest, most + 1)):
      foot, x = int(s.rng.integers(s.horizon + 3, s.height)), int(s.rng.integers(s.width))
      on_water = drawing.CLASSES[ground[foot, x]] == 'water'
      objects.append((foot, len(objects), drawing.boat if on_water else kind, x))
  for foot, _, kind, x in sorted(objects):
    kind(s, x, foot)


def photograph(s: drawing.Scene, label: np.ndarray) -> np.ndarray:
  """The colors under the light of this scene, through a slightly soft lens: uint8 [H, W, 3]."""
  color, light = (np.asarray(s.layers[i], np.float32) for i in (0, 2))
  across = np.linspace(-1, 1, label.shape[1], dtype=np.float32) * s.rng.uniform(-0.1, 0.1)
  light = (light / 255 * (1 + across))[..., None] * s.rng.normal(1, 0.04, 3)
  contrast, middle = s.rng.uniform(0.9, 1.1), s.rng.uniform(115, 140)
  shot = ((color + textures(s, label)[..., None]) * light - 128) * contrast + middle
  shot = Image.fromarray(np.clip(shot, 0, 255).astype(np.uint8))
  shot = np.asarray(shot.filter(ImageFilter.GaussianBlur(s.rng.uniform(0.3, 0.7))), np.float32)
  return np.clip(shot + s.rng.normal(0, 3, shot.shape), 0, 255).astype(np.uint8)


def textures(s: drawing.Scene, label: np.ndarray) -> np.ndarray:
  """Gray levels to add, float32 [H, W]: each class mixes four kinds of noise in proportions given by `LOOKS`."""
  height, width = label.shape
  total = np.zeros(label.shape, np.float32)
  for kind, cell in enumerate(((1, 1), (3, 3), (1, 6), (4, 1))):  # rows and columns of a grain
    grains = (height // cell[0] + 1, width // cell[1] + 1)
    noise = Image.fromarray(s.rng.standard_normal(grains, dtype=np.float32))
    noise = np.asarray(noise.resize((width, height), Image.Resampling.BILINEAR))
    total += np.array([LOOKS[name][1][kind] for name in drawing.CLASSES], np.float32)[label] * noise
  return total


def without_unsure_pixels(s: drawing.Scene, label: np.ndarray) -> np.ndarray:
  """The label with 255 where an annotator would be unsure: small smudges, and class borders in some columns."""
  height, width = label.shape
  result, rows, columns = label.copy(), *np.ogrid[:height, :width]
  border = np.zeros(label.shape, bool)
  border[1:] |= label[1:] != label[:-1]
  start, count = s.rng.integers(width), int(UNKNOWN_BORDER * width)
  result[border & (columns >= start) & (columns < start + count)] = IGNORE
  for _ in range(s.within(SMUDGES)):
    y, x, radius = s.rng.integers(height), s.rng.integers(width), s.within(SMUDGE_RADIUS)
    result[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = IGNORE
  return result
