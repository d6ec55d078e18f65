"""The training of one run, to be read top to bottom: state, step, loop."""

import contextlib
import operator
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from fcn_jax import evaluation, files, images, losses, metrics, optim
from fcn_jax.data import dataset, pipeline
from fcn_jax.models import cost, fcn
from fcn_jax.run import checkpoint, devices, directory, environment, hosts, lock, progress
from fcn_jax.run.clock import Clock, peak_memory
from fcn_jax.run.signals import EXIT_CODES, SUPERSEDED, Stop
from fcn_jax.weights import initialize

EXIT_DIVERGED = 1
SAMPLING = 1  # folded into the step's key, for which cells count; dropout has the key itself
COARSEST = 32  # stride of the coarsest scores, fc7's


class TrainState(flax.struct.PyTreeNode):
  """All that a run is at a step.

  The randomness is a function of the step and the seed, which is here, not in the compiled step, so that runs that
  differ in it alone compile once.
  """

  step: jax.Array
  params: dict
  opt_state: optax.OptState
  seed: jax.Array


def init_state(model, optimizer, seed: int) -> TrainState:
  """The state at step 0."""
  # Compiled to run once: on CPUs optimising the random number generators takes four times as long as all else.
  quick = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
  init = jax.jit(model.init, compiler_options=quick)
  params = init(jax.random.key(seed), np.zeros((1, 1, 1, 3), np.uint8))['params']
  return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), jnp.array(seed, jnp.int32))


def make_train_step(model, optimizer, config, weights: np.ndarray | None = None):
  """`train_step(state, batch)` on all devices: the next state, and loss, gradient norm, parameter norm and signal.

  `batch` has `signal` too, [B], the number of the signal that its host has got, or 0: all hosts learn of it at the same
  step, with no communication but that of the step.

  The pixels of all micro-batches and devices are counted before the loss: a mean of means would weigh pixels by how
  many others of their share are ignored. `weights`, [C], are those of the classes.
  """
  parts, sampling = config.train.accumulation, config.loss.sampling
  # A batch with any labelled pixel weighs at least so much: dividing by it where there is none is dividing 0.
  least = 1 if weights is None else weights[weights > 0].min()

  def loss_sum(params, batch, key):
    logits = model.apply({'params': params}, batch['image'], batch['size'], train=True, rngs={'dropout': key})
    return losses.softmax_cross_entropy(logits, batch['label'], batch['weight'])

  def sample(key, label):
    return losses.sample_cells(jax.random.fold_in(key, SAMPLING), label, sampling, COARSEST * model.shrink)

  def sums(params, micro_batches, keys):
    """Loss and gradients, each summed over the micro-batches [parts, b, ...]."""

    def add(carry, inputs):
      return jax.tree.map(jnp.add, carry, jax.value_and_grad(loss_sum)(params, *inputs)), None

    carry = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    if parts > 1 and jax.default_backend() != 'cpu':
      return jax.lax.scan(add, carry, (micro_batches, keys))[0]
    # Not on CPUs, where convolutions inside of a loop run tens of times slower (jax issue 12868); even one round.
    for i in range(parts):
      carry, _ = add(carry, jax.tree.map(operator.itemgetter(i), (micro_batches, keys)))
    return carry

  def train_step(state, batch):
    signal = jax.lax.pmax(jnp.max(batch.pop('signal')), devices.AXIS)
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    keys = jax.random.split(jax.random.fold_in(key, jax.lax.axis_index(devices.AXIS)), parts)
    micro = {name: x.reshape(parts, -1, *x.shape[1:]) for name, x in batch.items()}
    if sampling < 1:
      micro['label'] = jax.vmap(sample)(keys, micro['label'])
    micro['weight'] = losses.pixel_weights(micro['label'], weights)
    if config.loss.reduction == 'mean':
      # Here and not of the gradients, where it would be one more pass over all parameters.
      micro['weight'] /= jnp.maximum(devices.sum_over_devices(jnp.sum(micro['weight'])), least)
    loss, gradients = devices.sum_over_devices(sums(state.params, micro, keys))
    # No update before the last use of the parameters: XLA on a CPU would copy them, to write the new ones over the old.
    gradients = jax.lax.optimization_barrier(gradients)

    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    numbers = {
      'loss': loss,
      'gradient_norm': optax.tree.norm(gradients),
      'parameter_norm': optax.tree.norm(params),
      'signal': signal,
    }
    return TrainState(state.step + 1, params, opt_state, state.seed), numbers

  return devices.pmap(train_step, replicated_output=True, donate_state=True)


