"""Scores move with the image, mirror with it, and do not depend on the canvas or on the other images of a batch."""

import functools

import jax
import numpy as np
import pytest
from cheap import network, quick_jit, random_params, scores, vgg

from fcn_jax import losses
from fcn_jax.data.dataset import IGNORE

CLASSES = 5


@functools.cache
def several(norm, geometry='aligned'):
  """One backbone under score layers of three strides.

  Returns:
    A function of (params, images, size) to the scores by stride, and the parameters. Compiled together they cost little
    more than one: the layers of the backbone are the same, and XLA keeps one of each.
  """
  nets = {s: network(vgg(norm=norm, group_size=4, geometry=geometry), stride=s) for s in (32, 8, 2)}
  above = {stride: random_params(net, seed=stride) for stride, net in nets.items()}
  for params in above.values():
    backbone = params.pop('trunk')

  @quick_jit
  def by_stride(params, images, size=None):
    backbone, above = params
    return {s: scores(net, above[s] | {'trunk': backbone}, images, size) for s, net in nets.items()}

  return by_stride, (backbone, above)


def test_shifting_the_input_shifts_the_output():
  """By 32 pixels, the stride of fc7, which every net has: a finer net has finer steps only in its skips.

  Farther from the edge than a score can see: pool5 sees 106 pixels to each side of its middle, fc6 three cells of 32
  more, and each upsampling less than one cell, 32 + 16 + 8 + 4 + 2 + 1 at most.
  """
  sees, shift, length = 106 + 96 + 63, 32, 640
  edge = -(-sees // 32) * 32
  scene = np.random.default_rng(0).integers(0, 256, (length + shift, length + shift, 3), np.uint8)
  images = np.stack([scene[:length, :length], scene[shift:, shift:]])
  by_stride, params = several('none')
  for stride, (first, second) in by_stride(params, images).items():
    expected = first[edge + shift : length - edge, edge + shift : length - edge]
    shifted = second[edge : length - edge - shift, edge : length - edge - shift]
    one_off = second[edge + 1 : length - edge - shift + 1, edge : length - edge - shift]
    scale = np.abs(expected).max()
    assert expected.size
    assert np.abs(shifted - expected).max() < 1e-4 * scale, stride
    assert np.abs(one_off - expected).max() > 1e-2 * scale, stride


def test_a_mirrored_image_gives_mirrored_scores():
  """With mirrored kernels, if the cells fit the image. A crop that is off by one pixel would break it."""
  by_stride, (backbone, above) = several('none')
  mirrored = jax.tree.map(lambda x: x[::-1, ::-1] if x.ndim > 2 else x, (backbone, above))
  images = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3), np.uint8)
  straight = by_stride((backbone, above), images)
  for stride, found in by_stride(mirrored, images[:, ::-1, ::-1]).items():
    expected = straight[stride][:, ::-1, ::-1]
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() < 1e-4 * scale, stride
    assert np.abs(found - straight[stride]).max() > 1e-2 * scale, stride


@pytest.mark.parametrize(
  ('norm', 'tolerance', 'geometry'),
  [('none', 1e-4, 'aligned'), ('group', 1e-3, 'aligned'), ('none', 1e-4, 'caffe')],
)
def test_a_padded_batch_gives_each_image_the_scores_that_it_gets_alone(norm, tolerance, geometry):
  rng = np.random.default_rng(0)
  sizes = np.array([(33, 50), (1, 1), (64, 17)], np.int32)
  canvases = rng.integers(0, 256, (len(sizes), 64, 96, 3), np.uint8)  # garbage around the images
  by_stride, params = several(norm, geometry)
  together = by_stride(params, canvases, sizes)
  for number, (height, width) in enumerate(sizes):
    alone = by_stride(params, canvases[number : number + 1, :height, :width])
    for stride, expected in alone.items():
      mine, expected = together[stride][number, :height, :width], expected[0]
      scale = np.abs(expected).max()
      assert mine.shape == (height, width, CLASSES)
      assert scale > 0.01
      assert np.abs(mine - expected).max() < tolerance * scale, (stride, height, width)


@pytest.mark.parametrize('shrink', [2, 4])
def test_a_shrunk_padded_batch_gives_each_image_the_scores_that_it_gets_alone(shrink):
  """Cells at the edge of an image hold only some of its pixels, on a canvas and alone."""
  rng = np.random.default_rng(0)
  sizes = np.array([(33, 50), (1, 1), (47, 17)], np.int32)
  canvases = rng.integers(0, 256, (len(sizes), 64, 64, 3), np.uint8)  # garbage around the images
  net = network(vgg(), shrink=shrink)
  params = random_params(net)
  run = quick_jit(lambda images, size=None: scores(net, params, images, size))
  together = run(canvases, sizes)
  for number, (height, width) in enumerate(sizes):
    mine = together[number, :height, :width]
    expected = run(canvases[number : number + 1, :height, :width])[0]
    scale = np.abs(expected).max()
    assert expected.shape == mine.shape == (height, width, CLASSES)
    assert scale > 0.01
    assert np.abs(mine - expected).max() < 1e-4 * scale, (height, width)


@pytest.fixture(scope='module')
def gradients():
  """A function of (images, labels, sizes): the gradients of the loss of two images on one canvas."""
  net = network(vgg(norm='group', group_size=4))
  params = random_params(net)

  def loss(params, images, labels, sizes):
    return losses.softmax_cross_entropy(scores(net, params, images, sizes), labels, losses.pixel_weights(labels))

  return functools.partial(quick_jit(jax.grad(loss)), params)


@pytest.mark.slow
def test_a_filler_has_finite_gradients_and_adds_nothing(gradients):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
  labels = rng.integers(0, CLASSES, (2, 32, 32), np.uint8)
  whole = np.array([[32, 32], [20, 31]], np.int32)
  labels[1, 20:] = labels[1, :, 31:] = IGNORE

  def filled(places):
    filler = np.isin([0, 1], places)
    return gradients(
      np.where(filler[:, None, None, None], 0, images).astype(np.uint8),
      np.where(filler[:, None, None], IGNORE, labels).astype(np.uint8),
      np.where(filler[:, None], 1, whole).astype(np.int32),
    )

  both, first, second, none = filled([]), filled([1]), filled([0]), filled([0, 1])
  assert all(np.isfinite(x).all() for x in jax.tree.leaves((both, first, second, none)))
  assert not any(x.any() for x in jax.tree.leaves(none))
  for leaf, a, b in zip(*map(jax.tree.leaves, (both, first, second)), strict=True):
    assert np.abs(leaf).max() > 0
    np.testing.assert_allclose(a + b, leaf, rtol=1e-3, atol=1e-4 * np.abs(leaf).max())
