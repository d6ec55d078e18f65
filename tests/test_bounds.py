"""What a stride could reach: everything where regions fill its cells, and the less the coarser it is."""

import numpy as np
import pytest

from fcn_jax import bounds
from fcn_jax.data.builders import scenes
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError


def test_a_constant_picture_is_perfect_at_every_stride():
  scores = bounds.upper_bounds([np.full((3, 5), 1, np.uint8), np.full((100, 40), 0, np.uint8)], 8)
  assert set(scores) == {128, 64, 32, 16, 8, 4, 2}
  assert all(score['mean_iou'] == score['pixel_accuracy'] == 1 for score in scores.values())
  assert scores[2]['iou'] == {'0': 1.0, '1': 1.0} | dict.fromkeys('234567')


def test_regions_that_fill_cells_are_perfect_and_no_others():
  """Stripes of 16 pixels, up to a stride of 16; coarser cells mix them."""
  stripes = np.broadcast_to((np.arange(8, dtype=np.uint8) % 3).repeat(16), (128, 128))
  scores = bounds.upper_bounds([stripes, stripes.T], 8)
  assert {stride for stride, score in scores.items() if score['mean_iou'] == 1} == {16, 8, 4, 2}
  assert scores[32]['mean_iou'] < 0.7


def slow_upper_bound(label, stride, classes):
  """The prediction at each pixel: cells' shares, weighed by how near the middles of the cells are along each axis."""
  height, width = (-(-n // stride) for n in label.shape)
  shares = np.zeros((height, width, classes))
  for y, x in np.ndindex(label.shape):
    if label[y, x] != IGNORE:
      shares[y // stride, x // stride, label[y, x]] += 1
  middles = [(np.arange(n) + 0.5) * stride - 0.5 for n in (height, width)]
  near = [
    np.maximum(0, 1 - np.abs(np.arange(n)[:, None] - m) / stride) for n, m in zip(label.shape, middles, strict=True)
  ]
  return np.einsum('yh,xw,hwc->yxc', *near, shares)


@pytest.mark.parametrize('stride', [4, 32])
def test_scores_are_those_of_a_slow_loop_over_the_picture_alone(stride):
  label = scenes.picture('train', 3)['label'][:75, :101].copy()
  label[30:50, 20:60] = IGNORE
  scores = slow_upper_bound(label, stride, 8)
  second, first = np.moveaxis(np.sort(scores), -1, 0)[-2:]
  label[first - second < 1e-3 * stride**2] = IGNORE  # rounding may decide, and the cells' shares change a little
  scores = slow_upper_bound(label, stride, 8)
  second, first = np.moveaxis(np.sort(scores), -1, 0)[-2:]
  known = label != IGNORE
  close = np.count_nonzero(known & (first - second < 1e-5 * stride**2))
  right = np.count_nonzero(scores.argmax(-1)[known] == label[known])
  found = bounds.upper_bounds([label], 8)[stride]['pixel_accuracy']
  assert abs(found * known.sum() - right) <= close + 1e-3
  assert close < 5 and right < 0.99 * known.sum()


def test_finer_strides_reach_more_on_drawn_scenes():
  labels = [scenes.picture('validation', index)['label'] for index in range(4)]
  scores = bounds.upper_bounds(labels, 8)
  reached = [scores[stride]['mean_iou'] for stride in sorted(scores, reverse=True)]
  assert reached == sorted(reached) and len(set(reached)) == len(reached)
  assert reached[0] < 0.5 and 0.9 < reached[-1] < 1


def test_unknown_pixels_are_not_scored():
  label = np.full((20, 20), IGNORE, np.uint8)
  label[3:5, 4:9] = 2
  scores = bounds.upper_bounds([label, np.full((4, 4), IGNORE, np.uint8)], 8)
  assert all(score['iou'] == dict.fromkeys('01234567') | {'2': 1.0} for score in scores.values())


def test_labels_without_any_class_are_a_sentence():
  with pytest.raises(UserError, match='no pixel of these labels has a class'):
    bounds.upper_bounds([np.full((4, 4), IGNORE, np.uint8)], 8)
