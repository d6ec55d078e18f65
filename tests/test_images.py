"""Pictures for people show the right colours and hold all that they are to show."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from fcn_jax import images
from fcn_jax.data.builders.scenes import Scenes

CLASSES, PALETTE = Scenes.CLASSES, Scenes.PALETTE


def test_each_class_has_its_colour_and_all_else_is_black():
  label = np.array([[0, 7, 8], [3, 255, 100]], np.uint8)
  colors = images.colorize(label, PALETTE)
  assert colors.dtype == np.uint8
  assert colors.tolist() == [[list(PALETTE[0]), list(PALETTE[7]), [0, 0, 0]], [list(PALETTE[3]), [0, 0, 0], [0, 0, 0]]]


def example(height, width, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'image': rng.integers(0, 256, (height, width, 3), np.uint8),
    'label': rng.integers(0, 8, (height, width), np.uint8),
    'prediction': rng.integers(0, 8, (height, width), np.uint8),
  }


def opened(png):
  picture = Image.open(io.BytesIO(png))
  assert picture.format == 'PNG' and picture.mode == 'RGB'
  return np.asarray(picture)


def found(part, whole) -> list:
  """Where a part stands in a picture: [[row, column], ...]."""
  rows, columns = (w - p + 1 for w, p in zip(whole.shape[:2], part.shape[:2], strict=True))
  corners = np.argwhere((whole[:rows, :columns] == part[0, 0]).all(-1))
  size = part.shape[:2]
  return [[y, x] for y, x in corners if np.array_equal(whole[y : y + size[0], x : x + size[1]], part)]


@pytest.mark.parametrize('sizes', [[(20, 90)], [(30, 50), (50, 30), (40, 60)]])
def test_image_label_and_prediction_stand_side_by_side(sizes):
  examples = [example(*size, seed) for seed, size in enumerate(sizes)]
  picture = opened(images.comparison(examples, CLASSES, PALETTE))
  bottom = 0
  for e in examples:
    parts = [e['image'], *(images.colorize(e[name], PALETTE) for name in ('label', 'prediction'))]
    places = [found(part, picture) for part in parts]
    assert all(len(place) == 1 for place in places)
    (rows, columns) = zip(*(place[0] for place in places), strict=True)
    assert len(set(rows)) == 1 and rows[0] >= bottom
    width = e['label'].shape[1]
    assert columns[0] == 0 and all(b >= a + width for a, b in itertools.pairwise(columns))
    bottom = rows[0] + e['label'].shape[0]
  height, width = picture.shape[:2]
  assert bottom < height < bottom + 200  # the legend
  assert 3 * max(w for _, w in sizes) <= width < 3 * max(w for _, w in sizes) + 20


@pytest.mark.parametrize('width', [90, 170, 400, 2000])
def test_the_legend_fits_its_width_and_shows_every_colour(width):
  picture = images.legend(CLASSES, PALETTE, width)
  assert picture.shape[1] == width and picture.dtype == np.uint8
  for color in PALETTE:
    # A whole swatch: antialiased letters have single pixels of any colour at most.
    assert (picture == color).all(-1).sum() >= 50
  ink = (picture != 255).any(-1)
  assert not ink[:, -1].any(), 'nothing is cut off at the right'
  assert not ink[-1].any(), 'nor at the bottom'


def test_a_narrow_legend_has_more_lines():
  heights = [images.legend(CLASSES, PALETTE, width).shape[0] for width in (100, 300, 2000)]
  assert heights == sorted(heights, reverse=True) and heights[0] > heights[1] > heights[2]
