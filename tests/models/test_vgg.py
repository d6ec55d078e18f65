"""The backbone: the paper's size, a classifier that slides, precision, memory and dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cheap import network, quick_jit, random_params, scores, shapes_of, vgg

from fcn_jax.models import cost
from fcn_jax.models.grid import Grid
from fcn_jax.models.vgg import VGG16

IMAGE = np.zeros((1, 1, 1, 3), np.float32)


def everywhere(name):
  """No mask: the image fills its canvas."""


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def test_parameter_counts_are_the_papers():
  params = shapes_of(network(VGG16(name='trunk'), classes=21, stride=32, upsample='bilinear_fixed'))
  backbone = params['trunk']
  classifier = {name: backbone[name] for name in ('fc6', 'fc7')}
  assert cost.parameters(backbone) - cost.parameters(classifier) == 14_714_688
  assert cost.parameters(classifier) == 119_545_856
  assert cost.parameters(params) == 134_346_581


def test_width_scales_every_layer():
  whole = shapes_of(VGG16(), IMAGE, everywhere, False)
  narrow = shapes_of(VGG16(width=1 / 16), IMAGE, everywhere, False)
  assert set(whole) == set(narrow)
  for name, layer in whole.items():
    assert layer['bias'].size == 16 * narrow[name]['bias'].size


def test_group_norm_replaces_every_bias():
  params = shapes_of(vgg(norm='group', group_size=4), IMAGE, everywhere, False)
  layers = {name: set(layer) for name, layer in params.items()}
  norms = {name for name in layers if name.startswith('norm')}
  assert len(norms) == 15  # 13 convolutions, fc6 and fc7
  assert all(layers[name] == {'scale', 'bias'} for name in norms)
  assert all(layers[name] == {'kernel'} for name in set(layers) - norms)


@pytest.mark.parametrize('geometry', ['aligned', 'caffe'])
def test_every_tap_has_the_size_of_its_grid(geometry):
  backbone = vgg(geometry=geometry)
  params = shapes_of(backbone, IMAGE, everywhere, False)
  for size in ((1, 1), (33, 50), (100, 64)):
    x = jax.ShapeDtypeStruct((2, *size, 3), np.float32)
    maps = jax.eval_shape(lambda p, x: backbone.apply({'params': p}, x, everywhere, False), params, x)
    grids = backbone.grids(Grid(np.array(size)))
    assert set(backbone.taps) <= set(maps)
    assert {name: list(x.shape[1:3]) for name, x in maps.items()} == {name: list(grids[name].size) for name in maps}


@pytest.fixture(scope='module')
def unpadded_classifier():
  """A backbone whose fc6 does not pad: its parameters, and a function from images to its maps."""
  net = vgg(geometry='caffe')
  params = random_params(net, np.zeros((1, 26, 26, 3), np.float32), everywhere, False)
  return params, quick_jit(lambda x: net.apply({'params': params}, x, everywhere, False))


def dense_classifier(params, pool5):
  """VGG's classifier as matrices on a 7x7 map, raveled: what fc6 and fc7 were before CVPR'15, section 4.1."""
  fc6, fc7 = params['fc6'], params['fc7']
  x = pool5.ravel() @ fc6['kernel'].reshape(pool5.size, -1) + fc6['bias']
  x = np.maximum(x, 0) @ fc7['kernel'].reshape(len(x), -1) + fc7['bias']
  return np.maximum(x, 0)


@pytest.mark.parametrize(
  'size', [(26, 26), (32, 102)]
)  # 198 pixels less than what conv1_1 gives: 224, 224 and 230, 300
def test_fc7_is_the_dense_classifier_slid_over_pool5(rng, unpadded_classifier, size):
  params, maps = unpadded_classifier
  out = maps(rng.normal(size=(2, *size, 3)).astype(np.float32))
  pool5, fc7 = np.asarray(out['pool5']), np.asarray(out['fc7'])
  rows, columns = (-(-(n + 198) // 32) - 6 for n in size)
  assert fc7.shape == (2, rows, columns, 16)
  for b in range(2):
    for i in range(rows):
      for j in range(columns):
        expected = dense_classifier(params, pool5[b, i : i + 7, j : j + 7])
        assert expected.any()
        np.testing.assert_allclose(fc7[b, i, j], expected, rtol=1e-4, atol=1e-5)


def test_remat_changes_no_gradient(rng):
  x = rng.normal(size=(1, 33, 40, 3)).astype(np.float32)
  gradients, saved = [], []
  for remat in (False, True):
    net = vgg(remat=remat)
    params = random_params(net, x, everywhere, False)

    def loss(params, net=net):
      return jnp.sum(net.apply({'params': params}, x, everywhere, False)['fc7'] ** 2)

    gradients.append(quick_jit(jax.grad(loss))(params))
    saved.append('remat' in str(jax.make_jaxpr(loss)(params)))
  assert saved == [False, True]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max()), *gradients)


def products(jaxpr):
  """The dtypes of the results of all convolutions and matrix products, in inner functions too."""
  found = []
  for equation in jaxpr.eqns:
    if equation.primitive.name in ('conv_general_dilated', 'dot_general'):
      found += [x.aval.dtype.name for x in equation.outvars]
    for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, 'eqns')):
      inner = getattr(inner, 'jaxpr', inner)
      found += products(inner) if hasattr(inner, 'eqns') else []
  return found


def test_bfloat16_computes_in_16_bits_and_keeps_parameters_and_scores_in_32():
  backbone = vgg(norm='group', group_size=4, dtype=jnp.bfloat16)
  net = network(backbone, dtype=jnp.bfloat16)
  images, size = np.zeros((1, 40, 40, 3), np.uint8), np.array([[33, 40]], np.int32)
  params = shapes_of(net)
  assert {x.dtype.name for x in jax.tree.leaves(params)} == {'float32'}
  assert jax.eval_shape(lambda p: scores(net, p, images, size), params).dtype == np.float32

  x = jax.ShapeDtypeStruct((1, 40, 40, 3), np.float32)
  maps = jax.eval_shape(lambda p, x: backbone.apply({'params': p}, x, everywhere, False), params['trunk'], x)
  assert {name: x.dtype.name for name, x in maps.items()} == dict.fromkeys(maps, 'bfloat16')
  # Convolutions and products of matrices in 32 bits are the slow ones. The upsampling here has none.
  found = products(jax.make_jaxpr(lambda p: scores(net, p, images, size))(params).jaxpr)
  assert len(found) == len(net.skips) + 16  # 13 convolutions, fc6, fc7 and score_fr
  assert set(found) == {'bfloat16'}


def test_dropout_zeroes_elements_and_only_in_training(rng):
  net = vgg(dropout=0.5)
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
