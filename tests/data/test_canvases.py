"""Canvases hold all images with little waste; a plan has every image once."""

import itertools
import math
import time

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


def merged_one_by_one(sizes, limit):
  """The definition of `choose_canvases`, which takes the cube of the number of sizes."""
  rounded = [tuple(int(-(-n // 16) * 16) for n in size) for size in sizes]
  counts = {canvas: rounded.count(canvas) for canvas in sorted(set(rounded))}

  def waste(a, b):
    union = max(a[0], b[0]) * max(a[1], b[1])
    return sum(counts[canvas] * (union - math.prod(canvas)) for canvas in (a, b))

  while len(counts) > limit:
    a, b = min(itertools.combinations(counts, 2), key=lambda pair: waste(*pair))
    union = max(a[0], b[0]), max(a[1], b[1])
    counts[union] = counts.pop(a) + counts.pop(b) + counts.get(union, 0)
  return list(counts)


@pytest.mark.parametrize(('number', 'side', 'limit'), [(5, 100, 1), (30, 100, 3), (50, 300, 2), (64, 900, 8)])
def test_up_to_64_sizes_the_canvases_are_those_of_the_definition(number, side, limit):
  """Runs are compared by their scores, which depend on the canvases in the last digits. Equal waste is frequent."""
  for seed in range(3):
    sizes = np.random.default_rng(seed).integers(1, side, (number, 2))
    assert canvases.choose_canvases(sizes, limit) == merged_one_by_one(sizes, limit)


@pytest.mark.parametrize('compile_pixels', [math.inf, 5e5, 0])
@pytest.mark.parametrize('side', [600, 6000])
def test_ten_thousand_sizes_take_less_than_a_second(side, compile_pixels):
  sizes = np.random.default_rng(0).integers(1, side, (10000, 2))
  start = time.process_time()
  chosen = canvases.choose_canvases(sizes, 3, compile_pixels, 2**20)
  assert time.process_time() - start < 1
  assert len(chosen) > 3 or math.isinf(compile_pixels)
  heights, widths = np.array(chosen).T
  assert all(((height <= heights) & (width <= widths)).any() for height, width in sizes[::10])


COMPILE, BATCH = 5e5, 2**20


def plan(sizes):
  return canvases.predict_plan(np.array(sizes), batch_pixels=BATCH, canvases=3, compile_pixels=COMPILE)


def price(sizes) -> float:
  """Of compiling and computing a plan, in pixels."""
  batches = plan(sizes)
  return COMPILE * len({canvas for canvas, *_ in batches}) + sum(
    math.prod(canvas) * count for canvas, count, _ in batches
  )


@pytest.mark.parametrize('odd', [[(12000, 200), (1, 5000), (5000, 1)], [(3000, 2000)], [(200, 12000), (12000, 200)]])
@pytest.mark.parametrize('number', [12, 25, 300])
def test_an_odd_size_does_not_make_the_others_expensive(number, odd):
  small = np.random.default_rng(number).integers(100, 300, (number, 2)).tolist()
  assert price(small + odd) <= 1.2 * (price(small) + sum(price([size]) for size in odd))


@pytest.mark.parametrize('sides', [(1, 100), (100, 600), (1, 3000), (2000, 9000)])
def test_images_together_cost_no_more_than_each_alone(sides):
  for number in (2, 5, 50, 500):
    sizes = np.random.default_rng(number).integers(*sides, (number, 2))
    assert price(sizes) <= 1.2 * sum(price([size]) for size in sizes)


@pytest.mark.parametrize('sides', [(1, 100), (100, 600), (300, 3000)])
def test_a_plan_of_predictions_has_every_image_once_in_batches_of_one_size(sides):
  sizes = np.random.default_rng(0).integers(*sides, (100, 2))
  batches = plan(sizes)
  assert sorted(i for *_, indices in batches for i in indices) == list(range(100))
  counts = {}
  for canvas, count, indices in batches:
    assert np.all(sizes[indices] <= canvas) and 0 < len(indices) <= count == counts.setdefault(canvas, count)
    assert count == 1 or count * math.prod(canvas) <= BATCH
    assert math.prod(canvas) <= max(BATCH, canvases.rounded(sizes).prod(1).max()), 'as much memory as an image alone'
  fillers = sum(count - len(indices) for _, count, indices in batches)
  assert fillers < len(batches)
  areas = [math.prod(canvas) for canvas, *_ in batches]
  assert areas == sorted(areas)
  assert not plan(np.zeros((0, 2), int))


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
