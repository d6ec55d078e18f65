"""Image files for the tests of predictions."""

import numpy as np
from PIL import Image


def drawing(height, width, seed=0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path, image, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
  return path


def rotated(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  return exif
