"""Training of one run, read top to bottom: state, step, loop."""

import operator

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from fcn_jax import losses, models, session, starting_point
from fcn_jax.data import device_augment
from fcn_jax.run import devices, hosts, profile, progress

SAMPLING = 1  # folded into the step's key for `loss.sampling`; dropout uses the key itself


class TrainState(flax.struct.PyTreeNode):
  """Everything that a run needs to resume at a step.

  Randomness is a function of the step and the seed. The seed is stored here and not in the compiled step, so that runs
  that differ only in the seed share one compilation.
  """

  step: jax.Array
  params: dict
  opt_state: optax.OptState
  seed: jax.Array


def init_state(model, optimizer, seed: int) -> TrainState:
  """The state at step 0."""
  params = models.init(model, seed)
  return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), jnp.array(seed, jnp.int32))


def make_train_step(model, optimizer, config, class_weights: dict[str, np.ndarray | None] | None = None):
  """Makes `train_step(state, batch, signal)`, which runs on all devices.

  It takes a state on all devices, a batch of `pipeline.train_batches` as arrays [devices, B / devices, ...], and the
  signal of this host, int32 [devices, 1], 0 for none (`run/signals.py`). It returns the next state and a dict of
  numbers: loss, gradient_norm, parameter_norm, and signal, which is the largest of all hosts' signals. So all hosts
  learn of a signal at the same step, without further communication.

  Args:
    model: the network (`models.build`).
    optimizer: from `optim.make`.
    config: the config of the run; its sections `train` and `loss` are used.
    class_weights: for each head, the weight of the pixels of each class, [C]; None if all classes weigh 1.
  """
  parts, of_class = config.train.accumulation, class_weights or dict.fromkeys(model.heads)
  loss_of_head = losses.make(config.loss.name, config.loss.gamma)
  cell = next(iter(model.taps.values())) * model.shrink  # pixels per cell of the coarsest scores

  def loss_sum(params, batch, key):
    logits = model.apply({'params': params}, batch['inputs'], batch['size'], train=True, rngs={'dropout': key})
    terms = [loss_of_head(x, batch['labels'][h], batch['weights'][h]) for h, x in logits.items()]
    return terms[0] if len(terms) == 1 else sum(terms)

  def train_step(state, batch, signal):
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    keys = jax.random.split(jax.random.fold_in(key, jax.lax.axis_index(devices.AXIS)), parts)
    micro_batches = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    if 'draws' in micro_batches:  # in parts, because it takes memory for several times the size of the images
      micro_batches = jax.lax.map(device_augment.augmented, micro_batches)
    micro_batches |= _labels_and_weights(micro_batches['labels'], keys, config.loss, of_class, cell)
    sums = _loss_and_gradients(loss_sum, state.params, micro_batches, keys, in_loop=model.platform != 'cpu')
    loss, gradients = devices.sum_over_devices(sums)
    # No update before the last use of the parameters: otherwise XLA on a CPU copies them before it overwrites them.
    gradients = jax.lax.optimization_barrier(gradients)

    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    numbers = {
      'loss': loss,
      'gradient_norm': optax.tree.norm(gradients),
      'parameter_norm': optax.tree.norm(params),
      'signal': jax.lax.pmax(jnp.max(signal), devices.AXIS),
    }
    return TrainState(state.step + 1, params, opt_state, state.seed), numbers

  return devices.pmap(train_step, sharded_arguments=2, replicated_output=True, donate_state=True)


def _loss_and_gradients(loss_sum, params: dict, micro_batches: dict, keys: jax.Array, *, in_loop: bool):
  """Loss and gradients, each summed over the micro-batches [parts, b, ...]."""

  def add(carry, inputs):
    return jax.tree.map(jnp.add, carry, jax.value_and_grad(loss_sum)(params, *inputs)), None

  carry = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
  if len(keys) > 1 and in_loop:
    return jax.lax.scan(add, carry, (micro_batches, keys))[0]
  # Not on CPUs, where convolutions inside a loop run tens of times slower (jax issue 12868), even in a single round.
  for i in range(len(keys)):
    carry, _ = add(carry, jax.tree.map(operator.itemgetter(i), (micro_batches, keys)))
  return carry


def _labels_and_weights(labels: dict, keys: jax.Array, loss, of_class: dict, cell: int) -> dict:
  """The labels [parts, b, H, W] that count (`loss.sampling`), and the weights of pixels and images: see `losses.make`.

  With `loss.reduction=mean`, the weights of a head sum to 1 over all micro-batches and devices. A mean of means would
  weigh a pixel by the number of ignored pixels in its part of the batch. Dividing the gradients instead of the weights
  would be one more pass over all parameters.
  """
  weights = {}
  for head, label in labels.items():
    if loss.sampling < 1:
      own_keys = jax.vmap(lambda key: jax.random.fold_in(key, SAMPLING))(keys)
      label = jax.vmap(lambda key, x: losses.sample_cells(key, x, loss.sampling, cell))(own_keys, label)
      labels = labels | {head: label}
    weights[head] = losses.weights(loss.name, label, of_class[head])
    if loss.reduction == 'mean':
      # A batch may have no labeled pixel: then divide by the weight of one pixel, or image, instead.
      least = {'pixels': 1 if of_class[head] is None else of_class[head][of_class[head] > 0].min(), 'images': 1}
      for kind, x in weights[head].items():
        weights[head][kind] = x / jnp.maximum(devices.sum_over_devices(jnp.sum(x)), least[kind])
  return {'labels': labels, 'weights': weights}


def run(config, workdir: str, *, take_over: bool = False, profile_steps: tuple[int, int] | None = None) -> int:
  """Trains from a validated config to a scored checkpoint, or resumes where an earlier start stopped.

  Args:
    config: validated.
    workdir: the run directory; on several hosts, the same for all.
    take_over: stop a process that is training there; if false, another process is an error.
    profile_steps: the first and the last step of a trace for a profiler (`run/profile.py`); None writes no trace.

  Returns:
    The exit code: 0 done, 1 diverged; with everything saved, 130 stopped by Ctrl-C, 75 by SIGTERM, SIGHUP or SIGUSR1;
    75 also if another process has taken over the run.

  Raises:
    UserError: the run cannot start or continue, because of its devices, directory or data, or because the disk is full.
  """
  config, directory = starting_point.prepare(config, workdir)
  if progress.show_if_done(directory, config.train.steps):
    return 0
  profiler = profile.Profiler(directory, profile_steps)
  with session.open_run(config, directory, take_over=take_over) as run, profiler:
    run.restore(init_state(run.model, run.optimizer, config.seed))
    train_step = hosts.compile_together(make_train_step(run.model, run.optimizer, config, run.class_weights))
    for batch in run.batches():  # from the restored step to the last; ends early at a signal
      with profiler.step(run):
        run.state, numbers = train_step(run.state, batch, run.signal())
        run.log(numbers)  # reads the numbers of the previous step while the devices work on this one
      if run.due(config.checkpoint.every):
        run.save()  # logs first, so that no checkpoint is ahead of them
      if run.due(config.eval.every):
        run.evaluate()  # after the checkpoint: a kill during it costs only the evaluation
  return run.exit_code
