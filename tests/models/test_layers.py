"""Layers in faster forms give the numbers of the framework's layers, and are used on the platforms that they serve."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cheap import quick_jit, random_params

from fcn_jax.models import convolutions, layers

CPU = convolutions.convolution_for('cpu')


@pytest.fixture
def rng():
  return np.random.default_rng(0)


@pytest.mark.parametrize(('size', 'padding'), [((3, 2), 3), ((8, 10), 3), ((9, 7), 0)])
def test_patch_convolution_is_the_frameworks(rng, size, padding):
  ours = convolutions.PatchConv(channels=5, kernel=7, padding=padding)
  theirs = nn.Conv(5, (7, 7), padding=padding)
  x = rng.normal(size=(2, *size, 4)).astype(np.float32)
  params = random_params(ours, x)

  @quick_jit
  def both(params, x):
    def total(layer, params, x):
      out = layer.apply({'params': params}, x)
      return jnp.sum(jnp.sin(out)), out

    return [jax.value_and_grad(total, argnums=(1, 2), has_aux=True)(layer, params, x) for layer in (ours, theirs)]

  mine, lax = both(params, x)
  assert mine[0][1].shape == (2, *(n + 2 * padding - 6 for n in size), 5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), mine, lax)


def layer_and_gradients(function, x, kernel):
  def total(x, kernel):
    out = function(x, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return jnp.sum(jnp.sin(out.astype(jnp.float32))), out

  return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(x, kernel)


@pytest.mark.parametrize('dtype', [np.float32, jnp.bfloat16])
@pytest.mark.parametrize('shape', [(1, 1, 1, 3), (1, 7, 5, 3), (2, 6, 9, 8), (3, 5, 6, 4)])
def test_the_3x3_convolution_of_the_cpu_is_the_frameworks(rng, shape, dtype):
  x = jnp.asarray(rng.normal(size=shape), dtype)
  kernel = jnp.asarray(rng.normal(size=(3, 3, shape[-1], 6)), dtype)
  both = quick_jit(lambda x, kernel: [layer_and_gradients(f, x, kernel) for f in (CPU, jax.lax.conv_general_dilated)])
  mine, lax = both(x, kernel)
  assert all(a.dtype == b.dtype for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(lax), strict=True))
  tolerance = 1e-4 if dtype == np.float32 else 0.1
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), rtol=tolerance, atol=tolerance),
    mine,
    lax,
  )


@pytest.mark.parametrize(('side', 'pad', 'ours'), [(3, 1, True), (3, 100, False), (1, 0, False)])
def test_on_cpus_the_gradient_is_ours_where_it_pays(side, pad, ours):
  x, kernel, pad = np.zeros((2, 4, 4, 2)), np.zeros((side, side, 2, 2)), (pad, pad)

  def layer(x, kernel):
    return CPU(x, kernel, (1, 1), [pad, pad], dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

  assert ('custom_vjp' in str(jax.make_jaxpr(layer)(x, kernel))) == ours


@pytest.mark.parametrize('platform', ['gpu', 'tpu', None])
def test_elsewhere_convolutions_are_those_of_xla(platform):
  assert convolutions.convolution_for(platform) is jax.lax.conv_general_dilated


@pytest.mark.parametrize('size', [(1, 1), (2, 1), (5, 4), (4, 7), (6, 8)])
def test_max_pool_is_the_frameworks_rounded_up(rng, size):
  # A permutation above 0: no ties, not even with the padding, at which a gradient may go to either.
  x = 1 + rng.permutation(size[0] * size[1] * 6).reshape(2, *size, 3).astype(np.float32)
  weights = rng.normal(size=(2, *(-(-n // 2) for n in size), 3)).astype(np.float32)

  @quick_jit
  def both(x):
    # 'SAME' rounds up, and pads with -inf.
    pools = layers.max_pool, lambda x: nn.max_pool(x, (2, 2), (2, 2), 'SAME')
    return [(pool(x), jax.grad(lambda x: jnp.sum(weights * pool(x)))(x)) for pool in pools]  # noqa: B023

  (ours, gradient), (theirs, their_gradient) = both(x)
  assert ours.shape == weights.shape
  assert np.array_equal(ours, theirs)
  np.testing.assert_allclose(gradient, their_gradient, rtol=1e-6)


@pytest.mark.parametrize('masked', [False, True])
def test_relu_and_its_gradient_are_the_frameworks_inside_the_images_and_zero_outside(rng, masked):
  x = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
  x[0, 0, 0] = 0, np.nan, -0.0
  mask = rng.random((2, 4, 5, 1)) < 0.5 if masked else None
  weights = rng.normal(size=x.shape).astype(np.float32)

  @quick_jit
  def both(x):
    relus = layers.relu, lambda x, mask: layers.mask_out(mask, nn.relu(x))
    return [(f(x, mask), jax.grad(lambda x: jnp.sum(weights * f(x, mask)))(x)) for f in relus]  # noqa: B023

  ours, theirs = both(x)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)
