"""Transposed convolution as multiplication by C^T, and bilinear interpolation as one kernel of it.

Kernels have the size 2s if two grids are half a pixel apart, and 2s - 1 if they are a whole number of pixels apart.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcn_jax.models import grid, upsample
from fcn_jax.models.grid import Grid

STRIDES = (2, 4, 8, 16, 32)
KERNELS = [(stride, 2 * stride - odd) for stride in STRIDES for odd in (0, 1)]


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def as_matrix(kernel, size, stride):
  """Convolution without padding as C: C @ image.ravel() is the output, raveled."""
  taps, (height, width) = len(kernel), size
  rows, columns = (height - taps) // stride + 1, (width - taps) // stride + 1
  matrix = np.zeros((rows, columns, height, width), np.float32)
  for i in range(rows):
    for j in range(columns):
      matrix[i, j, i * stride : i * stride + taps, j * stride : j * stride + taps] = kernel
  return matrix.reshape(rows * columns, height * width)


def convolve(image, kernel, stride):
  out = jax.lax.conv_general_dilated(image[None, None], kernel[None, None], (stride, stride), 'VALID')
  return out[0, 0]


def convolve_transposed(x, kernel, stride):
  out = jax.lax.conv_transpose(
    x[None, :, :, None], kernel[:, :, None, None], (stride, stride), 'VALID', transpose_kernel=True
  )
  return out[0, :, :, 0]


def start(stride, method, x, kernel=0):
  """The layer's first output, of all pixels that x covers, and its variables."""
  size = x.shape[1] * stride, x.shape[2] * stride
  layer = upsample.Upsample(stride, method, kernel)
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
  image = rng.normal(size=(size, size)).astype(np.float32)
  matrix = as_matrix(kernel, (size, size), stride)
  out = convolve(image, kernel, stride)
  assert out.shape == (2, 2)
  np.testing.assert_allclose(out.ravel(), matrix @ image.ravel(), rtol=1e-5, atol=1e-5)

  x = rng.normal(size=(2, 2)).astype(np.float32)
  expected = (matrix.T @ x.ravel()).reshape(size, size)
  np.testing.assert_allclose(convolve_transposed(x, kernel, stride), expected, rtol=1e-5, atol=1e-5)
  # It is also the gradient of the convolution with respect to its input.
  _, back = jax.vjp(lambda p: convolve(p, kernel, stride), image)
  np.testing.assert_allclose(back(x)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('stride', 'side'), [(1, 2), (2, 4), (4, 8), (1, 1), (2, 3), (4, 7)])
def test_ours_is_multiplication_by_c_transposed_class_by_class(rng, stride, side):
  batch, height, width, classes = 2, 3, 2, 3
  kernel = rng.normal(size=(side, side, classes)).astype(np.float32)
  x = rng.normal(size=(batch, height, width, classes)).astype(np.float32)
  out = upsample.transposed_convolution(x, kernel, stride)
  size = (height - 1) * stride + side, (width - 1) * stride + side
  assert out.shape == (batch, *size, classes)
  for c in range(classes):
    matrix = as_matrix(kernel[:, :, c], size, stride)
    for b in range(batch):
      expected = (matrix.T @ x[b, :, :, c].ravel()).reshape(size)
      np.testing.assert_allclose(out[b, :, :, c], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('side', [3, 4])
def test_one_kernel_for_all_classes_is_the_same_kernel_for_each(rng, side):
  x = rng.normal(size=(1, 3, 4, 5)).astype(np.float32)
  kernel = rng.normal(size=(side, side, 1)).astype(np.float32)
  one = upsample.transposed_convolution(x, kernel, 2)
  each = upsample.transposed_convolution(x, np.broadcast_to(kernel, (side, side, 5)), 2)
  assert np.array_equal(one, each)


@pytest.mark.parametrize('side', [3, 4])
def test_gradients_are_those_of_lax(rng, side):
  stride, classes = 2, 2
  x = rng.normal(size=(3, 2, classes)).astype(np.float32)
  kernel = rng.normal(size=(side, side, classes)).astype(np.float32)
  weights = rng.normal(size=(2 * stride + side, stride + side, classes)).astype(np.float32)

  def ours(x, kernel):
    return jnp.sum(weights * upsample.transposed_convolution(x[None], kernel, stride)[0])

  def lax(x, kernel):
    by_class = [convolve_transposed(x[..., c], kernel[..., c], stride) for c in range(classes)]
    return jnp.sum(weights * jnp.stack(by_class, axis=-1))

  gradients = jax.jit(lambda *both: [jax.grad(f, (0, 1))(*both) for f in (ours, lax)])(x, kernel)
  for mine, theirs in zip(*gradients, strict=True):
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('stride', 'side'), KERNELS)
def test_bilinear_kernel_is_the_closed_form(stride, side):
  """As the authors' `surgery.py` fills it, element by element."""
  factor = (side + 1) // 2
  center = factor - 1 if side % 2 else factor - 0.5
  kernel = grid.bilinear_kernel(stride, side)
  assert kernel.shape == (side, side)
  for y in range(side):
    for x in range(side):
      expected = (1 - abs(y - center) / factor) * (1 - abs(x - center) / factor)
      assert kernel[y, x] == pytest.approx(expected, abs=1e-7)
  assert np.array_equal(grid.bilinear_kernel(stride), grid.bilinear_kernel(stride, 2 * stride))


