"""What a stride could reach at best: labels sent to its grid and back by the network's own upsampling.

As the table of upper bounds in PAMI'16 (section 6): a cell of the grid holds the shares of the classes in it, these
are upsampled bilinearly, and the largest wins.
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax import evaluation, metrics
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError
from fcn_jax.models.upsample import interpolate

STRIDES = (128, 64, 32, 16, 8, 4, 2)
CANVAS = 128  # canvases are multiples of it, so that few shapes are compiled


@functools.partial(jax.jit, static_argnums=(1, 2))
def _through_grid(label: jax.Array, stride: int, classes: int) -> jax.Array:
  """The confusion matrix [C, C] of a label [H, W] after the grid; H and W are multiples of the stride."""
  height, width = label.shape
  shares = label[..., None] == jnp.arange(classes)
  shares = shares.reshape(height // stride, stride, width // stride, stride, classes).mean((1, 3))[None]
  back = interpolate(shares, stride, stride // 2, (height, width))
  return evaluation.confusion(jnp.argmax(back, -1), label[None], classes)[0]


def upper_bounds(labels: Iterable[np.ndarray], classes: int, strides: tuple[int, ...] = STRIDES) -> dict[int, dict]:
  """`metrics.summarize`, with classes by number, for each of the strides, over labels uint8 [H, W], 255 = ignore."""
  totals = {stride: np.zeros((classes, classes), np.int64) for stride in strides}
  for label in labels:
    padding = [(0, -length % CANVAS) for length in label.shape]
    label = np.pad(label, padding, constant_values=IGNORE)  # no class: the cell's shares are of what is known
    for stride in strides:
      totals[stride] += np.asarray(_through_grid(label, stride, classes))
  if not totals[strides[0]].any():
    raise UserError('no pixel of these labels has a class, so there is nothing to score')
  names = tuple(str(number) for number in range(classes))
  return {stride: metrics.summarize(total, names) for stride, total in totals.items()}
