"""Sizes after resizing, colors that are averages, labels that are those of the nearest pixels; checked full labels."""

import numpy as np
import pytest

from fcn_jax.data import bands, pipeline, resizing
from fcn_jax.data.dataset import IGNORE, CheckedSplit, Classes
from fcn_jax.errors import UserError

CLASSES = {'semantic': Classes(('a', 'b', 'c'), ((0, 0, 0),) * 3)}


@pytest.mark.parametrize(
  ('size', 'longest', 'expected'),
  [
    ((3000, 4000), 1024, (768, 1024)),
    ((4000, 3000), 1000, (1000, 750)),
    ((100, 7), 50, (50, 4)),  # 3.5
    ((9000, 2), 100, (100, 1)),  # 0.02
    ((60, 80), 80, (60, 80)),
    ((60, 80), 0, (60, 80)),
  ],
)
def test_the_longer_side_is_limited_and_the_aspect_ratio_kept(size, longest, expected):
  assert tuple(resizing.sizes(np.array(size), longest)) == expected
  assert resizing.sizes(np.array([size, (1, 1)]), longest).tolist() == [list(expected), [1, 1]]
  inputs = {name: np.zeros((*size, channels), np.uint8) for name, channels in (('rgb', 3), ('bands', 5))}
  inputs, labels = resizing.resized(inputs, {'a': np.zeros(size, np.uint8)}, longest)
  assert (inputs['rgb'].shape, inputs['bands'].shape, labels['a'].shape) == ((*expected, 3), (*expected, 5), expected)


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5])
def test_colors_are_averaged_channel_by_channel_and_labels_are_picked(channels):
  """At a third of the size, a pixel has the color of a block of 3x3 and its surroundings, and its middle's label."""
  blocks = np.random.default_rng(0).integers(0, 256, (7, 9, channels), np.uint8)
  blocks[2:5, 2:5] = 200 - 10 * np.arange(channels)  # a flat area: nothing but this color is averaged in its middle
  labels = np.arange(63, dtype=np.uint8).reshape(7, 9)
  label = np.full((21, 27), IGNORE, np.uint8)
  label[1::3, 1::3] = labels
  inputs, found = resizing.resized({'x': blocks.repeat(3, 0).repeat(3, 1)}, {'a': label}, 9)
  assert np.array_equal(found['a'], labels)
  x = inputs['x']
  assert (x.shape, x.dtype) == (blocks.shape, np.uint8) and np.array_equal(x[3, 3], blocks[3, 3])
  assert np.abs(x.astype(int) - blocks).mean() < 40 and x.std() < blocks.std()  # antialiased
  channel = resizing.resized({'x': blocks.repeat(3, 0).repeat(3, 1)[..., -1:]}, {}, 9)[0]['x']
  assert np.array_equal(channel[..., 0], x[..., -1])


class Photo:
  """One image of 40x60, resized to 10x15, with another part of it replaced."""

  def __init__(self, **changes):
    label = np.zeros((40, 60), np.uint8)
    label[:, 30:] = 1
    image, resized = resizing.resized({'rgb': np.zeros((40, 60, 3), np.uint8)}, {'semantic': label}, 15)
    self.example = {'inputs': image, 'labels': resized, 'id': 'photo'}
    self.label = changes.pop('label', {'semantic': label})
    self.size, self.full = changes.pop('size', (10, 15)), changes.pop('full', [(40, 60)])

  def __len__(self):
    return 1

  def __getitem__(self, index):
    return self.example

  def sizes(self):
    return np.array([self.size])

  def ids(self):
    return ['photo']

  def full_labels(self, index):
    return self.label

  def full_sizes(self):
    return np.array(self.full)


def checked(split):
  return CheckedSplit(split, 'test', {'rgb': 3}, CLASSES)


def test_a_batch_of_the_evaluation_has_full_labels_and_their_bands():
  split = bands.WithBands(checked(Photo()))
  (batch,) = pipeline.eval_batches(split, batch_size=2, canvases=1, threads=1)
  assert batch['inputs']['rgb'].shape == (2, 16, 16, 3) and batch['size'].tolist() == [[10, 15], [1, 1]]
  assert batch['label_size'].tolist() == [[40, 60], [1, 1]]
  label, band = batch['labels']['semantic'], batch['labels']['semantic.band']
  assert label.shape == band.shape == (2, 48, 64)
  assert np.array_equal(label[0, :40, :60], Photo().label['semantic']) and np.all(label[1] == IGNORE)
  assert band[0, 0, 26:34].tolist() == [2, 2, 1, 0, 0, 1, 2, 2]


def test_where_nothing_is_resized_there_are_no_full_labels():
  class Plain(Photo):
    full_labels = full_sizes = property()

  split = checked(Plain())
  assert not hasattr(split, 'full_labels') and not hasattr(split, 'full_sizes')
  assert bands.WithBands(split)[0]['labels']['semantic'].shape == (10, 15)
  assert bands.WithBands(split).label_sizes() is None


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'label': {'semantic': np.full((40, 60), 3, np.uint8)}},
      '2400 pixels of the label semantic are 3; expected class',
    ),
    ({'label': {'other': np.zeros((40, 60), np.uint8)}}, 'its labels are other; expected semantic'),
    (
      {'label': {'semantic': np.zeros((60, 40), np.uint8)}},
      r'label semantic is uint8 \[60, 40\]; expected uint8 \[40,',
    ),
    ({'full': [(60, 40)]}, r'it was resized from \[60, 40\] to \[10, 15\]; expected the same aspect ratio'),
    ({'size': (80, 120)}, r'it was resized from \[40, 60\] to \[80, 120\]; expected the same aspect ratio'),
    ({'full': [40, 60]}, r'full_sizes\(\) of the split test has the shape \[2\]; expected \[1, 2\]'),
  ],
)
def test_wrong_full_labels_are_an_error_that_says_what_is_wrong(changes, message):
  with pytest.raises(UserError, match=message):
    checked(Photo(**changes)).full_labels(0)