@pytest.mark.parametrize('stride', STRIDES)
def test_fixed_is_bilinear_resizing_in_the_interior(rng, stride):
  x = rng.normal(size=(1, 4, 3, 2)).astype(np.float32)
  size = 4 * stride, 3 * stride
  ours, _ = start(stride, 'bilinear_fixed', x)
  resized = jax.image.resize(x, (1, *size, 2), 'bilinear')
  # Half a cell at the edge is outside of all features' centers; there we fade to zero, because a convolution pads.
  edge = stride // 2
  inside = np.s_[:, edge:-edge, edge:-edge]
  np.testing.assert_allclose(ours[inside], resized[inside], rtol=1e-5, atol=1e-5)
  assert np.all(np.abs(ours[:, 0]) < np.abs(resized[:, 0]))


def places(along: Grid) -> np.ndarray:
  """The pixel of each feature along an axis."""
  return along.start + along.stride * np.arange(along.size)


GRIDS = [  # coarse, fine, kernel: places and strides in pixels
  (Grid(6, 15.5, 32), Grid(12, 7.5, 16), 4),  # VGG-16: fc7 and pool4
  (Grid(6, 3.5, 8), Grid(48, 0.0, 1), 16),  # VGG-16: pool3 and pixels
  (Grid(6, 0.0, 32), Grid(12, 0.0, 16), 3),  # ResNet
  (Grid(6, 0.0, 8), Grid(48, 0.0, 1), 15),
  (Grid(6, 2.0, 8), Grid(20, 2.0, 4), 3),  # a stem whose pooling does not pad
  (Grid(6, -37.0, 32), Grid(9, 11.0, 16), 3),
  (Grid(4, 0.5, 3), Grid(9, 2.0, 1), 6),  # an odd ratio of strides
  (Grid(4, 1.0, 3), Grid(9, 2.0, 1), 5),
]


@pytest.mark.parametrize('method', ['bilinear_fixed', 'bilinear_learned'])
@pytest.mark.parametrize(('coarse', 'fine', 'kernel'), GRIDS)
def test_a_ramp_is_reproduced_by_the_kernel_and_the_offset_of_the_grids(coarse, fine, kernel, method):
  """If the values of features are their positions in pixels, the values on the finer grid are the positions there."""
  assert coarse.kernel_to(fine) == kernel
  factor = coarse.stride // fine.stride
  risen = coarse.upsampled(kernel, factor)
  offset, whole = risen.offset(fine), int(risen.size)
  count = min(int(fine.size), whole - offset)
  x = np.stack(np.meshgrid(places(coarse), places(coarse), indexing='ij'), -1)[None].astype(np.float32)
  layer = upsample.Upsample(factor, method, kernel)
  out, _ = layer.init_with_output(jax.random.key(0), x, offset, (count, count))
  wanted = places(fine)[:count]
  inside = (wanted >= places(coarse)[0]) & (wanted <= places(coarse)[-1])
  assert inside.sum() > 4
  np.testing.assert_allclose(out[0, :, 5, 0][inside], wanted[inside], rtol=1e-5, atol=1e-4)
  np.testing.assert_allclose(out[0, 5, :, 1][inside], wanted[inside], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
  ('coarse', 'fine'),
  [
    (Grid(6, 0.0, 8), Grid(12, 0.25, 4)),  # a 16th of the finer grid apart
    (Grid(6, 1.0, 8), Grid(12, 0.0, 4)),  # a quarter apart
    (Grid(6, 0.0, 12), Grid(12, 0.0, 8)),  # no whole ratio of strides
    (Grid(6, 0.0, 4), Grid(12, 0.0, 8)),  # finer than the finer one
  ],
)
def test_grids_that_no_bilinear_kernel_aligns_are_an_error(coarse, fine):
  with pytest.raises(ValueError, match='no bilinear kernel upsamples'):
    coarse.kernel_to(fine)


