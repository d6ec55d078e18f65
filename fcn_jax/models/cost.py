"""What a table says of a network beside its scores: size, cost, the bound of its stride, what became of its kernels."""

import io

import jax
import numpy as np

from fcn_jax import bounds, files, metrics
from fcn_jax.data import dataset
from fcn_jax.models import fcn, grid


def write(workdir, split: str, model: fcn.FCN, params: dict, data: dataset.Data, size: tuple[int, int]) -> None:
  """`eval/network.json`, and `eval/kernels.npz` with the trained upsampling kernels [2s, 2s, C], by layer.

  The file has `parameters`, their number; `gflop`, of a forward pass of a picture of `size`, [H, W]; `upper_bound`, by
  split, what labels score that pass through the grid of the network's finest scores (`bounds.py`); and
  `kernel_distance`, by layer and class, of the trained kernels from bilinear: |K - B| / |B|, Frobenius norms.
  """
  path = workdir / 'eval' / 'network.json'
  chosen, stride = data.split(split), model.stride * model.shrink
  labels = (chosen[i]['label'] for i in range(len(chosen)))
  (bound,) = bounds.upper_bounds(labels, len(data.classes), (stride,)).values()
  kernels = {name: np.asarray(layer['kernel']) for name, layer in params.items() if name.startswith('upsample_')}
  if kernels:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **kernels)
    files.write(workdir / 'eval' / 'kernels.npz', buffer.getvalue())
  known = files.read_json(path, {'upper_bound': {}})
  files.write_json(
    path,
    {
      'parameters': sum(x.size for x in jax.tree.leaves(params)),
      'gflop': fcn.flops(model, *size) / 1e9,
      'size': list(size),
      'upper_bound': known['upper_bound'] | {split: {name: bound[name] for name in metrics.METRICS}},
      'kernel_distance': {name: distances(kernel) for name, kernel in kernels.items()},
    },
  )


def distances(kernel: np.ndarray) -> list[float]:
  """Of each class's kernel from bilinear interpolation, relative to it."""
  bilinear = grid.bilinear_kernel(kernel.shape[0] // 2)[..., None].astype(np.float64)
  return (np.sqrt(((kernel - bilinear) ** 2).sum((0, 1))) / np.linalg.norm(bilinear)).tolist()
