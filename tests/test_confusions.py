"""What people read off confusion matrices is what a slow computation, pixel by pixel or class by class, gives."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from fcn_jax import confusions

NAMES = ('sky', 'a road, wet', 'tree')


def slow_row(matrix, names) -> list:
  """Mean IoU, pixel accuracy and the most confused pair of one image."""
  count = len(names)
  if not sum(matrix[i][j] for i in range(count) for j in range(count)):
    return [None, None, '', '', '']
  ious = []
  for c in range(count):
    union = sum(matrix[c]) + sum(row[c] for row in matrix) - matrix[c][c]
    ious += [matrix[c][c] / union] if union else []
  wrong, pair = 0, ('', '', '')
  for i in range(count):
    for j in range(count):
      if i != j and matrix[i][j] > wrong:
        wrong, pair = matrix[i][j], (names[i], names[j], str(matrix[i][j]))
  correct, pixels = sum(matrix[c][c] for c in range(count)), sum(map(sum, matrix))
  return [sum(ious) / len(ious), correct / pixels, *pair]


def test_the_images_are_listed_from_worst_to_best_with_their_scores():
  rng = np.random.default_rng(0)
  matrices = rng.integers(0, 50, (9, 3, 3)) * rng.integers(0, 2, (9, 3, 3))
  matrices[3], matrices[5] = 0, np.diag([4, 0, 9])  # no labeled pixel; no error
  ids = [f'folder/{number}' for number in range(8)] + ['caf\udce9']  # the last one is a file name that is not UTF-8
  content = confusions.images_csv(ids, matrices, NAMES).decode(errors='surrogateescape')
  header, *rows = csv.reader(io.StringIO(content))
  assert tuple(header) == confusions.COLUMNS and content.count('\r') == 0
  assert {row[0] for row in rows} == set(ids)
  expected = {name: slow_row(matrix.tolist(), NAMES) for name, matrix in zip(ids, matrices, strict=True)}
  for name, *scores, label, prediction, pixels in rows:
    assert [label, prediction, pixels] == expected[name][2:]
    for found, slow in zip(scores, expected[name], strict=False):
      assert found == '' if slow is None else float(found) == pytest.approx(slow, abs=1e-6)
  order = [expected[row[0]][0] for row in rows]
  assert order[-1] is None and order[:-1] == sorted(order[:-1]) and order[-2] == 1
  assert rows[-1][0] == ids[3] and rows[-2][1:] == ['1.000000', '1.000000', '', '', '']


@pytest.mark.parametrize('count', [1, 3, 60])
def test_each_row_of_the_image_is_the_distribution_of_the_predictions(count):
  rng = np.random.default_rng(0)
  matrix = rng.integers(0, 9, (count, count)) + 50 * np.eye(count, dtype=int)
  matrix[-1] *= count == 1  # no pixel has the last label
  with Image.open(io.BytesIO(confusions.drawn(matrix, [f'class {i} ' + 'x' * i for i in range(count)]))) as image:
    pixels = np.asarray(image).astype(int)
  side = 34 if count <= 32 else 15
  lines = (pixels == 200).all(-1)  # between the cells
  top = np.flatnonzero(lines.sum(1) >= side * count)[0] - side + 1
  left = np.flatnonzero(lines[top + side - 1])[0]
  cells = pixels[top : top + side * count : side, left : left + side * count : side, 0]  # the corners, without numbers
  shares = (255 - cells) / (255 - 8)
  labeled = count - (count > 1)
  np.testing.assert_allclose(
    shares[:labeled], (matrix / np.maximum(matrix.sum(1, keepdims=True), 1))[:labeled], atol=3e-3
  )
  assert (cells[labeled:] == 225).all(), 'a row without a labeled pixel is gray'
  ink = (pixels[top:, :left] < 128).any(-1)  # names at the left
  assert not ink[:, 0].any() and all(ink[i * side : (i + 1) * side].any() for i in range(count))
