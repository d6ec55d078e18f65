"""The update rule: SGD with momentum as Caffe has it, or AdamW; schedules, clipping, and what decays."""

import jax
import optax


def schedule(optim, steps: int) -> optax.Schedule:
  """The learning rate by step: linear warm-up, then constant, or polynomial or cosine down to 0 at the end."""
  rest = steps - optim.warmup
  after = {
    'constant': lambda: optax.constant_schedule(optim.lr),
    'polynomial': lambda: optax.polynomial_schedule(optim.lr, 0.0, optim.power, rest),
    'cosine': lambda: optax.cosine_decay_schedule(optim.lr, rest),
  }[optim.schedule]()
  if not optim.warmup:
    return after
  # From a step above 0: the first update does something.
  warmup = optax.linear_schedule(optim.lr / optim.warmup, optim.lr, optim.warmup)
  return optax.join_schedules([warmup, after], [optim.warmup])


def make(optim, steps: int) -> optax.GradientTransformation:
  """The optimiser of a config's section `optim` for a run of so many steps.

  SGD is Caffe's: V = m V + lr (g + wd w), w = w - V, with the rate inside the momentum, biases at `optim.bias_lr` times
  the rate. Kernels of convolutions decay; biases, norms and upsampling kernels do not.
  """
  if optim.freeze_trunk:
    moving = _make(optim, steps)
    return optax.partition({True: moving, False: optax.set_to_zero()}, is_outside_of_trunk)
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
    optax.scale_by_learning_rate(rate),  # before the momentum: a change of rate does not rescale the past
    optax.trace(decay=optim.momentum),
  )


def is_outside_of_trunk(params):
  """True for the parameters of score layers and upsampling."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key != 'trunk', params)


def decays(params):
  """True for the parameters with weight decay: kernels, upsampling excepted."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == 'kernel' and not path[-2].key.startswith('upsample'), params
  )


def biases(params):
  """True for the biases of convolutions."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == 'bias' and not path[-2].key.startswith('norm'), params
  )
