"""Writes a folder of images in which one class has 2 % of the pixels, to compare what helps such a class.

  python -m benchmarks.rare_class rare
  python -m fcn_jax.sweep --config=experiments/rare_class.py --config.data.folder=rare --workdir=runs/rare

The images are scenes (`fcn_jax.data.builders.scenes`). Six of ten have one to three rusty patches, whose outlines are
round but irregular, and which keep the brightness of what they lie on. Their label is one more class, `rust`.
"""

import pathlib
import sys

import numpy as np
from PIL import Image

from fcn_jax.data.builders import scenes

SPLITS = {'train': 200, 'validation': 100}
RUST = len(scenes.CLASSES.names)  # its label
COLOR, STRENGTH = np.array((40, -5, -35)), (0.35, 0.9)  # added to red, green and blue; lowest and highest factor


def image(split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
  """A pure function of both: an image, uint8 [H, W, 3], and its label, uint8 [H, W]."""
  drawn = scenes.image(split, index)
  colors, label = drawn['image'].astype(np.float64), drawn['label'].copy()
  rng = np.random.default_rng([list(SPLITS).index(split), index, RUST])
  if rng.random() < 0.6:
    for _ in range(rng.integers(1, 4)):
      inside = patch(label.shape, rng)
      colors[inside] += COLOR * rng.uniform(*STRENGTH)
      label[inside] = RUST
  return np.clip(np.round(colors), 0, 255).astype(np.uint8), label


def patch(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
  """An irregular disc with a radius of about 5 to 15 pixels: bool [H, W]."""
  rows, columns = np.ogrid[: shape[0], : shape[1]]
  y, x = (rng.integers(length) for length in shape)
  angle = np.arctan2(rows - y, columns - x)
  waves = sum(rng.uniform(0, 0.25) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5))
  return np.hypot(rows - y, columns - x) < rng.uniform(5, 15) * (1 + waves)


def write(folder: pathlib.Path) -> float:
  """Writes images, masks and class names; returns the share of the class `rust` in the labeled training pixels."""
  rust = labeled = 0
  for split, count in SPLITS.items():
    for kind in ('images', 'masks'):
      (folder / split / kind).mkdir(parents=True)
    for index in range(count):
      colors, label = image(split, index)
      for kind, pixels in (('images', colors), ('masks', label)):
        Image.fromarray(pixels).save(folder / split / kind / f'{index:04d}.png')
      if split == 'train':
        rust, labeled = rust + (label == RUST).sum(), labeled + (label != scenes.IGNORE).sum()
  names = ', '.join(f'"{name}"' for name in (*scenes.CLASSES.names, 'rust'))
  (folder / 'dataset.toml').write_text(f'classes = [{names}]\n')
  return rust / labeled


if __name__ == '__main__':
  if len(sys.argv) != 2 or sys.argv[1].startswith('-'):
    sys.exit(__doc__)
  print(f'{write(pathlib.Path(sys.argv[1])):.1%} of the labeled training pixels are rust')
