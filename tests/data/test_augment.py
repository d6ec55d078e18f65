"""Augmentation is a pure function, moves all streams and labels alike, and follows its settings."""

import numpy as np
import pytest
from augmenting import augmented, inside, noise, ramp
from PIL import Image, ImageEnhance

from fcn_jax.data.augment import on_canvas, recolored
from fcn_jax.data.dataset import IGNORE

EVERYTHING = {'flip': 0.5, 'scale': (0.5, 2.0), 'brightness': 0.3, 'contrast': 0.3, 'color': 0.3}
EVERYTHING |= {'flip_vertical': 0.5, 'rotate90': 0.5, 'rotate': 30.0, 'crop_rare': 0.5, 'blur': 2.0, 'noise': 20.0}
SIZES = [(64, 80), (120, 33), (31, 200), (40, 50), (1, 1), (1, 300)]


@pytest.mark.parametrize('size', SIZES)
def test_shapes_and_types_are_those_of_the_canvas(size):
  for seed in range(10):
    example = augmented(noise(*size), seed, **EVERYTHING)
    assert example['image'].shape == (64, 80, 3) and example['image'].dtype == np.uint8
    assert example['label'].shape == (64, 80) and example['label'].dtype == np.uint8
    assert example['size'].shape == (2,) and example['size'].dtype == np.int32
    height, width = example['size']
    assert 1 <= height <= 64 and 1 <= width <= 80
    for border in (np.s_[height:], np.s_[:, width:]):
      assert not example['image'][border].any() and np.all(example['label'][border] == IGNORE)


def test_the_same_randomness_gives_the_same_example_and_another_does_not():
  pair = noise(100, 120)
  first, again, other = (augmented(pair, seed, **EVERYTHING) for seed in (1, 1, 2))
  assert all(np.array_equal(first[name], again[name]) for name in first)
  assert not np.array_equal(first['image'], other['image'])


def test_the_original_does_not_change():
  """It is in the cache."""
  pair = noise(70, 90)
  before = [part.copy() for part in pair]
  for seed in range(5):
    augmented(pair, seed, **EVERYTHING)
  assert all(np.array_equal(a, b) for a, b in zip(before, pair, strict=True))


def test_without_a_change_every_pixel_is_kept():
  image, label = noise(64, 80)
  example = augmented((image, label), 0)
  assert np.array_equal(example['image'], image)
  assert np.array_equal(example['label'], label)
  assert tuple(example['size']) == (64, 80)


def test_a_crop_without_a_change_of_scale_is_a_part_of_the_image():
  image, label = noise(90, 100)
  windows = np.lib.stride_tricks.sliding_window_view(label, (64, 80))
  for seed in range(10):
    example = augmented((image, label), seed)
    places = np.argwhere((windows == example['label']).all((2, 3)))
    assert len(places) == 1
    y, x = places[0]
    assert np.array_equal(example['image'], image[y : y + 64, x : x + 80])


def test_crops_reach_every_border():
  rows = [augmented(ramp(90, 100, 0), seed)['label'] for seed in range(300)]
  columns = [augmented(ramp(90, 100, 1), seed)['label'] for seed in range(300)]
  assert min(r.min() for r in rows) == min(c.min() for c in columns) == 0
  assert max(r.max() for r in rows) == 89 and max(c.max() for c in columns) == 99


def test_a_smaller_image_is_placed_in_the_top_left_and_the_rest_is_ignored():
  image, label = noise(50, 60)
  example = augmented((image, label), 0)
  assert tuple(example['size']) == (50, 60)
  assert np.array_equal(example['image'][:50, :60], image)
  assert np.array_equal(example['label'][:50, :60], label)
  for border in (np.s_[50:], np.s_[:, 60:]):
    assert np.all(example['label'][border] == IGNORE)
    assert np.all(example['image'][border] == 0)