def run(config, workdir: str, *, take_over: bool = False) -> int:
  """Trains from a validated config to a scored checkpoint, or goes on where an earlier start was stopped.

  Args:
    config: validated.
    workdir: the directory of the run; of several hosts, the same for all.
    take_over: where a process is training there, have it stop; without, that is an error.

  Returns:
    The exit code: 0 done, 1 diverged, 75 and 130 stopped by SIGTERM and Ctrl-C with everything saved; 75 too where
    another start has taken over.

  Raises:
    UserError: where the devices, the directory, the data or the disk do not allow it.
  """
  workdir = epath.Path(workdir)
  devices.check_batch('train.batch_size', config.train.batch_size, config.train.accumulation)
  devices.check_batch('eval.batch_size', config.eval.batch_size)
  devices.keep_compilations()
  begun = (workdir / 'config.json').exists()
  config = directory.settled(workdir, config) if begun else initialize.settled(config)
  first = hosts.is_first_host()
  if first:
    directory.begin(workdir, config)
  else:
    files.leave_writing_to_another()
    progress.mute()
  if (status := directory.Status(workdir, config.train.steps)).state == 'done':
    progress.say(f'{workdir} is done already; delete it to train anew')
    progress.results(workdir, status)
    return 0
  if not first:
    return _run(config, workdir, superseded=lambda: False)
  with lock.Claim(workdir, take_over=take_over) as mine:
    files.remove_leftovers(workdir)
    return _run(config, workdir, superseded=lambda: mine.lost)


