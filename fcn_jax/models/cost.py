"""The cost of a network, in parameters and FLOPs, and the distance of its upsampling kernels from bilinear ones."""

import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax.models import grid


def parameters(params: dict) -> int:
  """The number of parameters."""
  return sum(x.size for x in jax.tree.leaves(params))


def flops(model, size: tuple[int, int]) -> int:
  """Floating point operations of a forward pass of one image of `size` (height, width), as XLA counts them.

  A multiply-add counts as 2. XLA leaves out products with the zeros of the padding, which Caffe's geometry has many of.
  The program is lowered for the CPU, because XLA does not count on every platform.
  """
  inputs = {stream: jax.ShapeDtypeStruct((1, *size, len(mean)), jnp.uint8) for stream, mean in model.mean.items()}
  params = jax.eval_shape(model.init, jax.random.key(0), model.example_inputs())
  lowered = jax.jit(model.apply).trace(params, inputs).lower(lowering_platforms=('cpu',))
  return int(lowered.cost_analysis()['flops'])


def kernel_distances(kernel: np.ndarray) -> list[float]:
  """The relative distance |K - B| / |B| of each class's kernel from bilinear interpolation, in Frobenius norms.

  Args:
    kernel: [k, k, C], an upsampling kernel.
  """
  bilinear = grid.bilinear_kernel((len(kernel) + 1) // 2, len(kernel))[..., None].astype(np.float64)
  return (np.sqrt(((kernel - bilinear) ** 2).sum((0, 1))) / np.linalg.norm(bilinear)).tolist()
