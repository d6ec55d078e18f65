"""Canvases hold all images with little waste; a plan has every image once."""

import numpy as np
import pytest
from noise import COUNT, make_split

from fcn_jax.data import canvases


@pytest.mark.parametrize('limit', [1, 2, 3, 8])
@pytest.mark.parametrize('seed', range(5))
def test_canvases_hold_all_sizes_within_the_limit(limit, seed):
  sizes = np.random.default_rng(seed).integers(1, 300, (40, 2))
  chosen = canvases.choose_canvases(sizes, limit)
  assert len(set(chosen)) == len(chosen) <= limit
  assert all(n % 16 == 0 for canvas in chosen for n in canvas)
  assert all(any(np.all(size <= canvas) for canvas in chosen) for size in sizes)
  # No canvas is larger than necessary.
  assert all(max(side) - largest < 16 for side, largest in zip(zip(*chosen, strict=True), sizes.max(0), strict=True))


def area(sizes, chosen):
  return sum(min(h * w for h, w in chosen if h >= size[0] and w >= size[1]) for size in sizes)


@pytest.mark.parametrize('seed', range(5))
def test_more_canvases_waste_less(seed):
  sizes = np.random.default_rng(seed).integers(1, 300, (40, 2))
  areas = [area(sizes, canvases.choose_canvases(sizes, limit)) for limit in (1, 2, 4, 8, 100)]
  assert areas == sorted(areas, reverse=True) and areas[0] > areas[2] > areas[-1]


def test_below_the_limit_every_size_is_rounded_up_separately():
  sizes = np.array([(32, 32), (33, 32), (1, 65), (20, 70)])
  assert sorted(canvases.choose_canvases(sizes, 9)) == [(16, 80), (32, 32), (32, 80), (48, 32)]


def test_portrait_and_landscape_images_get_separate_canvases():
  """A common canvas would be a third larger."""
  sizes = np.array([(128, 160)] * 9 + [(160, 128)] * 9 + [(144, 112)])
  assert sorted(canvases.choose_canvases(sizes, 2)) == [(128, 160), (160, 128)]


@pytest.mark.parametrize('batch_size', [1, 4, 100])
def test_the_plan_has_every_image_once_on_a_canvas_that_holds_it(batch_size):
  sizes = np.random.default_rng(0).integers(1, 200, (40, 2))
  plan = canvases.eval_plan(sizes, batch_size=batch_size, canvases=3)
  assert sorted(i for _, indices in plan for i in indices) == list(range(40))
  assert all(len(indices) <= batch_size for _, indices in plan)
  assert all(np.all(sizes[indices] <= canvas) for canvas, indices in plan)


def test_images_that_do_not_fill_a_batch_join_one_on_a_larger_canvas_if_that_is_cheaper():
  sizes = np.array([(32, 48)] * 10 + [(48, 32)] * 3 + [(48, 48)] * 2)
  plan = canvases.eval_plan(sizes, batch_size=8, canvases=3)
  assert [(canvas, indices.tolist()) for canvas, indices in plan] == [
    ((32, 48), list(range(8))),
    ((48, 48), [8, 9, 10, 11, 12, 13, 14]),
  ]
  # One more batch of the larger canvas would cost more than fillers on the smaller one.
  sizes = np.array([(32, 48)] * 3 + [(48, 48)] * 7)
  plan = canvases.eval_plan(sizes, batch_size=8, canvases=2)
  assert [(canvas, len(indices)) for canvas, indices in plan] == [((32, 48), 3), ((48, 48), 7)]


@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_every_image_belongs_to_one_host(hosts):
  own = [canvases.own_images(make_split(), batch_size=4, canvases=2, host=h, hosts=hosts) for h in range(hosts)]
  assert sorted(index for indices in own for index in indices) == list(range(COUNT))
