"""Several streams and heads of an image go through augmentation together."""

import numpy as np
from noise import PLAIN, settings

from fcn_jax.data.augment import augment

CHANNELS = {'rgb': 3, 'depth': 1, 'bands': 5}
GEOMETRY = {'flip': 0.5, 'jitter': 8}


def augmented(streams, labels, seed, **fields):
  example = {'inputs': streams, 'labels': labels, 'id': 'a'}
  return augment(example, np.random.default_rng(seed), settings(**{'train_size': (64, 80)} | PLAIN | fields))


def several(value, seed, **fields):
  """The augmentation of three streams and two heads that all have the values [H, W] in each channel."""
  streams = {name: np.repeat(value[..., None], channels, -1) for name, channels in CHANNELS.items()}
  return augmented(streams, {'a': value, 'b': value}, seed, **fields)


def test_streams_and_heads_are_cropped_flipped_and_shifted_alike():
  """Without a change of scale nothing is resampled, so all values stay equal."""
  value = np.random.default_rng(0).integers(0, 256, (90, 100), np.uint8)
  seen = set()
  for seed in range(20):
    example = several(value, seed, **GEOMETRY)
    height, width = example['size']
    label = example['labels']['a']
    seen.add(label.tobytes())
    assert np.array_equal(label, example['labels']['b'])
    for name, x in example['inputs'].items():
      assert x.shape == (64, 80, CHANNELS[name]) and x.dtype == np.uint8
      assert np.array_equal(x[:height, :width], np.repeat(label[:height, :width, None], x.shape[-1], -1))
      assert not x[height:].any() and not x[:, width:].any()
  assert len(seen) == 20


def test_streams_and_heads_are_scaled_alike():
  """All channels are resampled in the same way as those of an RGB image, and all labels in the same way."""
  value = np.random.default_rng(0).integers(0, 256, (90, 100), np.uint8)
  for seed in range(20):
    example = several(value, seed, scale=(0.5, 2.0), **GEOMETRY)
    assert np.array_equal(example['labels']['a'], example['labels']['b'])
    gray = example['inputs']['rgb'][..., :1]
    assert all(np.array_equal(x, np.repeat(gray, x.shape[-1], -1)) for x in example['inputs'].values())


def test_channels_of_a_stream_are_resampled_separately():
  planes = np.random.default_rng(0).integers(0, 256, (90, 100, 4), np.uint8)
  label = np.zeros((90, 100), np.uint8)
  fields = {'scale': (0.5, 2.0)} | GEOMETRY
  together = augmented({'bands': planes}, {'a': label}, 3, **fields)['inputs']['bands']
  for c in range(4):
    alone = augmented({'band': planes[..., c : c + 1]}, {'a': label}, 3, **fields)['inputs']['band']
    assert np.array_equal(together[..., c : c + 1], alone)


def test_colors_change_the_rgb_stream_only():
  """A stream with three channels and another name may hold surface normals or an HHA image."""
  rgb, label = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8), np.zeros((64, 80), np.uint8)
  colors = {'brightness': 0.3, 'contrast': 0.3, 'color': 0.3}
  found = augmented({'normals': rgb, 'rgb': rgb, 'depth': rgb[..., :1]}, {'a': label}, 1, **colors)['inputs']
  assert np.array_equal(found['normals'], rgb) and np.array_equal(found['depth'], rgb[..., :1])
  assert np.array_equal(found['rgb'], augmented({'rgb': rgb}, {'a': label}, 1, **colors)['inputs']['rgb'])
  assert not np.array_equal(found['rgb'], rgb)