@pytest.mark.parametrize('stride', STRIDES)
def test_a_feature_stays_where_it_is_in_the_image(stride):
  """The center of mass of the output of feature (1, 2) is the middle of its cell."""
  x = np.zeros((1, 4, 4, 1), np.float32)
  x[0, 1, 2, 0] = 1
  out = np.asarray(start(stride, 'bilinear_fixed', x)[0])[0, :, :, 0]
  pixels = np.arange(4 * stride)
  center = out.sum(1) @ pixels / out.sum(), out.sum(0) @ pixels / out.sum()
  assert center == pytest.approx((1.5 * stride - 0.5, 2.5 * stride - 0.5), abs=1e-3)


@pytest.mark.parametrize('method', ['bilinear_fixed', 'bilinear_learned'])
@pytest.mark.parametrize(('stride', 'side'), [(2, 4), (16, 32), (2, 3), (16, 31)])
def test_any_part_is_that_of_the_transposed_convolution(rng, stride, side, method):
  x = rng.normal(size=(2, 2, 3, 2)).astype(np.float32)
  whole = upsample.transposed_convolution(x, grid.bilinear_kernel(stride, side)[..., None], stride)
  assert whole.shape == (2, stride + side, 2 * stride + side, 2)
  layer = upsample.Upsample(stride, method, side)
  for offset, size in ((0, whole.shape[1:3]), (1, (2 * stride, 3 * stride)), (3, (1, 1)), (0, (1, stride + 1))):
    part, _ = layer.init_with_output(jax.random.key(0), x, offset, size)
    expected = whole[:, offset : offset + size[0], offset : offset + size[1]]
    np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('side', [15, 16])
def test_the_gradient_of_fixed_is_that_of_the_transposed_convolution(rng, side):
  x = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
  kernel = grid.bilinear_kernel(8, side)[..., None]
  forms = (
    lambda x: upsample.interpolate(x, 8, 4, (23, 15), side),
    lambda x: upsample.transposed_convolution(x, kernel, 8)[:, 4:27, 4:19],
  )
  upstream = rng.normal(size=(2, 23, 15, 4)).astype(np.float32)
  mine, theirs = (jax.vjp(form, x)[1](upstream)[0] for form in forms)
  np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('stride', 'side'), [(2, 4), (32, 64), (2, 3), (32, 63)])
def test_fixed_has_no_parameter_and_learned_starts_as_fixed(rng, stride, side):
  x = rng.normal(size=(1, 2, 2, 3)).astype(np.float32)
  fixed, nothing = start(stride, 'bilinear_fixed', x, side)
  learned, variables = start(stride, 'bilinear_learned', x, side)
  assert not nothing
  kernel = variables['params']['kernel']
  assert kernel.shape == (side, side, 3)
  for c in range(3):
    assert np.array_equal(kernel[..., c], grid.bilinear_kernel(stride, side))
  np.testing.assert_allclose(learned, fixed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('stride', [2, 8, 32])
def test_random_start_keeps_the_variance_whatever_the_stride(rng, stride):
  """Otherwise an ablation of the stride would also be one of the size of the first scores."""
  classes = 128
  x = rng.normal(size=(2, 3, 6, classes)).astype(np.float32)
  out, variables = start(stride, 'learned_random', x)
  kernel = variables['params']['kernel']
  assert abs(float(kernel.mean())) < 0.05
  assert len(np.unique(kernel[0, 0])) == classes  # each class has its own kernel
  inside = np.asarray(out)[:, stride:-stride, stride:-stride]
  assert inside.var() == pytest.approx(1, rel=0.15)


def test_an_unknown_method_is_named():
  with pytest.raises(ValueError, match='nearest'):
    upsample.Upsample(2, 'nearest').init(jax.random.key(0), np.zeros((1, 1, 1, 1), np.float32), 0, (2, 2))