def _run(config, workdir: epath.Path, *, superseded) -> int:
  steps, batch_size = config.train.steps, config.train.batch_size
  status = directory.Status(workdir, steps)
  with hosts.first_host_first('data are prepared'):  # for all, where they share a disk
    data = dataset.load(config.data, progress.say)
  model = fcn.from_config(config, len(data.classes))
  optimizer = optim.make(config.optim, steps)
  state = devices.replicate(init_state(model, optimizer, config.seed))
  if hosts.is_first_host():  # it looks at pictures
    progress.first_lines(config, data, model, state.params, workdir)
  directory.write_config(workdir, config)
  environment.add_environment(workdir, [d.device_kind for d in jax.devices()], data.fingerprint)
  hosts.wait_for_hosts('the directory is made')
  hosts.check_same('starts in env.json', len(files.read_json(workdir / 'env.json', [])))
  checkpoints = checkpoint.Checkpoints(workdir, config.checkpoint.keep)
  starts_anew = not checkpoints.steps()
  if starts_anew and config.init.run:
    params = initialize.from_run(model, state.params, config, data, progress.say)
    state = state.replace(params=devices.replicate(params))
  elif starts_anew and config.init.weights:
    params = initialize.from_weights(state.params, config, progress.say)
    state = state.replace(params=devices.replicate(params))
  state = checkpoints.restore(state, progress.say)
  step = start = int(state.step)

  log = directory.Rows(workdir / 'metrics.jsonl', start)
  if starts_anew and config.init.run:
    log.rows = []  # of a start that was killed before its first checkpoint
    log.add(0, initialize.metrics_before_training(model, state.params, config, data, progress.say))
  timing = directory.Rows(workdir / 'timing.jsonl', start)
  hosts.wait_for_hosts('the logs are read')  # before one writes them
  train_step = make_train_step(model, optimizer, config, class_weights(config, data))
  learning_rate = optim.schedule(config.optim, steps)
  batches = pipeline.train_batches(
    data.splits['train'],
    config.data,
    batch_size=batch_size,
    seed=config.seed,
    step=start,
    host=jax.process_index(),
    hosts=jax.process_count(),
  )
  # On a CPU that fakes several devices, steps that queue up without bound deadlock their collectives.
  wait_each_step = jax.default_backend() == 'cpu' and jax.device_count() > 1

  def due(every: int) -> bool:
    return step == steps or (every > 0 and step % every == 0)

  def heard() -> int:
    """Why this host should stop, a key of `EXIT_CODES`, or 0."""
    return SUPERSEDED if superseded() else stop.signal or 0

  def asked_to_stop() -> int:
    """Why all hosts stop, or 0: several go by what all of them have read of a step, so as to stop at the same one."""
    return heard() if jax.process_count() == 1 else signal_of_all

  def note(numbers) -> None:
    """Reads a step's numbers, which waits for the device, and logs them when it is time to."""
    nonlocal signal_of_all
    numbers = {name: float(x.addressable_data(0)) for name, x in numbers.items()}
    signal_of_all = max(signal_of_all, int(numbers.pop('signal')))
    for name, value in numbers.items():
      if not np.isfinite(value):  # a norm too: the loss is only that of the parameters before the step
        raise FloatingPointError(f'the {name.replace("_", " ")} of step {step} is {value}')
    bar.update(step, numbers['loss'], clock.rate)
    if due(config.train.log_every):
      numbers['lr'] = float(learning_rate(step - 1))
      log.add(step, {f'train/{name}': x for name, x in numbers.items()})
      timing.add(step, {'images_per_second': round(clock.lap(step), 3), 'peak_memory_gib': peak_memory()})

  def save_logs() -> None:
    log.flush()
    timing.flush()
    status.write('running', step)

  def evaluate() -> None:
    before = time.time()
    scored = evaluation.score(
      model, state.params, data.splits[data.watched], config, len(data.classes), stop=asked_to_stop
    )
    if scored is not None:  # None: stopped meanwhile; the evaluation is made up for after the restart
      row = write_scores(workdir, step, scored, data)
      if step == steps and hosts.is_first_host():
        cost.write(workdir, data.watched, model, state.params, data, config.data.train_size)
      before_this = [r['eval/mean_iou'] for r in log.with_field('eval/mean_iou')]
      # Only where another split is held out to report on: a test split never chooses.
      if data.watched != data.held_out and row['eval/mean_iou'] > max(before_this, default=-1):
        best = checkpoint.Checkpoints(workdir, 1, 'best')
        best.save(step, state)
        best.close()  # before the row that says so
      log.add(step, row)
      timing.add(step, {'eval_seconds': round(time.time() - before, 3)})
      save_logs()

  status.write('running', step)
  signal_of_all = 0
  bar, clock = progress.Bar(step, steps, batch_size), Clock(step, batch_size)
  try:
    with Stop(progress.say) as stop:
      # A run that was killed between a checkpoint and its evaluation owes the evaluation.
      if start and due(config.eval.every) and not any('eval/mean_iou' in r for r in log.at(start)):
        evaluate()
      numbers = None
      while step < steps and not asked_to_stop():
        batch = next(batches)
        batch['signal'] = np.full(len(batch['image']), heard(), np.int32)
        batch = devices.share(batch)
        if step == start:
          hosts.compile_together(train_step, state, batch)
        state, coming = train_step(state, batch)
        if wait_each_step:
          jax.block_until_ready(state)
        if numbers:
          note(numbers)  # the step before's, while the device works on this one
        step, numbers = step + 1, coming
        if step == start + 1:
          jax.block_until_ready(numbers)
          timing.add(step, {'first_step_seconds': round(clock.seconds(), 3)})
          clock.restart(step)  # the speed is that of the steps without compilation
        if due(config.checkpoint.every) or due(config.eval.every):
          note(numbers)
          numbers = None
          # The log first, so that no checkpoint is ahead of it; the checkpoint next, so that a kill in the
          # evaluation costs only that.
          save_logs()
          if due(config.checkpoint.every):
            checkpoints.save(step, state)
          if due(config.eval.every) and not asked_to_stop():
            evaluate()
          clock.restart(step)
      why = asked_to_stop()
      if why and why != SUPERSEDED:
        if numbers:
          note(numbers)
        save_logs()
        checkpoints.save(step, state)
      checkpoints.close()
  except FloatingPointError as error:
    status.write('diverged', step, error=str(error))
    progress.say(f'diverged: {error}. Try a lower optim.lr, or optim.clip=1')
    return EXIT_DIVERGED
  except Exception as error:
    if said := hosts.sign_of_lost_host(error):
      status.write('preempted', step)
      hosts.end_at_once(f'stopped at step {step}, since another host of this run seems to be gone ({said})')
    status.write('failed', step, error=str(error))
    raise
  finally:
    bar.close()
    with contextlib.suppress(Exception):  # on the way out of an error: what is being saved may well be whole
      checkpoints.close()
  if why == SUPERSEDED:
    progress.say(f'stopped at step {step}: another start of this run has taken over ({workdir / "attempt.json"})')
    return EXIT_CODES[why]
  if why:
    status.write('preempted', step)
    progress.say(f'saved at step {step} of {steps}; the same command goes on from there')
    return EXIT_CODES[why]
  status.write('done', step)
  progress.results(workdir, status)
  return 0


def class_weights(config, data: dataset.Data) -> np.ndarray | None:
  """What a pixel of each class counts in the loss, [C]; None where all count the same."""
  if config.loss.balance == 'none':
    return None
  pictures = data.splits['train']  # all of them: the share of a rare class must not hang on a few
  return losses.inverse_weights(dataset.class_shares(pictures, len(data.classes), most=len(pictures)))


def write_scores(workdir, step: int, scored: evaluation.Scored, data: dataset.Data) -> dict:
  """Writes the folder `eval` and returns the row for the log."""
  scores = evaluation.write(workdir, data.watched, scored, data, step)
  if scored.examples:  # a host may have none
    picture = images.comparison(scored.examples, data.classes, data.palette)
    files.write(workdir / 'eval' / 'examples.png', picture)
  progress.say(
    f'step {step}: pixel accuracy {100 * scores["pixel_accuracy"]:.2f} %, mean IoU {100 * scores["mean_iou"]:.2f} %'
  )
  row = {f'eval/{name}': scores[name] for name in metrics.METRICS}
  return row | {f'eval/iou/{name}': x for name, x in scores['iou'].items()}
