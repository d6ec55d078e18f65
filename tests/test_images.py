"""Images for people have the right colors and show everything that they should."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from fcn_jax import images
from fcn_jax.data.builders.scenes import CLASSES

NAMES, PALETTE = CLASSES.names, CLASSES.palette


def test_each_class_has_its_color_and_everything_else_is_black():
  label = np.array([[0, 7, 8], [3, 255, 100]], np.uint8)
  colors = images.colorize(label, PALETTE)
  assert colors.dtype == np.uint8
  assert colors.tolist() == [[list(PALETTE[0]), list(PALETTE[7]), [0, 0, 0]], [list(PALETTE[3]), [0, 0, 0], [0, 0, 0]]]


def example(height, width, seed=0):
  """An image, a label and a prediction."""
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, (height, width, 3), np.uint8)
  return image, *(rng.integers(0, 8, (height, width), np.uint8) for _ in range(2))


def opened(png):
  image = Image.open(io.BytesIO(png))
  assert image.format == 'PNG' and image.mode == 'RGB'
  return np.asarray(image)


def found(part, whole) -> list:
  """The places of a part in an image: [[row, column], ...]."""
  rows, columns = (w - p + 1 for w, p in zip(whole.shape[:2], part.shape[:2], strict=True))
  corners = np.argwhere((whole[:rows, :columns] == part[0, 0]).all(-1))
  size = part.shape[:2]
  return [[y, x] for y, x in corners if np.array_equal(whole[y : y + size[0], x : x + size[1]], part)]


@pytest.mark.parametrize('sizes', [[(20, 90)], [(30, 50), (50, 30), (40, 60)]])
def test_image_label_and_prediction_are_side_by_side(sizes):
  examples = [example(*size, seed) for seed, size in enumerate(sizes)]
  whole = opened(images.comparison(examples, NAMES, PALETTE))
  bottom = 0
  for image, *labels in examples:
    parts = [image, *(images.colorize(x, PALETTE) for x in labels)]
    places = [found(part, whole) for part in parts]
    assert all(len(place) == 1 for place in places)
    (rows, columns) = zip(*(place[0] for place in places), strict=True)
    assert len(set(rows)) == 1 and rows[0] >= bottom
    width = image.shape[1]
    assert columns[0] == 0 and all(b >= a + width for a, b in itertools.pairwise(columns))
    bottom = rows[0] + image.shape[0]
  height, width = whole.shape[:2]
  assert bottom < height < bottom + 200  # the legend
  assert 3 * max(w for _, w in sizes) <= width < 3 * max(w for _, w in sizes) + 20


@pytest.mark.parametrize('width', [90, 170, 400, 2000])
def test_the_legend_fits_its_width_and_shows_every_color(width):
  legend = images.legend(NAMES, PALETTE, width)
  assert legend.shape[1] == width and legend.dtype == np.uint8
  for color in PALETTE:
    # A whole swatch: antialiased letters have at most single pixels of any color.
    assert (legend == color).all(-1).sum() >= 50
  ink = (legend != 255).any(-1)
  assert not ink[:, -1].any(), 'the right is cut off'
  assert not ink[-1].any(), 'the bottom is cut off'


def test_a_narrow_legend_has_more_lines():
  heights = [images.legend(NAMES, PALETTE, width).shape[0] for width in (100, 300, 2000)]
  assert heights == sorted(heights, reverse=True) and heights[0] > heights[1] > heights[2]


def test_the_stream_that_is_shown_is_the_first_with_three_channels_or_gray():
  rng = np.random.default_rng(0)
  depth, rgb, more = (rng.integers(0, 256, (5, 7, channels), np.uint8) for channels in (1, 3, 3))
  assert np.array_equal(images.viewable({'depth': depth, 'rgb': rgb, 'more': more}), rgb)
  for gray in (depth, np.dstack([depth, rgb])):  # one channel, or four
    shown = images.viewable({'gray': gray})
    assert shown.dtype == np.uint8 and np.array_equal(shown, np.repeat(depth, 3, -1))


def test_a_png_of_class_numbers_is_exact_and_its_palette_is_the_class_colors():
  label = np.array([[0, 7], [255, 3]], np.uint8)
  with Image.open(io.BytesIO(images.indexed(label, PALETTE))) as image:
    assert image.mode == 'P' and np.array_equal(np.asarray(image), label)
    colors = np.array(image.getpalette()).reshape(-1, 3)
  assert colors[: len(PALETTE)].tolist() == [list(color) for color in PALETTE]
