"""Losses of pixels and of images, as weighted sums, so that devices and micro-batches add up exactly."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fcn_jax import outside
from fcn_jax.data.dataset import IGNORE, Classes, Split
from fcn_jax.data.shares import class_counts
from fcn_jax.errors import UserError
from fcn_jax.loss_names import BALANCES, numbers, terms

_SAMPLE = 2000  # masks that the shares of classes are measured on


def softmax_cross_entropy(logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
  """Cross entropy of the labeled pixels, times their weights, summed (CVPR'15, section 4).

  Args:
    logits: float32 [B, H, W, C].
    label: integers [B, H, W], 0 to C-1, or 255 for pixels to ignore.
    weight: float32 [B, H, W], such as `pixel_weights` returns; ignored pixels must have weight 0.

  Returns:
    A float32 scalar, in nats.
  """
  return jnp.sum(weight * _cross_entropy(logits, label))


@jax.custom_vjp
def _cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
  """The cross entropy of each pixel, [B, H, W].

  Its gradient is written out. JAX's automatic gradient would keep the exponentials: one more array as large as the
  scores, which are the largest array of a step if there are many classes. It would also turn the gather into a scatter.
  """
  return _forward(logits, label)[0]


def _forward(logits, label):
  total = jax.nn.logsumexp(logits, axis=-1)
  own = jnp.take_along_axis(logits, label[..., None].astype(jnp.int32), axis=-1, mode='clip')[..., 0]
  return total - own, (logits, label, total)


def _backward(saved, gradient):
  logits, label, total = saved
  own = label[..., None] == jnp.arange(logits.shape[-1])
  return gradient[..., None] * (jnp.exp(logits - total[..., None]) - own), None


_cross_entropy.defvjp(_forward, _backward)


def focal(logits: jax.Array, label: jax.Array, weight: jax.Array, gamma: float) -> jax.Array:
  """Focal loss of the labeled pixels, times their weights, summed (Lin et al., Focal loss for dense object detection).

  The cross entropy of a pixel counts (1 - p)^gamma times, where p is the probability of its class (softmax).

  Args:
    logits: float32 [B, H, W, C].
    label: integers [B, H, W], 0 to C-1, or 255 for pixels to ignore.
    weight: float32 [B, H, W]; ignored pixels must have weight 0.
    gamma: 0 is the cross entropy.

  Returns:
    A float32 scalar.
  """
  cross_entropy = _cross_entropy(logits, label)
  # Of a pixel that is certain, the slope of a power below 1 would be infinite.
  return jnp.sum(weight * jnp.maximum(-jnp.expm1(-cross_entropy), 1e-6) ** gamma * cross_entropy)


def dice(logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
  """Dice loss of images, times their weights, summed (Milletari et al., V-Net).

  The loss of an image is 1 minus the mean of 2 |P Y| / (|P| + |Y|) over the classes in its label, where P are the
  probabilities (softmax) and Y the labels, over its labeled pixels.

  Args:
    logits: float32 [B, H, W, C].
    label: integers [B, H, W], 0 to C-1, or 255 for pixels to ignore.
    weight: float32 [B], of each image; one without labeled pixels must have weight 0.

  Returns:
    A float32 scalar.
  """
  there = (label != IGNORE).astype(jnp.float32)
  probability = jax.nn.softmax(logits, axis=-1) * there[..., None]
  truth = (label[..., None] == jnp.arange(logits.shape[-1])).astype(jnp.float32)
  both, of_label = jnp.sum(probability * truth, (1, 2)), jnp.sum(truth, (1, 2))
  overlap = 2 * both / jnp.maximum(jnp.sum(probability, (1, 2)) + of_label, 1)
  present = (of_label > 0).astype(jnp.float32)
  mean = jnp.sum(overlap * present, -1) / jnp.maximum(jnp.sum(present, -1), 1)
  return jnp.sum(weight * (1 - mean))


def make(name: str, gamma: float):
  """The function `loss(logits, label, weights)` of the settings `loss.name` and `loss.gamma`.

  Its arguments are those of the losses here, but `weights` is a dict: pixels, [B, H, W], and images, [B]. A function
  of the user, which `name` names by its dotted path, has the arguments of `softmax_cross_entropy`.

  Raises:
    UserError: there is no such function.
  """
  functions = {
    'cross_entropy': lambda logits, label, weights: softmax_cross_entropy(logits, label, weights['pixels']),
    'focal': lambda logits, label, weights: focal(logits, label, weights['pixels'], gamma),
    'dice': lambda logits, label, weights: dice(logits, label, weights['images']),
  } | {term: _of_pixels(outside.member('loss.name', term)) for term in terms(name) if '.' in term}

  def loss(logits: jax.Array, label: jax.Array, weights: dict[str, jax.Array]) -> jax.Array:
    parts = [functions[term](logits, label, weights) * factor for term, factor in terms(name).items()]
    return functools.reduce(jnp.add, parts)

  return loss


def _of_pixels(function: Callable[..., jax.Array]):
  return lambda logits, label, weights: function(logits, label, weights['pixels'])


def weights(name: str, label: jax.Array, of_class: np.ndarray | None = None) -> dict[str, jax.Array]:
  """What the loss of the setting `loss.name` needs of these: pixels, see `pixel_weights`; images, float32 [...].

  An image of [..., H, W] has weight 1, or 0 if it has no labeled pixel.
  """
  found = {}
  if terms(name).keys() - {'dice'}:
    found['pixels'] = pixel_weights(label, of_class)
  if 'dice' in terms(name):
    found['images'] = (label != IGNORE).any((-2, -1)).astype(jnp.float32)
  return found


def pixel_weights(label: jax.Array, of_class: np.ndarray | None = None) -> jax.Array:
  """The weight of each pixel in the loss, float32 of the shape of `label`.

  Args:
    label: integers, 0 to C-1, or 255 for pixels to ignore, which have weight 0.
    of_class: float32 [C], the weight of the pixels of each class; None gives all classes weight 1.
  """
  if of_class is None:
    return (label != IGNORE).astype(jnp.float32)
  of_label = jnp.zeros(IGNORE + 1, jnp.float32).at[: len(of_class)].set(of_class)
  return of_label[label.astype(jnp.int32)]


def sample_cells(key: jax.Array, label: jax.Array, share: float, cell: int) -> jax.Array:
  """Patch sampling (CVPR'15, sections 3.4 and 4.3): labels in which only some cells count.

  Args:
    key: the random key.
    label: uint8 [B, H, W].
    share: the probability that a cell counts, drawn independently for each cell of each image.
    cell: pixels per side of a cell, from the top left of the canvas.

  Returns:
    `label`, with 255 in the cells that do not count.
  """
  batch, height, width = label.shape
  kept = jax.random.bernoulli(key, share, (batch, -(-height // cell), -(-width // cell)))
  kept = jnp.repeat(jnp.repeat(kept, cell, axis=1), cell, axis=2)[:, :height, :width]
  return jnp.where(kept, label, IGNORE).astype(label.dtype)


def inverse_weights(shares: np.ndarray) -> np.ndarray:
  """Weights of classes, float32 [C], by the inverse of their shares [C] of the training pixels.

  The mean weight of a training pixel is 1. A class without pixels has weight 0.
  """
  weights = np.zeros(len(shares), np.float32)
  there = shares > 0
  weights[there] = 1 / (shares[there] * there.sum())
  return weights


def median_weights(counts: np.ndarray) -> np.ndarray:
  """Median frequency balancing (Eigen and Fergus, ICCV 2015): weights of classes, float32 [C].

  The frequency of a class is its share of the labeled pixels of the images that have it. Its weight is the median of
  all frequencies divided by that of the class; 0 if no image has it.

  Args:
    counts: the pixels of each class in each image, int [N, C].
  """
  there = counts > 0
  total = np.where(there, counts.sum(1, keepdims=True), 0).sum(0)
  frequency = counts.sum(0) / np.maximum(total, 1)
  found = frequency > 0
  weights = np.zeros(counts.shape[1], np.float32)
  weights[found] = np.median(frequency[found]) / frequency[found]
  return weights


def class_weights(balance: str, split: Split, heads: dict[str, Classes]) -> dict[str, np.ndarray | None]:
  """The weight of the pixels of each class, float32 [C] per head; None if all classes weigh 1.

  Args:
    balance: the setting `loss.balance`: one of `BALANCES`, or the numbers themselves, joined by commas.
    split: the training images; a sample of 2,000 is counted.
    heads: the classes of each head.

  Raises:
    UserError: `balance` has another number of weights than there are classes.
  """
  if balance == 'none':
    return dict.fromkeys(heads)
  of_heads: dict[str, np.ndarray | None] = {}
  for head, classes in heads.items():
    if balance in BALANCES:
      counts = class_counts(split, head, len(classes), _SAMPLE)
      total = counts.sum(0)
      if not total.any():
        raise UserError(f'loss.balance is {balance}, but no training pixel of the head {head} has a class')
      of_heads[head] = median_weights(counts) if balance == 'median_frequency' else inverse_weights(total / total.sum())
    else:
      given = numbers(balance)
      if len(given) != len(classes):
        raise UserError(
          f'loss.balance has {len(given)} numbers, but the head {head} has {len(classes)} classes; expected '
          f'one for each of {", ".join(classes.names)}'
        )
      of_heads[head] = np.array(given, np.float32)
  return of_heads
