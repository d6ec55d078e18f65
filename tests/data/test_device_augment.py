"""The device augments like the host: the same draws, colors within one level of 255, and equal labels."""

import itertools

import jax
import numpy as np
import pytest
from noise import CLASSES, make_source, make_split, settings

from fcn_jax.data import device_augment, pipeline
from fcn_jax.data.dataset import CheckedSplit
from fcn_jax.data.windows import Windows

COLORS = {'brightness': 0.3, 'contrast': 0.3, 'color': 0.3}
CHANNELS = {'rgb': 3, 'bands': 5, 'depth': 1}
GEOMETRY = {'flip_vertical': 0.5, 'rotate90': 0.7, 'rotate': 20.0, 'crop_rare': 0.5}
BLUR, NOISE = {'blur': 2.0}, {'noise': 30.0}
AUGMENTED = jax.jit(device_augment.augmented)


class Split:
  """Noise of given sizes, with two heads."""

  def __init__(self, sizes, channels):
    noise, self._sizes = np.random.default_rng(0).integers(0, 256, 10**5 + 7, np.uint8), np.array(sizes)
    self._images = [
      {
        'inputs': {name: np.resize(noise, (*size, count)) for name, count in channels.items()},
        'labels': {head: np.resize(noise % (ord(head) - 90), size) for head in 'ab'},
        'id': str(number),
      }
      for number, size in enumerate(sizes)
    ]

  def __len__(self):
    return len(self._images)

  def __getitem__(self, index):
    return self._images[index]

  def sizes(self):
    return self._sizes

  def ids(self):
    return [image['id'] for image in self._images]


def batches(split, on, steps=25, **fields):
  data = settings(augment_on=on, **{'train_size': (32, 40), 'flip': 0.5} | fields)
  return list(itertools.islice(pipeline.train_batches(split, data, batch_size=8, seed=1), steps))


def assert_agree(split, steps=25, **fields):
  """200 draws, by default. Where no color changes, the images are equal, too."""
  for host, sent in zip(*(batches(split, on, steps, **fields) for on in ('host', 'device')), strict=True):
    device = jax.tree.map(np.asarray, AUGMENTED(sent))
    assert host.keys() == device.keys() and np.array_equal(host['size'], device['size'])
    for head, label in host['labels'].items():
      np.testing.assert_array_equal(device['labels'][head], label)
    for name, x in host['inputs'].items():
      assert device['inputs'][name].dtype == np.uint8
      far = np.abs(device['inputs'][name].astype(int) - x).max()
      assert far <= (name == 'rgb' and 'brightness' in fields)


@pytest.mark.parametrize(
  'fields',
  [
    COLORS | {'scale': (0.5, 2.0), 'jitter': 8},
    COLORS | {'scale': (1.0, 1.67)},
    {'scale': (0.9, 1.1), 'flip': 0.0},
    COLORS | {'scale': (0.1, 0.6)},
    {'train_size': (31, 45), 'jitter': 3},
  ],
  ids=['below_and_above_1', 'above_1', 'without_colors', 'below_half', 'unscaled'],
)
def test_host_and_device_agree(fields):
  """Odd and mixed sizes, smaller and larger than the canvas."""
  assert_agree(make_split(make_source(largest=90)), **fields)


@pytest.mark.parametrize(
  'fields',
  [GEOMETRY, BLUR, NOISE, GEOMETRY | BLUR | NOISE | COLORS | {'scale': (0.7, 1.5), 'jitter': 4}],
  ids=['geometry', 'blur', 'noise', 'all'],
)
def test_all_streams_and_heads_agree(fields):
  split = CheckedSplit(Split([(50, 61), (33, 20), (1, 7)], CHANNELS), 'train', CHANNELS, dict.fromkeys('ab', CLASSES))
  assert_agree(split, steps=3, **{'scale': (1.0, 1.0)} | fields)


def test_an_image_of_12_megapixels_costs_only_its_window():
  """Where it shrinks too much for the canvas, the host resamples it."""
  split = Split([(3000, 4000), (40, 50)], {'rgb': 3})
  for scale in ((0.5, 1.0), (0.02, 1.0)):
    windows = Windows(split.sizes(), settings(train_size=(32, 40), scale=scale))
    assert windows.canvas == (2 * 32 + 8, 2 * 40 + 8)
    assert_agree(split, steps=1, scale=scale, **COLORS)


def test_canvases_are_no_larger_than_the_images():
  assert Windows(np.array([[30, 20], [10, 50]]), settings(train_size=(32, 40), scale=(0.5, 2.0))).canvas == (30, 50)


def test_canvases_have_room_for_turned_images():
  assert Windows(np.array([[30, 90]]), settings(train_size=(32, 40), scale=(1.0, 1.0), rotate90=0.1)).canvas == (38, 46)
