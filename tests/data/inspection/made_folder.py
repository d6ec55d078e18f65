"""Makes small folders of images and masks for the tests of `python -m fcn_jax.data`."""

import numpy as np
from PIL import Image

SIZE = 48, 64  # height and width
COUNTS = {'train': 6, 'val': 3}


def image(seed: int, size=SIZE) -> Image.Image:
  """Colored blotches, different for each seed."""
  small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
  return Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)


def label(seed: int, size=SIZE) -> np.ndarray:
  """Classes 0, 1 and 2 as stripes of different widths: uint8 [H, W]."""
  mask = np.zeros(size, np.uint8)
  mask[:, size[1] // 3 + seed % 5 :] = 1
  mask[size[0] // 2 :, size[1] // 2 :] = 2
  return mask


def make(folder, convert=lambda mask: mask):
  """Makes train/ and val/ with images/ and masks/; `convert` changes each mask. Returns the folder."""
  for split, count in COUNTS.items():
    for number in range(count):
      seed = number + 100 * (split == 'val')
      save(folder / split / 'images' / f'{split}{number}.png', image(seed))
      save(folder / split / 'masks' / f'{split}{number}.png', convert(label(seed)))
  return folder


def save(path, content, **options):
  """Saves an image or an array; returns the path."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == '.npy':
    np.save(path, content)
  else:
    (content if isinstance(content, Image.Image) else Image.fromarray(content)).save(path, **options)
  return path
