"""The trunk: the paper's size, layers against the framework's own, and a head that slides."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cheap import quick_jit, random_params, shapes_of

from fcn_jax.models import vgg
from fcn_jax.models.fcn import FCN
from fcn_jax.models.vgg import VGG

PICTURE = np.zeros((1, 1, 1, 3), np.float32)
SMALL = {'width': 1 / 16, 'fc_channels': 256}


def everywhere(stride):
  """No mask: the picture fills its canvas."""


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


def test_parameter_counts_are_the_papers():
  net = FCN(classes=21, trunk=VGG(), stride=32, skips=())
  params = shapes_of(net, PICTURE)
  trunk = params['trunk']
  head = {name: trunk[name] for name in ('fc6', 'fc7')}
  assert count(trunk) - count(head) == 14_714_688
  assert count(head) == 119_545_856
  assert count(params) == 134_346_581


def test_width_scales_every_layer():
  whole = shapes_of(VGG(), PICTURE, everywhere, False)
  narrow = shapes_of(VGG(width=1 / 16), PICTURE, everywhere, False)
  assert set(whole) == set(narrow)
  for name, layer in whole.items():
    assert layer['bias'].size == 16 * narrow[name]['bias'].size


def test_group_norm_replaces_every_bias():
  net = VGG(**SMALL, norm='group', group_size=4)
  params = shapes_of(net, PICTURE, everywhere, False)
  layers = {name: set(layer) for name, layer in params.items()}
  norms = {name for name in layers if name.startswith('norm')}
  assert len(norms) == 15  # 13 convolutions, fc6 and fc7
  assert all(layers[name] == {'scale', 'bias'} for name in norms)
  assert all(layers[name] == {'kernel'} for name in set(layers) - norms)


@pytest.mark.parametrize('size', [(1, 1), (2, 1), (5, 4), (4, 7), (6, 8)])
def test_max_pool_is_the_frameworks_rounded_up(rng, size):
  # A permutation above 0: no ties, with the padding neither, at which a gradient may go to either.
  x = 1 + rng.permutation(size[0] * size[1] * 6).reshape(2, *size, 3).astype(np.float32)
  weights = rng.normal(size=(2, *(-(-n // 2) for n in size), 3)).astype(np.float32)

  @quick_jit
  def both(x):
    # 'SAME' rounds up, and pads with -inf.
    pools = vgg.max_pool, lambda x: nn.max_pool(x, (2, 2), (2, 2), 'SAME')
    return [(pool(x), jax.grad(lambda x: jnp.sum(weights * pool(x)))(x)) for pool in pools]  # noqa: B023

  (ours, gradient), (theirs, their_gradient) = both(x)
  assert ours.shape == weights.shape
  assert np.array_equal(ours, theirs)
  np.testing.assert_allclose(gradient, their_gradient, rtol=1e-6)


@pytest.mark.parametrize('masked', [False, True])
def test_relu_and_its_gradient_are_the_frameworks_inside_the_pictures_and_zero_outside(rng, masked):
  x = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
  x[0, 0, 0] = 0, np.nan, -0.0
  mask = rng.random((2, 4, 5, 1)) < 0.5 if masked else None
  weights = rng.normal(size=x.shape).astype(np.float32)

  @quick_jit
  def both(x):
    relus = vgg.relu, lambda x, mask: vgg.keep(mask, nn.relu(x))
    return [(f(x, mask), jax.grad(lambda x: jnp.sum(weights * f(x, mask)))(x)) for f in relus]  # noqa: B023

  ours, theirs = both(x)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.fixture(scope='module')
def unpadded_head():
  """A trunk whose fc6 does not pad, its parameters, and what it makes of a picture."""
  net = VGG(**SMALL, paddings=(1, 0))
  params = random_params(net, np.zeros((1, 224, 224, 3), np.float32), everywhere, False)
  maps = quick_jit(lambda x: net.apply({'params': params}, x, everywhere, False))
  return params, maps


def dense_head(params, pool5):
  """VGG's classifier as matrices on a 7x7 map, raveled: what fc6 and fc7 were before CVPR'15, section 4.1."""
  fc6, fc7 = params['fc6'], params['fc7']
  x = pool5.ravel() @ fc6['kernel'].reshape(pool5.size, -1) + fc6['bias']
  x = np.maximum(x, 0) @ fc7['kernel'].reshape(len(x), -1) + fc7['bias']
  return np.maximum(x, 0)


@pytest.mark.parametrize('size', [(224, 224), (230, 300)])
def test_head_is_the_dense_classifier_slid_over_pool5(rng, unpadded_head, size):
  params, maps = unpadded_head
  out = maps(rng.normal(size=(2, *size, 3)).astype(np.float32))
  pool5, fc7 = np.asarray(out['pool5']), np.asarray(out['fc7'])
  rows, columns = (-(-n // 32) - 6 for n in size)
  assert fc7.shape == (2, rows, columns, 16)
  for b in range(2):
    for i in range(rows):
      for j in range(columns):
        expected = dense_head(params, pool5[b, i : i + 7, j : j + 7])
        assert expected.any()
        np.testing.assert_allclose(fc7[b, i, j], expected, rtol=1e-4, atol=1e-5)


def test_remat_changes_no_gradient(rng):
  x = rng.normal(size=(1, 33, 40, 3)).astype(np.float32)
  gradients, saved = [], []
  for remat in (False, True):
    net = VGG(**SMALL, remat=remat)
    params = random_params(net, x, everywhere, False)

    def loss(params, net=net):
      return jnp.sum(net.apply({'params': params}, x, everywhere, False)['fc7'] ** 2)

    gradients.append(quick_jit(jax.grad(loss))(params))
    saved.append('remat' in str(jax.make_jaxpr(loss)(params)))
  assert saved == [False, True]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max()), *gradients)


def test_bfloat16_computes_in_16_bits_and_keeps_parameters_and_scores_in_32():
  net = FCN(classes=5, trunk=VGG(**SMALL, norm='group', group_size=4, dtype=jnp.bfloat16), stride=8)
  images, size = np.zeros((1, 40, 40, 3), np.uint8), np.array([[33, 40]], np.int32)
  params = {'params': shapes_of(net, images, size)}
  assert {x.dtype.name for x in jax.tree.leaves(params)} == {'float32'}
  assert jax.eval_shape(net.apply, params, images, size).dtype == np.float32

  trunk = {'params': params['params']['trunk']}
  x = jax.ShapeDtypeStruct((1, 40, 40, 3), np.float32)
  maps = jax.eval_shape(lambda p, x: net.trunk.apply(p, x, everywhere, False), trunk, x)
  assert {name: x.dtype.name for name, x in maps.items()} == dict.fromkeys(maps, 'bfloat16')
  program = str(jax.make_jaxpr(net.apply)(params, images, size))
  # No product of matrices or convolution in 32 bits, which are the slow ones, but for the interpolation of scores.
  products = [line for line in program.splitlines() if 'conv_general_dilated' in line or 'dot_general' in line]
  in_32 = [line for line in products if 'bf16[' not in line.split(' = ')[0]]
  assert len(products) - len(in_32) == 18  # 13 convolutions, fc6, fc7 and three scores
  assert len(in_32) == 6  # two for each of three upsamplings


def test_dropout_zeroes_elements_and_only_in_training(rng):
  net = VGG(**SMALL, dropout=0.5)
  x = rng.normal(size=(8, 32, 32, 3)).astype(np.float32)
  params = random_params(net, x, everywhere, False)

  @quick_jit
  def fc7s(key):
    rngs = {'dropout': key}
    off = net.apply({'params': params}, x, everywhere, False, rngs=rngs)['fc7']
    return off, net.apply({'params': params}, x, everywhere, True, rngs=rngs)['fc7']

  (off, on), (off_again, other) = (fc7s(jax.random.key(seed)) for seed in (0, 1))
  assert np.array_equal(off, off_again)
  assert not np.array_equal(on, other)
  dropped = np.mean((np.asarray(on) == 0) & (np.asarray(other) == 0)) - np.mean(np.asarray(off) == 0)
  assert dropped > 0.05
