"""The network: sizes, skips, alignment, and padding that changes no answer."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cheap import quick_jit, random_params, shapes_of

from fcn_jax import config as configs
from fcn_jax import losses
from fcn_jax.data.dataset import IGNORE
from fcn_jax.models import fcn, grid
from fcn_jax.models.fcn import FCN
from fcn_jax.models.vgg import VGG

CLASSES = 5
PICTURE = np.zeros((1, 1, 1, 3), np.uint8)
ALL = tuple(grid.SKIP_STRIDES)


def network(stride, norm='none', skips=None, upsample='learned_random', **trunk):
  """Narrow, and its activations of size 1, so that a bias of 0.3 is not lost among them."""
  return FCN(
    classes=CLASSES,
    trunk=VGG(width=1 / 16, fc_channels=256, norm=norm, group_size=4, **trunk),
    stride=stride,
    skips=fcn.skips_of(stride, 'all') if skips is None else skips,
    upsample=upsample,
    std=(64.0, 64.0, 64.0),
  )


@functools.cache
def several(norm, paddings=grid.PADDINGS['aligned']):
  """One trunk under heads of three strides: a function of (params, images, size) to the logits of each, and params.

  Compiled together they cost little more than one: the trunk's layers are the same, and XLA keeps one of each.
  """
  heads = {stride: random_params(network(stride, norm), PICTURE, seed=stride) for stride in (32, 8, 2)}
  for head in heads.values():
    trunk = head.pop('trunk')

  @quick_jit
  def logits(params, images, size=None):
    trunk, heads = params
    nets = {s: network(s, norm, paddings=paddings) for s in heads}
    return {s: net.apply({'params': heads[s] | {'trunk': trunk}}, images, size) for s, net in nets.items()}

  return logits, (trunk, heads)


@pytest.mark.parametrize('stride', grid.STRIDES)
def test_logits_have_exactly_the_size_of_the_picture(stride):
  net = network(stride)
  params = shapes_of(net, PICTURE)
  for size in ((1, 1), (1, 40), (2, 2), (101, 7), (64, 131)):
    images = jax.ShapeDtypeStruct((2, *size, 3), np.uint8)
    logits = jax.eval_shape(net.apply, {'params': params}, images)
    assert (logits.shape, logits.dtype) == ((2, *size, CLASSES), np.float32)


@pytest.mark.parametrize('stride', grid.STRIDES)
def test_so_they_do_in_the_geometry_of_the_authors(stride):
  net = network(stride, paddings=grid.PADDINGS['caffe'])
  params = shapes_of(net, PICTURE)
  for size in ((1, 1), (33, 40), (101, 7), (64, 131), (375, 500)):
    images = jax.ShapeDtypeStruct((1, *size, 3), np.uint8)
    assert jax.eval_shape(net.apply, {'params': params}, images).shape == (1, *size, CLASSES)


def test_the_last_upsampling_alone_stays_fixed():
  params = shapes_of(network(8, upsample='bilinear_last_fixed'), PICTURE)
  assert {name for name in params if name.startswith('upsample')} == {'upsample_to_16', 'upsample_to_8'}


def test_no_gradient_goes_into_a_frozen_trunk():
  net, images = network(16).clone(freeze_trunk=True), np.zeros((1, 20, 20, 3), np.uint8)
  params = random_params(net, PICTURE)
  gradients = quick_jit(jax.grad(lambda p: jnp.sum(net.apply({'params': p}, images))))(params)
  assert not any(x.any() for x in jax.tree.leaves(gradients['trunk']))
  assert gradients['score_pool4']['bias'].any()


def test_at_once_scales_the_pools():
  """As if their score layers had kernels so much smaller."""
  net, images = network(8), np.random.default_rng(0).integers(0, 256, (1, 40, 50, 3), np.uint8)
  params = random_params(net, PICTURE)
  scaled = params | {
    f'score_{skip}': params[f'score_{skip}'] | {'kernel': factor * params[f'score_{skip}']['kernel']}
    for skip, factor in (('pool4', 0.01), ('pool3', 0.0001))
  }
  run = quick_jit(
    lambda: (net.clone(at_once=True).apply({'params': params}, images), net.apply({'params': scaled}, images))
  )
  mine, expected = run()
  np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4)
  assert np.abs(mine - net.apply({'params': params}, images)).max() > 0.1


def test_scores_start_at_zero():
  net = network(2)

  @quick_jit  # leaves the rest out, which takes long to compile
  def initial_scores(key):
    params = net.init(key, PICTURE)['params']
    return {name: layer for name, layer in params.items() if name.startswith('score')}

  scores = initial_scores(jax.random.key(0))
  assert set(scores) == {'score_fr', *(f'score_{skip}' for skip in ALL)}
  assert not any(x.any() for x in jax.tree.leaves(scores))


def test_a_skip_at_the_same_stride_changes_nothing_at_first():
  """A net of stride 8 that was trained without skips, and the same with new ones."""
  images = np.random.default_rng(0).integers(0, 256, (1, 50, 64, 3), np.uint8)
  trained = random_params(network(8), PICTURE)
  skips = {name: layer for name, layer in trained.items() if name in ('score_pool4', 'score_pool3')}
  new = jax.tree.map(np.zeros_like, skips)  # `test_scores_start_at_zero`

  @quick_jit
  def logits(skips):
    return [network(8, skips=names).apply({'params': trained | skips}, images) for names in ((), ('pool4', 'pool3'))]

  without, with_new = logits(new)
  assert np.std(without) > 0.1
  assert np.array_equal(without, with_new)
  for name in skips:  # and does once it is trained
    without, with_one = logits(new | {name: skips[name]})
    assert np.abs(without - with_one).max() > 0.1


def test_every_subset_of_skips_has_just_its_own_score_layers():
  for count, stride in enumerate(grid.STRIDES):
    for length in range(count + 1):
      for skips in itertools.combinations(ALL[:count], length):
        params = shapes_of(network(stride, skips=skips), PICTURE)
        scores = {name for name in params if name.startswith('score')}
        assert scores == {'score_fr', *(f'score_{skip}' for skip in skips)}
        steps = {name for name in params if name.startswith('upsample')}
        assert steps == {f'upsample_to_{s}' for s in (1, *grid.STRIDES[1 : count + 1])}


def test_shifting_the_input_shifts_the_output():
  """By 32 pixels, the stride of fc7, which every net has: a finer net has finer steps only in its skips.

  Farther from the edge than a score can see: pool5 sees 106 pixels to each side of its middle, fc6 three cells of 32
  more, and each upsampling less than one cell, 32 + 16 + 8 + 4 + 2 + 1 at most.
  """
  sees, shift, length = 106 + 96 + 63, 32, 640
  edge = -(-sees // 32) * 32
  scene = np.random.default_rng(0).integers(0, 256, (length + shift, length + shift, 3), np.uint8)
  images = np.stack([scene[:length, :length], scene[shift:, shift:]])
  logits, params = several('none')
  for stride, (first, second) in logits(params, images).items():
    expected = first[edge + shift : length - edge, edge + shift : length - edge]
    shifted = second[edge : length - edge - shift, edge : length - edge - shift]
    one_off = second[edge + 1 : length - edge - shift + 1, edge : length - edge - shift]
    scale = np.abs(expected).max()
    assert expected.size
    assert np.abs(shifted - expected).max() < 1e-4 * scale, stride
    assert np.abs(one_off - expected).max() > 1e-2 * scale, stride


def test_a_mirrored_picture_gives_mirrored_scores():
  """With mirrored kernels, where the cells fit the picture. A crop that is off by one pixel would break it."""
  logits, (trunk, heads) = several('none')
  mirrored = jax.tree.map(lambda x: x[::-1, ::-1] if x.ndim > 2 else x, (trunk, heads))
  images = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3), np.uint8)
  straight = logits((trunk, heads), images)
  for stride, scores in logits(mirrored, images[:, ::-1, ::-1]).items():
    expected = straight[stride][:, ::-1, ::-1]
    scale = np.abs(expected).max()
    assert np.abs(scores - expected).max() < 1e-4 * scale, stride
    assert np.abs(scores - straight[stride]).max() > 1e-2 * scale, stride


@pytest.mark.parametrize(
  ('norm', 'tolerance', 'paddings'),
  [('none', 1e-4, 'aligned'), ('group', 1e-3, 'aligned'), ('none', 1e-4, 'caffe')],
)
def test_a_padded_batch_gives_each_picture_what_it_gets_alone(norm, tolerance, paddings):
  rng = np.random.default_rng(0)
  sizes = np.array([(33, 50), (1, 1), (64, 17)], np.int32)
  canvases = rng.integers(0, 256, (len(sizes), 64, 96, 3), np.uint8)  # garbage around the pictures
  logits, params = several(norm, grid.PADDINGS[paddings])
  together = logits(params, canvases, sizes)
  for number, (height, width) in enumerate(sizes):
    alone = logits(params, canvases[number : number + 1, :height, :width])
    for stride, expected in alone.items():
      mine, expected = together[stride][number, :height, :width], expected[0]
      scale = np.abs(expected).max()
      assert mine.shape == (height, width, CLASSES)
      assert scale > 0.01
      assert np.abs(mine - expected).max() < tolerance * scale, (stride, height, width)


@pytest.fixture(scope='module')
def gradients():
  """Of the loss of two pictures on one canvas, as a function of (images, labels, sizes)."""
  net = network(8, 'group')
  params = random_params(net, PICTURE)

  def loss(params, images, labels, sizes):
    logits = net.apply({'params': params}, images, sizes)
    return losses.softmax_cross_entropy(logits, labels, losses.pixel_weights(labels))

  return functools.partial(quick_jit(jax.grad(loss)), params)


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


@pytest.mark.parametrize(('stride', 'width'), [(32, 1.0), (8, 1.0), (2, 0.125)])
def test_flops_are_those_that_xla_counts(stride, width):
  """XLA counts the ReLUs and maxima as well, and leaves out products with padding."""
  skips = fcn.skips_of(stride, 'all')
  net = FCN(classes=21, trunk=VGG(width=width), stride=stride, skips=skips, upsample='bilinear_learned')
  image = jax.ShapeDtypeStruct((1, 250, 330, 3), np.uint8)
  params = {'params': shapes_of(net, PICTURE)}
  counted = jax.jit(net.apply).lower(params, image).cost_analysis()['flops']
  assert fcn.flops(net, 250, 330) == pytest.approx(counted, rel=0.1)


def test_skips_by_name():
  assert fcn.skips_of(32, 'all') == ()
  assert fcn.skips_of(16, 'all') == ('pool4',)
  assert fcn.skips_of(8, 'all') == ('pool4', 'pool3')
  assert fcn.skips_of(2, 'all') == ALL
  assert fcn.skips_of(8, 'none') == ()
  assert fcn.skips_of(2, 'pool3') == ('pool3',)
  assert fcn.skips_of(2, 'pool4+pool1') == ('pool4', 'pool1')


def test_from_config_takes_every_field_of_the_model():
  config = configs.default('scenes')
  config.model.update(
    stride=4, skips='pool3+pool2', upsample='learned_random', width=0.25, fc_channels=512, norm='none', group_size=2
  )
  config.model.update(dropout=0.3, dtype='bfloat16', remat=True)
  config.data.update(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
  trunk = VGG(
    width=0.25, fc_channels=512, norm='none', group_size=2, dropout=0.3, dtype=jnp.dtype('bfloat16'), remat=True
  )
  assert fcn.from_config(config, 7) == FCN(
    classes=7,
    trunk=trunk,
    stride=4,
    skips=('pool3', 'pool2'),
    upsample='learned_random',
    mean=(1.0, 2.0, 3.0),
    std=(4.0, 5.0, 6.0),
  )


def test_pictures_are_normalised_by_channel():
  """Subtracting the mean and dividing by the deviation beforehand is the same."""
  images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
  mean, std = (10.0, 60.0, 200.0), (20.0, 50.0, 90.0)
  inside = network(32).clone(mean=mean, std=std)
  beforehand = network(32).clone(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
  params = {'params': random_params(inside, PICTURE)}
  normalised = ((images - np.array(mean)) / np.array(std)).astype(np.float32)
  first, second = quick_jit(lambda a, b: (inside.apply(params, a), beforehand.apply(params, b)))(images, normalised)
  np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4 * np.abs(second).max())


@pytest.mark.parametrize('shrink', [2, 4])
def test_a_shrunk_padded_batch_gives_each_picture_what_it_gets_alone(shrink):
  """Cells at the edge of a picture hold some of its pixels only, on a canvas as alone."""
  rng = np.random.default_rng(0)
  sizes = np.array([(33, 50), (1, 1), (47, 17)], np.int32)
  canvases = rng.integers(0, 256, (len(sizes), 64, 64, 3), np.uint8)  # garbage around the pictures
  net = network(8).clone(shrink=shrink)
  params = {'params': random_params(net, PICTURE)}
  logits = quick_jit(lambda images, size=None: net.apply(params, images, size))
  together = logits(canvases, sizes)
  for number, (height, width) in enumerate(sizes):
    mine = together[number, :height, :width]
    expected = logits(canvases[number : number + 1, :height, :width])[0]
    scale = np.abs(expected).max()
    assert expected.shape == mine.shape == (height, width, CLASSES)
    assert scale > 0.01
    assert np.abs(mine - expected).max() < 1e-4 * scale, (height, width)


def test_a_shrunk_network_sees_the_means_of_cells():
  """Of what there is of a cell at the right and the bottom; at 1 nothing changes."""
  images = np.random.default_rng(0).integers(0, 256, (1, 30, 41, 3), np.uint8)
  assert fcn._mean_of_cells(images, None, 1) is images
  several = quick_jit(lambda x: [(shrink, fcn._mean_of_cells(x, None, shrink)) for shrink in (2, 4)])
  for shrink, means in several(images.astype(np.float32)):
    shrink = int(shrink)
    rows, columns = (range(0, n, shrink) for n in images.shape[1:3])
    expected = [[images[0, y : y + shrink, x : x + shrink].mean((0, 1)) for x in columns] for y in rows]
    np.testing.assert_allclose(means[0], expected, rtol=1e-5)
