"""Transposed convolution as multiplication by C^T, and bilinear interpolation as one kernel of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcn_jax.models import grid, upsample

STRIDES = (2, 4, 8, 16, 32)


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def as_matrix(kernel, size, stride):
  """Convolution without padding as C: C @ picture.ravel() is the output, raveled."""
  taps, (height, width) = len(kernel), size
  rows, columns = (height - taps) // stride + 1, (width - taps) // stride + 1
  matrix = np.zeros((rows, columns, height, width), np.float32)
  for i in range(rows):
    for j in range(columns):
      matrix[i, j, i * stride : i * stride + taps, j * stride : j * stride + taps] = kernel
  return matrix.reshape(rows * columns, height * width)


def convolve(picture, kernel, stride):
  out = jax.lax.conv_general_dilated(picture[None, None], kernel[None, None], (stride, stride), 'VALID')
  return out[0, 0]


def convolve_transposed(x, kernel, stride):
  out = jax.lax.conv_transpose(
    x[None, :, :, None], kernel[:, :, None, None], (stride, stride), 'VALID', transpose_kernel=True
  )
  return out[0, :, :, 0]


def start(stride, method, x):
  """The layer's first output, of all pixels that x covers, and its variables."""
  size = x.shape[1] * stride, x.shape[2] * stride
  layer = upsample.Upsample(stride, method)
  return jax.jit(lambda key: layer.init_with_output(key, x, stride // 2, size))(jax.random.key(0))


def test_textbook_convolution_is_a_matrix_of_4_by_16(rng):
  """The example of Dumoulin and Visin's guide: 4x4 input, 3x3 kernel, stride 1, no padding, 2x2 output."""
  kernel = rng.normal(size=(3, 3)).astype(np.float32)
  matrix = as_matrix(kernel, (4, 4), 1)
  assert matrix.shape == (4, 16)
  w = kernel.ravel()
  assert np.array_equal(matrix[0], [*w[:3], 0, *w[3:6], 0, *w[6:], 0, 0, 0, 0, 0])
  assert np.array_equal(matrix[3], [0, 0, 0, 0, 0, *w[:3], 0, *w[3:6], 0, *w[6:]])


@pytest.mark.parametrize(('size', 'stride'), [(4, 1), (5, 2)])
def test_transposed_convolution_is_multiplication_by_c_transposed(rng, size, stride):
  kernel = rng.normal(size=(3, 3)).astype(np.float32)
  picture = rng.normal(size=(size, size)).astype(np.float32)
  matrix = as_matrix(kernel, (size, size), stride)
  out = convolve(picture, kernel, stride)
  assert out.shape == (2, 2)
  np.testing.assert_allclose(out.ravel(), matrix @ picture.ravel(), rtol=1e-5, atol=1e-5)

  x = rng.normal(size=(2, 2)).astype(np.float32)
  expected = (matrix.T @ x.ravel()).reshape(size, size)
  np.testing.assert_allclose(convolve_transposed(x, kernel, stride), expected, rtol=1e-5, atol=1e-5)
  # And so it is what carries the gradient of the convolution back.
  _, back = jax.vjp(lambda p: convolve(p, kernel, stride), picture)
  np.testing.assert_allclose(back(x)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('stride', [1, 2, 4])
def test_ours_is_multiplication_by_c_transposed_class_by_class(rng, stride):
  batch, height, width, classes = 2, 3, 2, 3
  kernel = rng.normal(size=(2 * stride, 2 * stride, classes)).astype(np.float32)
  x = rng.normal(size=(batch, height, width, classes)).astype(np.float32)
  out = upsample.transposed_convolution(x, kernel)
  size = (height + 1) * stride, (width + 1) * stride
  assert out.shape == (batch, *size, classes)
  for c in range(classes):
    matrix = as_matrix(kernel[:, :, c], size, stride)
    for b in range(batch):
      expected = (matrix.T @ x[b, :, :, c].ravel()).reshape(size)
      np.testing.assert_allclose(out[b, :, :, c], expected, rtol=1e-5, atol=1e-5)


def test_one_kernel_for_all_classes_is_the_same_kernel_for_each(rng):
  x = rng.normal(size=(1, 3, 4, 5)).astype(np.float32)
  kernel = rng.normal(size=(4, 4, 1)).astype(np.float32)
  one = upsample.transposed_convolution(x, kernel)
  each = upsample.transposed_convolution(x, np.broadcast_to(kernel, (4, 4, 5)))
  assert np.array_equal(one, each)


def test_gradients_are_those_of_lax(rng):
  stride, classes = 2, 2
  x = rng.normal(size=(3, 2, classes)).astype(np.float32)
  kernel = rng.normal(size=(2 * stride, 2 * stride, classes)).astype(np.float32)
  weights = rng.normal(size=(4 * stride, 3 * stride, classes)).astype(np.float32)

  def ours(x, kernel):
    return jnp.sum(weights * upsample.transposed_convolution(x[None], kernel)[0])

  def lax(x, kernel):
    by_class = [convolve_transposed(x[..., c], kernel[..., c], stride) for c in range(classes)]
    return jnp.sum(weights * jnp.stack(by_class, axis=-1))

  gradients = jax.jit(lambda *both: [jax.grad(f, (0, 1))(*both) for f in (ours, lax)])(x, kernel)
  for mine, theirs in zip(*gradients, strict=True):
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('stride', STRIDES)
def test_bilinear_kernel_is_the_closed_form(stride):
  """As the authors' `surgery.py` fills it, element by element."""
  taps = 2 * stride
  factor = (taps + 1) // 2
  centre = factor - 1 if taps % 2 else factor - 0.5
  kernel = grid.bilinear_kernel(stride)
  assert kernel.shape == (taps, taps)
  for y in range(taps):
    for x in range(taps):
      expected = (1 - abs(y - centre) / factor) * (1 - abs(x - centre) / factor)
      assert kernel[y, x] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize('stride', STRIDES)
def test_fixed_is_bilinear_resizing_in_the_interior(rng, stride):
  x = rng.normal(size=(1, 4, 3, 2)).astype(np.float32)
  size = 4 * stride, 3 * stride
  ours, _ = start(stride, 'bilinear_fixed', x)
  resized = jax.image.resize(x, (1, *size, 2), 'bilinear')
  # Half a cell at the edge lies outside of all features' centres; there we fade to zero, as a convolution pads.
  edge = stride // 2
  inside = np.s_[:, edge:-edge, edge:-edge]
  np.testing.assert_allclose(ours[inside], resized[inside], rtol=1e-5, atol=1e-5)
  assert np.all(np.abs(ours[:, 0]) < np.abs(resized[:, 0]))


@pytest.mark.parametrize('stride', STRIDES)
def test_a_feature_stays_where_it_is_in_the_picture(stride):
  """The centre of mass of what feature (1, 2) becomes is the middle of its cell."""
  x = np.zeros((1, 4, 4, 1), np.float32)
  x[0, 1, 2, 0] = 1
  out = np.asarray(start(stride, 'bilinear_fixed', x)[0])[0, :, :, 0]
  pixels = np.arange(4 * stride)
  centre = out.sum(1) @ pixels / out.sum(), out.sum(0) @ pixels / out.sum()
  assert centre == pytest.approx((1.5 * stride - 0.5, 2.5 * stride - 0.5), abs=1e-3)


@pytest.mark.parametrize('method', ['bilinear_fixed', 'bilinear_learned'])
@pytest.mark.parametrize('stride', [2, 16])
def test_any_part_is_that_of_the_transposed_convolution(rng, stride, method):
  x = rng.normal(size=(2, 2, 3, 2)).astype(np.float32)
  whole = upsample.transposed_convolution(x, grid.bilinear_kernel(stride)[..., None])
  assert whole.shape == (2, 3 * stride, 4 * stride, 2)
  layer = upsample.Upsample(stride, method)
  for offset, size in ((0, (3 * stride, 4 * stride)), (1, (2 * stride, 3 * stride)), (3, (1, 1)), (0, (1, stride + 1))):
    part, _ = layer.init_with_output(jax.random.key(0), x, offset, size)
    expected = whole[:, offset : offset + size[0], offset : offset + size[1]]
    np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_fixed_is_that_of_the_transposed_convolution(rng):
  x = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
  kernel = grid.bilinear_kernel(8)[..., None]
  forms = (
    lambda x: upsample.interpolate(x, 8, 4, (23, 15)),
    lambda x: upsample.transposed_convolution(x, kernel)[:, 4:27, 4:19],
  )
  upstream = rng.normal(size=(2, 23, 15, 4)).astype(np.float32)
  mine, theirs = (jax.vjp(form, x)[1](upstream)[0] for form in forms)
  np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('stride', [2, 32])
def test_fixed_has_no_parameter_and_learned_starts_as_fixed(rng, stride):
  x = rng.normal(size=(1, 2, 2, 3)).astype(np.float32)
  fixed, nothing = start(stride, 'bilinear_fixed', x)
  learned, variables = start(stride, 'bilinear_learned', x)
  assert not nothing
  kernel = variables['params']['kernel']
  assert kernel.shape == (2 * stride, 2 * stride, 3)
  for c in range(3):
    assert np.array_equal(kernel[..., c], grid.bilinear_kernel(stride))
  np.testing.assert_allclose(learned, fixed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('stride', [2, 8, 32])
def test_random_start_keeps_the_variance_whatever_the_stride(rng, stride):
  """Otherwise an ablation of the stride would be one of the first scores' size as well."""
  classes = 128
  x = rng.normal(size=(2, 3, 6, classes)).astype(np.float32)
  out, variables = start(stride, 'learned_random', x)
  kernel = variables['params']['kernel']
  assert abs(float(kernel.mean())) < 0.05
  assert len(np.unique(kernel[0, 0])) == classes  # each class its own
  inside = np.asarray(out)[:, stride:-stride, stride:-stride]
  assert inside.var() == pytest.approx(1, rel=0.15)


def test_an_unknown_method_is_named():
  with pytest.raises(ValueError, match='nearest'):
    upsample.Upsample(2, 'nearest').init(jax.random.key(0), np.zeros((1, 1, 1, 1), np.float32), 0, (2, 2))