def test_one_side_is_padded_while_the_other_is_cropped():
  example = augmented(ramp(50, 100, 1), 3)
  assert tuple(example['size']) == (50, 80)
  assert np.all(np.diff(example['label'][:50].astype(int), axis=1) == 1)
  assert np.all(example['label'][50:] == IGNORE)


@pytest.mark.parametrize('size', SIZES)
def test_labels_are_never_mixed(size):
  """Any interpolation between 0, 3, 7 and 255 would give another class."""
  for seed in range(20):
    assert set(np.unique(augmented(noise(*size), seed, **EVERYTHING)['label'])) <= {0, 3, 7, IGNORE}


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('scale', [(0.5, 0.5), (0.71, 0.71), (1.0, 1.0), (1.37, 1.37), (2.0, 2.0), (3.0, 3.0)])
def test_image_and_label_stay_aligned(axis, scale):
  """Gray level and label are the same ramp, so they differ only as bilinear and nearest resampling do."""
  lean = []
  for seed in range(40):
    image, label = inside(augmented(ramp(90, 110, axis), seed, scale=scale, flip=0.5))
    # Near the border of the image, bilinear resampling has only one side.
    difference = (image[..., 0].astype(float) - label)[3:-3, 3:-3]
    assert np.abs(difference).max() <= 1.01
    lean.append(difference.mean())
  # Half a source pixel of misalignment would show as 0.5 in each of the examples.
  assert np.mean(np.abs(lean)) < 0.3


def test_jitter_drops_rows_and_columns_at_the_sides_that_leave_the_view():
  """All shifts of up to 8 pixels are equally likely; what stays in view is in the top left, the rest is ignored."""
  moves = []
  for seed in range(400):
    moves.append([])
    for axis, length in enumerate((64, 80)):
      example = augmented(ramp(64, 80, axis), seed, jitter=8)
      height, width = example['size']
      image, label = inside(example)
      first, last = int(label.min()), int(label.max())
      assert np.array_equal(label, ramp(64, 80, axis)[1][:height, :width] + first)
      assert np.array_equal(image[..., 0], label)
      assert first == 0 or last == length - 1  # only one side leaves the view
      assert np.all(example['label'][height:] == IGNORE) and np.all(example['label'][:, width:] == IGNORE)
      moves[-1].append(length - 1 - last - first)
  moves = np.array(moves)
  for axis in (0, 1):
    assert set(moves[:, axis]) == set(range(-8, 9))
    assert abs(moves[:, axis].mean()) < 1  # its standard deviation is 0.25
  assert abs(np.corrcoef(moves.T)[0, 1]) < 0.2


def test_jitter_leaves_at_least_one_pixel():
  for seed in range(20):
    assert np.all(augmented(noise(1, 3), seed, jitter=32, scale=(0.5, 2.0))['size'] >= 1)


def test_flip_is_left_to_right_and_has_its_probability():
  image, label = noise(64, 80)
  example = augmented((image, label), 0, flip=1.0)
  assert np.array_equal(example['image'], image[:, ::-1])
  assert np.array_equal(example['label'], label[:, ::-1])
  flipped = sum(np.array_equal(augmented((image, label), s, flip=0.25)['label'], label[:, ::-1]) for s in range(400))
  assert 70 < flipped < 130  # 100 expected, standard deviation 9


@pytest.mark.parametrize('factor', [0.25, 0.5, 0.8, 1.25])
def test_scale_changes_the_size(factor):
  example = augmented(noise(40, 60), 0, scale=(factor, factor))
  assert tuple(example['size']) == (40 * factor, 60 * factor)


def test_a_large_scale_enlarges_a_part_of_the_image():
  _, label = inside(augmented(ramp(60, 100, 1), 0, scale=(4.0, 4.0)))
  assert label.shape == (64, 80)
  assert int(label.max()) - int(label.min()) in (19, 20)  # 80 / 4 columns, beginning anywhere
  steps = np.diff(label.astype(int), axis=1)
  assert set(np.unique(steps)) == {0, 1}


