"""Splits of random images in memory, for the tests of data."""

import collections
import io

import numpy as np
from PIL import Image

from fcn_jax import config as config_lib
from fcn_jax.data import records
from fcn_jax.data.dataset import IGNORE, CheckedSplit, Classes

COUNT = 23  # no multiple of any batch size in the tests
CLASSES = Classes(tuple('abcdefgh'), ((0, 0, 0),) * 8)
# Settings of the section `data` that change nothing in an image.
PLAIN = {'scale': (1.0, 1.0), 'flip': 0.0, 'brightness': 0.0, 'contrast': 0.0, 'color': 0.0}


def png(pixels):
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, 'PNG')
  return buffer.getvalue()


class Source(list):
  """Undecoded records, as TFDS gives them; counts how often each is read."""

  def __init__(self, items):
    super().__init__(items)
    self.reads = collections.Counter()

  def __getitem__(self, index):
    self.reads[index] += 1
    return super().__getitem__(index)


def record(number, image, label):
  return {'image': png(image), 'label': png(label), 'id': f'image_{number}'.encode()}


def make_source(count=COUNT, largest=50):
  """Noise, except for red, which identifies the image: 10 times its number."""
  rng, items = np.random.default_rng(0), []
  for number in range(count):
    size = tuple(rng.integers(1, largest + 1, 2))
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    image[..., 0] = 10 * number
    label = rng.choice(np.array([0, 1, 7, IGNORE], np.uint8), size)
    items.append(record(number, image, label))
  return Source(items)


def blank(count, height=10, width=10):
  """Records of black images of class 0."""
  image = np.zeros((height, width, 3), np.uint8)
  return Source([record(i, image, image[..., 0]) for i in range(count)])


def make_split(source=None, room=2**30):
  """A split named train, as `dataset.load` makes it."""
  unchecked = records.Records(make_source() if source is None else source, room=room)
  return CheckedSplit(unchecked, 'train', records.INPUTS, {records.HEAD: CLASSES})


def settings(**fields):
  """The section `data` of `scenes`, for small images."""
  data = config_lib.default('scenes').data
  data.update({'train_size': (32, 32)} | fields)
  return data
