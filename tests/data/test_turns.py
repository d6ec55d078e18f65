"""Turns, rotations and crops on rare classes: labels are exact, and images agree with them."""

import numpy as np
import pytest
from augmenting import augmented, inside, noise, ramp

from fcn_jax.data.augment import applied
from fcn_jax.data.dataset import IGNORE
from fcn_jax.data.draws import Draws, Window


def test_turns_and_vertical_flips_move_image_and_label_alike():
  """A quarter of the turns are none; the others are equally likely."""
  image, label = noise(60, 70)
  found = []
  for seed in range(200):
    example = augmented((image, label), seed, train_size=(70, 70), rotate90=0.75, flip_vertical=0.5)
    for which in np.ndindex(4, 2):
      moved = [np.rot90(x, which[0])[:: 1 - 2 * which[1]] for x in (image, label)]
      if all(np.array_equal(*pair) for pair in zip(inside(example), moved, strict=True)):
        found.append(which)
  assert len(found) == 200  # each is one of them
  assert all(32 < np.sum(np.array(found)[:, 0] == turns) < 70 for turns in range(4))  # 50; standard deviation 6
  assert 70 < np.sum(found, 0)[1] < 130


def rotated(pair, angle, rows, columns):
  inputs, labels = applied(
    {'inputs': {'rgb': pair[0]}, 'labels': {'a': pair[1]}, 'id': ''}, Draws(rows, columns, False, None, angle=angle)
  )
  return inputs['rgb'], labels['a']


@pytest.mark.parametrize('angle', [-37.5, 3.0, 12.0])
@pytest.mark.parametrize(
  ('rows', 'columns'),
  [
    (Window(0, 60, 0, 60, 60), Window(0, 75, 0, 75, 75)),
    (Window(0, 60, 20, 50, 30), Window(0, 75, 5, 45, 40)),
    (Window(8, 52, 0, 40, 40), Window(0, 70, 40, 70, 30)),
  ],
  ids=['whole', 'crop', 'shifted'],
)
def test_a_rotation_is_around_the_center_and_ignores_what_it_uncovers(angle, rows, columns):
  """The label is that of a slow reference, and a ramp is the plane that it must be."""
  _, label = noise(60, 75)
  expected = np.full((rows.size, columns.size), IGNORE, np.uint8)
  places = np.zeros((*expected.shape, 2))
  turn = np.deg2rad(angle)
  for y, x in np.ndindex(expected.shape):
    down, right = y + 0.5 - rows.size / 2, x + 0.5 - columns.size / 2
    place = right * np.sin(turn) + down * np.cos(turn), right * np.cos(turn) - down * np.sin(turn)
    place = [p + window.start + window.size / 2 for p, window in zip(place, (rows, columns), strict=True)]
    if all(0 <= p < window.length for p, window in zip(place, (rows, columns), strict=True)):
      places[y, x] = place[0] + rows.first, place[1] + columns.first
      expected[y, x] = label[tuple(places[y, x].astype(int))]
  covered = places.any(-1)
  np.testing.assert_array_equal(rotated((np.zeros((60, 75, 3), np.uint8), label), angle, rows, columns)[1], expected)
  for axis in (0, 1):
    image, of_ramp = rotated(ramp(60, 75, axis), angle, rows, columns)
    assert np.array_equal(of_ramp == IGNORE, ~covered)
    assert not image[~covered].any()
    inner = covered & (places[..., axis] > 9) & (places[..., axis] < 59)  # bilinear resampling has both sides
    below = (places[..., axis] - 0.5 - image[..., 0])[inner]
    assert below.min() > -0.01 and below.max() < 1  # pillow rounds down


@pytest.mark.parametrize(('share', 'low', 'high'), [(0.0, 0, 0.12), (0.5, 0.42, 0.57), (1.0, 0.95, 1)])
def test_the_share_of_crops_that_are_centered_on_a_rare_class(share, low, high):
  """2 % of the pixels are drawn with 98 %. Most of the other crops, and no pixel to ignore, are elsewhere."""
  label = np.zeros((200, 250), np.uint8)
  label[80:105, 100:140] = 3
  label[140, 120] = IGNORE
  pair = np.repeat(label[..., None], 3, -1), label
  for fields in ({}, {'rotate90': 0.5, 'flip_vertical': 0.5, 'rotate': 5.0, 'jitter': 8}):
    crops = [augmented(pair, seed, crop_rare=share, **fields)['label'] for seed in range(200)]
    assert low <= np.mean([crop[32, 40] == 3 for crop in crops]) <= high


def test_a_crop_is_as_close_to_a_rare_class_as_the_image_allows():
  """Nothing happens if nothing has a class."""
  label = np.zeros((90, 100), np.uint8)
  label[2, 97] = 1
  image = np.repeat(label[..., None], 3, -1)
  assert all(augmented((image, label), seed, crop_rare=1.0)['label'][2, 77] == 1 for seed in range(5))
  _, found = inside(augmented((image, label), 0, crop_rare=1.0, scale=(2.0, 2.0)))
  assert np.argwhere(found == 1).tolist() == [[4, 74], [4, 75], [5, 74], [5, 75]]
  assert np.all(augmented((image, np.full_like(label, IGNORE)), 0, crop_rare=1.0)['label'] == IGNORE)