def test_halving_is_as_likely_as_doubling():
  pair = ramp(20, 30, 1)
  heights = np.array([augmented(pair, seed, scale=(0.5, 2.0))['size'][0] for seed in range(400)])
  assert 10 <= heights.min() < 12 and 38 < heights.max() <= 40
  smaller = np.mean(heights < 20) + np.mean(heights == 20) / 2
  assert abs(smaller - 0.5) < 0.08  # uniform in the factor would give a third


def two_tone(low, high):
  image = np.full((64, 80, 3), low, np.uint8)
  image[:, 40:] = high
  return image, np.zeros((64, 80), np.uint8)


def images(pair, **fields):
  """The images of many augmentations that must not change the label."""
  examples = [augmented(pair, seed, **fields) for seed in range(60)]
  assert all(np.array_equal(e['label'], pair[1]) for e in examples)
  return np.array([e['image'] for e in examples]).astype(float)


def test_brightness_scales_the_image_within_its_range():
  factors = images(two_tone(40, 120), brightness=0.5)[:, 0, [0, 79], 0] / (40, 120)
  assert np.all(np.abs(factors[:, 0] - factors[:, 1]) < 0.04)  # equal except for rounding
  assert 0.49 < factors[:, 1].min() < 0.6 and 1.4 < factors[:, 1].max() < 1.51


def test_contrast_scales_the_distances_and_keeps_the_mean():
  out = images(two_tone(100, 140), contrast=0.5)
  spread = out[:, 0, 79, 0] - out[:, 0, 0, 0]
  assert np.all(np.abs(out.mean((1, 2, 3)) - 120) < 1.5)
  assert 19 <= spread.min() < 25 and 55 < spread.max() <= 61


def test_color_changes_saturation_but_not_gray():
  gray = two_tone(60, 200)
  assert np.all(images(gray, color=0.5) == gray[0])
  red = two_tone(100, 100)
  red[0][..., 0] += 80
  out = images(red, color=0.5)
  saturation = out[:, 0, 0, 0] - out[:, 0, 0, 1]
  assert 39 <= saturation.min() < 45 and 110 < saturation.max() <= 121


def test_colors_are_those_of_pillow():
  rng = np.random.default_rng(0)
  image = Image.fromarray(rng.integers(90, 150, (20, 30, 3), np.uint8))  # nothing is clipped in between
  for factors in rng.uniform(0.7, 1.3, (10, 3)):
    expected = image
    enhancers = ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color
    for enhancer, factor in zip(enhancers, factors, strict=True):
      expected = enhancer(expected).enhance(factor)
    found = np.asarray(recolored(image, *factors), int)
    assert np.abs(found - np.asarray(expected, int)).max() <= 4  # pillow rounds down three times
  np.testing.assert_array_equal(recolored(image, 1, 1, 1), image)


def test_padding_does_not_change_contrast():
  """It is not part of the image, and would darken its mean gray level."""
  small = noise(30, 30)
  example = augmented(small, 0, brightness=0.4, contrast=0.4, color=0.4)
  assert np.all(example['image'][30:] == 0) and np.all(example['image'][:, 30:] == 0)
  large = augmented(small, 0, train_size=(30, 30), brightness=0.4, contrast=0.4, color=0.4)
  assert np.array_equal(example['image'][:30, :30], large['image'])


def test_on_canvas_places_the_image_and_gives_its_size():
  image, label = noise(5, 7)
  example = on_canvas({'rgb': image, 'depth': image[..., :1]}, {'a': label}, (32, 64))
  assert example['inputs']['rgb'].shape == (32, 64, 3) and example['inputs']['depth'].shape == (32, 64, 1)
  assert tuple(example['size']) == (5, 7)
  assert np.array_equal(example['inputs']['rgb'][:5, :7], image)
  assert np.array_equal(example['labels']['a'][:5, :7], label)
  assert np.count_nonzero(example['labels']['a'] != IGNORE) == np.count_nonzero(label != IGNORE)
  assert on_canvas({'rgb': image}, {}, (32, 64))['labels'] == {}
