"""The network: sizes of scores, skip connections, names of layers, normalization and shrinking."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cheap import network, quick_jit, random_params, scores, shapes_of, vgg

from fcn_jax.models import fcn, names

CLASSES = 5
STRIDES = tuple(names.BACKBONES['vgg16'].taps.values())
ALL = tuple(names.skip_strides('vgg16'))


@pytest.mark.parametrize('geometry', ['aligned', 'caffe'])
@pytest.mark.parametrize('stride', STRIDES)
def test_scores_have_exactly_the_size_of_the_image(stride, geometry):
  net = network(vgg(geometry=geometry), stride=stride)
  params = shapes_of(net)
  for size in ((1, 1), (1, 40), (2, 2), (33, 40), (101, 7), (64, 131), (375, 500)):
    images = jax.ShapeDtypeStruct((2, *size, 3), np.uint8)
    found = jax.eval_shape(lambda p, x: net.apply({'params': p}, {'rgb': x}), params, images)
    assert {head: (x.shape, x.dtype) for head, x in found.items()} == {'semantic': ((2, *size, CLASSES), np.float32)}


def test_the_last_upsampling_alone_stays_fixed():
  params = shapes_of(network(vgg(), upsample='bilinear_last_fixed'))
  assert {name for name in params if name.startswith('upsample')} == {'upsample_to_16', 'upsample_to_8'}


def test_no_gradient_flows_into_a_frozen_backbone():
  net, images = network(vgg(), stride=16, freeze_backbone=True), np.zeros((1, 20, 20, 3), np.uint8)
  params = random_params(net)
  gradients = quick_jit(jax.grad(lambda p: jnp.sum(scores(net, p, images))))(params)
  assert not any(x.any() for x in jax.tree.leaves(gradients['trunk']))
  assert gradients['score_pool4']['bias'].any()


def test_at_once_scales_the_taps():
  """As if their score layers had kernels smaller by the factors."""
  net, images = network(vgg()), np.random.default_rng(0).integers(0, 256, (1, 40, 50, 3), np.uint8)
  assert fcn.AT_ONCE == {'pool4': 0.01, 'pool3': 0.0001}  # of the authors' FCN-8s at-once
  params = random_params(net)
  scaled = params | {
    f'score_{skip}': params[f'score_{skip}'] | {'kernel': factor * params[f'score_{skip}']['kernel']}
    for skip, factor in fcn.AT_ONCE.items()
  }
  at_once = net.clone(tap_factors=fcn.AT_ONCE)
  run = quick_jit(lambda: [scores(at_once, params, images), scores(net, scaled, images), scores(net, params, images)])
  mine, expected, unscaled = run()
  np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4)
  assert np.abs(mine - unscaled).max() > 0.1


def test_scores_start_at_zero():
  net = network(vgg(), stride=2)

  @quick_jit  # leaves the rest out, which takes long to compile
  def initial_scores(key):
    params = net.init(key, net.example_inputs())['params']
    return {name: layer for name, layer in params.items() if name.startswith('score')}

  initial = initial_scores(jax.random.key(0))
  assert set(initial) == {'score_fr', *(f'score_{skip}' for skip in ALL)}
  assert not any(x.any() for x in jax.tree.leaves(initial))


def test_a_skip_at_the_same_stride_changes_nothing_at_first():
  """A net of stride 8 that was trained without skips, and the same with new ones."""
  images = np.random.default_rng(0).integers(0, 256, (1, 50, 64, 3), np.uint8)
  trained = random_params(network(vgg()))
  skips = {name: layer for name, layer in trained.items() if name in ('score_pool4', 'score_pool3')}
  new = jax.tree.map(np.zeros_like, skips)  # `test_scores_start_at_zero`

  @quick_jit
  def both(skips):
    return [scores(network(vgg(), skips=taps), trained | skips, images) for taps in ((), ('pool4', 'pool3'))]

  without, with_new = both(new)
  assert np.std(without) > 0.1
  assert np.array_equal(without, with_new)
  for name in skips:  # and does once it is trained
    without, with_one = both(new | {name: skips[name]})
    assert np.abs(without - with_one).max() > 0.1


def test_every_subset_of_skips_has_only_the_score_layers_that_it_needs():
  for count, stride in enumerate(STRIDES):
    for length in range(count + 1):
      for skips in itertools.combinations(ALL[:count], length):
        params = shapes_of(network(vgg(), stride=stride, skips=skips))
        layers = {name for name in params if name.startswith('score')}
        assert layers == {'score_fr', *(f'score_{skip}' for skip in skips)}
        steps = {name for name in params if name.startswith('upsample')}
        assert steps == {f'upsample_to_{s}' for s in (1, *STRIDES[1 : count + 1])}


def test_coarse_scores_are_those_that_the_network_upsamples():
  """At the stride of the finest scores they become the scores of the pixels; at every tap they have its size."""
  net = network(vgg(), upsample='bilinear_fixed')
  images = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
  size, params = np.array([[64, 96]], np.int32), random_params(net)

  @quick_jit
  def found():
    return [net.coarse_scores(params, {'rgb': images}, size, s)['semantic'] for s in (32, 16, 8)]

  maps = found()
  assert [x.shape for x in maps] == [(1, 64 // s, 96 // s, CLASSES) for s in (32, 16, 8)]
  upsampled = jax.image.resize(maps[-1], (1, 64, 96, CLASSES), 'bilinear')
  inside = np.s_[:, 4:-4, 4:-4]
  pixels = quick_jit(lambda: scores(net, params, images, size))()
  np.testing.assert_allclose(pixels[inside], upsampled[inside], rtol=1e-4, atol=1e-4 * np.abs(pixels).max())


def test_images_are_normalized_by_channel():
  """Subtracting the mean and dividing by the deviation beforehand is the same."""
  images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
  mean, std = (10.0, 60.0, 200.0), (20.0, 50.0, 90.0)
  inside = network(vgg(), stride=32, mean={'rgb': mean}, std={'rgb': std})
  beforehand = network(vgg(), stride=32, mean={'rgb': (0.0, 0.0, 0.0)}, std={'rgb': (1.0, 1.0, 1.0)})
  params = random_params(inside)
  normalized = ((images - np.array(mean)) / np.array(std)).astype(np.float32)
  first, second = quick_jit(lambda a, b: (scores(inside, params, a), scores(beforehand, params, b)))(images, normalized)
  np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4 * np.abs(second).max())


def test_a_shrunk_network_sees_the_means_of_cells():
  """Cells at the right and bottom edges have the mean of the pixels that exist; at 1 nothing changes."""
  images = np.random.default_rng(0).integers(0, 256, (1, 30, 41, 3), np.uint8)
  assert fcn._mean_of_cells(images, None, 1) is images
  several = quick_jit(lambda x: [(shrink, fcn._mean_of_cells(x, None, shrink)) for shrink in (2, 4)])
  for shrink, means in several(images.astype(np.float32)):
    shrink = int(shrink)
    rows, columns = (range(0, n, shrink) for n in images.shape[1:3])
    expected = [[images[0, y : y + shrink, x : x + shrink].mean((0, 1)) for x in columns] for y in rows]
    np.testing.assert_allclose(means[0], expected, rtol=1e-5)


def test_skips_by_name():
  def resolved(stride, skips):
    return names.resolve_skips('vgg16', stride, skips)

  assert resolved(32, 'all') == ()
  assert resolved(16, 'all') == ('pool4',)
  assert resolved(8, 'all') == ('pool4', 'pool3')
  assert resolved(2, 'all') == ALL
  assert resolved(8, 'none') == ()
  assert resolved(2, 'pool3') == ('pool3',)
  assert resolved(2, 'pool4+pool1') == ('pool4', 'pool1')
