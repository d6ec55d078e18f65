"""The update rule: SGD with Caffe's momentum, or AdamW; learning-rate schedules, clipping, and what decays."""

import operator
import re
from collections.abc import Collection

import jax
import optax


def schedule(optim, steps: int) -> optax.Schedule:
  """The learning rate by step: linear warmup, then constant, or polynomial or cosine decay to 0 at the end."""
  rest = steps - optim.warmup
  after = {
    'constant': lambda: optax.constant_schedule(optim.lr),
    'polynomial': lambda: optax.polynomial_schedule(optim.lr, 0.0, optim.power, rest),
    'cosine': lambda: optax.cosine_decay_schedule(optim.lr, rest),
  }[optim.schedule]()
  if not optim.warmup:
    return after
  # The warmup starts one step above 0, so that the first update has an effect.
  warmup = optax.linear_schedule(optim.lr / optim.warmup, optim.lr, optim.warmup)
  return optax.join_schedules([warmup, after], [optim.warmup])


def make(optim, steps: int) -> optax.GradientTransformation:
  """The optimizer that the section `optim` of a config describes, for a run of `steps` steps.

  SGD is Caffe's: V = m V + lr (g + wd w), w = w - V, with the learning rate inside the momentum and the learning rate
  of biases multiplied by `optim.bias_lr`. Kernels of convolutions decay; biases, norms and upsampling kernels do not.
  """
  if optim.freeze_backbone:
    return optax.partition({True: _make(optim, steps), False: optax.set_to_zero()}, is_outside_backbone)
  if optim.lr_backbone:
    # The learning rate is a factor of every update, that of the weight decay included.
    return optax.chain(_make(optim, steps), optax.masked(optax.scale(optim.lr_backbone / optim.lr), is_in_backbone))
  return _make(optim, steps)


def _make(optim, steps: int) -> optax.GradientTransformation:
  rate = schedule(optim, steps)
  clip = optax.clip_by_global_norm(optim.clip) if optim.clip else optax.identity()
  if optim.name == 'adamw':
    return optax.chain(clip, optax.adamw(rate, weight_decay=optim.weight_decay, mask=decays))
  return optax.chain(
    clip,
    optax.add_decayed_weights(optim.weight_decay, mask=decays),
    optax.masked(optax.scale(optim.bias_lr), biases),
    optax.scale_by_learning_rate(rate),  # before the momentum: a new learning rate does not rescale past gradients
    optax.trace(decay=optim.momentum),
  )


def restore(state: optax.OptState, source, parameters: Collection[str] | None = None) -> tuple[optax.OptState, int]:
  """`state` with the moments of `source` that belong to the same parameters and have the same shape.

  The step of the schedule stays that of `state`, so that the schedule of a new run starts at its beginning.

  Args:
    state: of an optimizer.
    source: the state of another run's optimizer; as nested dicts and lists if it was read from a checkpoint.
    parameters: the paths of the parameters whose moments are restored, such as trunk/fc6/kernel; by default all.

  Returns:
    The state, and the number of restored tensors.
  """
  theirs = {
    name: x
    for name, x in zip(_moments(source), jax.tree.leaves(source), strict=True)
    if name == 'count' or (name and (parameters is None or name.partition('/')[2] in parameters))
  }
  leaves, structure = jax.tree.flatten(state)
  fits = [n in theirs and theirs[n].shape == x.shape for n, x in zip(_moments(state), leaves, strict=True)]
  names = list(zip(_moments(state), leaves, fits, strict=True))
  if not any(fit and n != 'count' for n, _, fit in names):  # a count alone would only scale the first updates
    return state, 0
  return structure.unflatten([theirs[n] if fit else x for n, x, fit in names]), sum(fits)


def _moments(state) -> list[str]:
  """For each leaf of a state, its name, such as mu/trunk/fc6/kernel, wherever it is in the state; '' for other leaves.

  `mu`, `nu` and the `count` of their updates are those of AdamW, `trace` is the momentum of SGD.
  """
  paths = [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in jax.tree.leaves_with_path(state)]
  moments = [re.search(r'(?:^|/)((?:mu|nu|trace)/.*)', path) for path in paths]
  adam = {path[: moment.start(1)] + 'count' for path, moment in zip(paths, moments, strict=True) if moment}
  return [m[1] if m else 'count' if path in adam else '' for path, m in zip(paths, moments, strict=True)]


def is_outside_backbone(params):
  """True for the parameters of score and upsampling layers."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key.startswith(('score_', 'upsample_')), params)


def is_in_backbone(params):
  """True for the parameters of the backbone."""
  return jax.tree.map(operator.not_, is_outside_backbone(params))


def decays(params):
  """True for the parameters with weight decay: kernels, except those of upsampling."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == 'kernel' and not path[-2].key.startswith('upsample'), params
  )


def biases(params):
  """True for the biases of convolutions; a layer with a scale is a norm."""
  norms = {path[:-1] for path, _ in jax.tree.leaves_with_path(params) if path[-1].key == 'scale'}
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'bias' and path[:-1] not in norms, params)
