"""A run while it trains: its data, model, state and files; and the only place where a run ends."""

import contextlib
import logging
import time
from collections.abc import Iterator

import jax
import numpy as np

from fcn_jax import bounds, evaluation, losses, models, optim, starting_point
from fcn_jax.config import length
from fcn_jax.data import dataset, pipeline
from fcn_jax.errors import UserError
from fcn_jax.models import cost
from fcn_jax.run import advice, checkpoint, devices, early_stopping, environment, hosts, memory, progress, signals
from fcn_jax.run.clock import Clock, peak_memory
from fcn_jax.run.directory import RunDirectory
from fcn_jax.run.lock import RunLock
from fcn_jax.run.log import Log

logger = logging.getLogger(__name__)

EXIT_DIVERGED = 1


@contextlib.contextmanager
def open_run(config, run_directory: RunDirectory, *, take_over: bool = False) -> Iterator['Session']:
  """A context with the session of a run; until it ends, no other process can train in the directory.

  However the run ends (done, diverged, preempted, superseded, failed, or with a lost host), it ends here.
  """
  with hosts.first_host_first('the data is prepared'):  # for all hosts, if they share a disk
    data = dataset.load(config.data)
  config = starting_point.with_steps(config, data)
  early_stopping.check(config.train.patience, data.splits)
  environment.check_fingerprint(run_directory, data.fingerprint)  # before the lock writes a file
  with contextlib.ExitStack() as stack:
    lock = None
    if hosts.is_first_host():
      lock = stack.enter_context(RunLock(run_directory, take_over=take_over))
      run_directory.remove_leftovers()
    run = Session(config, run_directory, lock, data)
    try:
      with memory.explained(config):
        yield run
      run.finish()
    except Exception as error:
      if not run.end_with(error):
        raise
    finally:
      run.close()
  if run.exit_code == 0:
    run.show_results()


class Session:
  """A run between its start and its end.

  Attributes:
    data: the data set.
    model: the network.
    optimizer: its optimizer.
    class_weights: for each head, the weights of the classes in the loss, [C]; None if all classes weigh 1.
    state: the `TrainState` on the devices, from `restore` on.
    step: the number of steps that `state` has been trained for.
    stop_signals: the signals that this process receives, from `restore` on. Before, there is nothing to save.
    exit_code: of the command, once the run has ended.
  """

  def __init__(self, config, run_directory: RunDirectory, lock: RunLock | None, data: dataset.Data):
    self._config, self._directory, self._lock, self.data = config, run_directory, lock, data
    self.model = models.build(
      config.model, self.data.inputs, self.data.heads, freeze_backbone=config.optim.freeze_backbone
    )
    self.optimizer = optim.make(config.optim, config.train.steps)
    self.class_weights = losses.class_weights(config.loss.balance, self.data.splits['train'], self.data.heads)
    self.step = self._start = 0
    self.stop_signals, self.exit_code = signals.StopSignals(), None
    self._entered, self._log = contextlib.ExitStack(), Log(run_directory, config.train.steps, lock)
    self._steps, self._learning_rate = config.train.steps, optim.schedule(config.optim, config.train.steps)
    self._evaluator = evaluation.Evaluator(
      self.model, batch_size=config.eval.batch_size, canvases=config.eval.canvases, threads=config.data.threads
    )
    self._pending, self._signal_of_all, self._stopped_early = None, 0, False
    # With `train.patience`, or if results are reported on another split: the test split never chooses a checkpoint.
    self._keeps_best = config.train.patience or self.data.watched != self.data.held_out
    # On a CPU that emulates several devices, an unbounded queue of steps deadlocks their collectives.
    self._wait_each_step = jax.default_backend() == 'cpu' and jax.device_count() > 1

  def restore(self, state) -> None:
    """Sets the state of the run: the newest checkpoint, or `state` with the parameters that the run starts from."""
    starting_point.record(self._directory, self._config, self.data, self.model, cost.parameters(state.params))
    self._checkpoints = checkpoint.Checkpoints(self._directory, self._config.checkpoint.keep)
    first_row, state = None, devices.replicate(state)
    if not self._checkpoints.steps():
      state, first_row = starting_point.load(
        self.model, state, self._config, self.data, self._evaluator, self._directory
      )
    self.state = self._checkpoints.restore(state)
    self.step = self._start = int(self.state.step)
    self._log.read(self.step)
    self._stopped_early = self.step < self._steps and self._ends_with()
    if first_row:
      self._log.metrics.rows = []  # drops the rows of an earlier start that was killed before its first checkpoint
      self._log.metrics.add(0, first_row)
    hosts.barrier('the logs are read')  # before the first host writes them
    self._entered.enter_context(self.stop_signals)
    self._log.write('running', self.step)
    images = -(-len(self.data.splits[self.data.watched]) // jax.process_count())  # that this host evaluates
    self._bar = progress.Bar(self.step, self._config, images, quiet=not self._directory.writes)
    self._clock = Clock(self.step, self._config.train.batch_size)

  def batches(self) -> Iterator[dict]:
    """Batches on the devices, from the restored step to the last; ends early if the run should stop."""
    # A run that was killed between a checkpoint and the evaluation of that step makes up for the evaluation.
    scored = any('eval/mean_iou' in row for row in self._log.metrics.at(self.step))
    if self.step and not scored and self.due(self._config.eval.every):
      self.evaluate()
    batches = pipeline.train_batches(
      self.data.splits['train'],
      self._config.data,
      batch_size=self._config.train.batch_size,
      seed=self._config.seed,
      step=self.step,
      host=jax.process_index(),
      hosts=jax.process_count(),
    )
    while self.step < self._steps and not self._stopped_early and not self.stop_reason():
      yield devices.shard(next(batches))

  def due(self, every: int) -> bool:
    """Whether something is due now that happens at every `every`-th step and at the last step."""
    return length.is_due(self.step, every, self._steps)

  def signal(self) -> jax.Array:
    """The signal of this host for the next step, int32 [devices, 1]."""
    return devices.shard(np.full(jax.local_device_count(), self._own_reason(), np.int32))

  def _own_reason(self) -> int:
    """Why this host should stop, a key of `signals.EXIT_CODES`, or 0."""
    return signals.SUPERSEDED if self._lock and self._lock.superseded else self.stop_signals.signal or 0

  def stop_reason(self) -> int:
    """Why the run stops, a key of `signals.EXIT_CODES`, or 0.

    Several hosts use the signal that the last step returned to all of them, so that all stop at the same step.
    """
    return self._own_reason() if jax.process_count() == 1 else self._signal_of_all

  def log(self, numbers: dict) -> None:
    """Stores the numbers of a step, and logs those of the previous step while the devices work on this one."""
    if self._wait_each_step:
      jax.block_until_ready(self.state)
    self._read_pending()
    self._log.write_in_time(self.step)
    self.step, self._pending = self.step + 1, numbers
    if self.step == self._start + 1:
      jax.block_until_ready(numbers)
      self._log.timing.add(self.step, {'first_step_seconds': round(self._clock.seconds(), 3)})
      self._clock.restart(self.step)  # the speed leaves out compilation

  def _read_pending(self) -> None:
    """Reads the numbers of the last step, which waits for the devices; logs them if it is time to.

    Raises:
      FloatingPointError: one of the numbers is not finite.
    """
    if self._pending is None:
      return
    numbers = {name: float(x.addressable_data(0)) for name, x in self._pending.items()}
    self._pending = None
    self._signal_of_all = max(self._signal_of_all, int(numbers.pop('signal')))
    for name, value in numbers.items():
      if not np.isfinite(value):  # the norms too: the loss belongs to the parameters before the step
        raise FloatingPointError(f'the {name.replace("_", " ")} of step {self.step} is {value}')
    self._bar.update(self.step, numbers['loss'], self._clock.rate)
    if self.due(self._config.train.log_every):
      numbers['lr'] = float(self._learning_rate(self.step - 1))
      self._log.metrics.add(self.step, {f'train/{name}': x for name, x in numbers.items()})
      speed = round(self._clock.lap(self.step), 3)
      self._log.timing.add(self.step, {'images_per_second': speed, 'peak_memory_gib': peak_memory()})

  def write_logs(self) -> None:
    """Writes all that was logged, up to the last step."""
    self._read_pending()
    self._log.write('running', self.step)

  def save(self) -> None:
    """Starts saving a checkpoint."""
    self.write_logs()
    self._checkpoints.save(self.step, self.state)
    self._clock.restart(self.step)

  def evaluate(self) -> None:
    """Scores the watched split. If the run should stop, nothing is scored: a restart makes up for the evaluation."""
    self.write_logs()
    began = time.time()
    scores = self._evaluator.score_run(
      self.state,
      self.data,
      self._directory,
      keep=self._config.eval.keep if self._ends_with(-1) else 0,  # that is, if this may be the last evaluation
      stop=lambda: self._bar.evaluated() or self._log.write_in_time(self.step) or self.stop_reason(),
    )
    if scores is None:
      return
    row = evaluation.metrics_row(scores)
    self._act_on(row['eval/mean_iou'])
    logger.info('\n'.join(evaluation.summary_lines(self.step, scores)))
    self._log.metrics.add(self.step, row)
    advice.at_evaluation(self._log.metrics.rows, self._config, scores, self.class_weights)
    self._log.timing.add(self.step, {'eval_seconds': round(time.time() - began, 3)})
    self.write_logs()
    self._clock.restart(self.step)

  def _act_on(self, mean_iou: float) -> None:
    """Saves the checkpoint in `best` if this evaluation is the best one, and the size of the network if it is the last.

    Both are on disk before the row that records the evaluation.
    """
    if ends := self._ends_with(mean_iou):
      self._stopped_early = self.step < self._steps
    if ends and self._directory.writes:
      size = self._config.data.train_size
      bounds.write_network(self._directory, self.data.watched, self.model, self.state.params, self.data, size)
    if self._keeps_best and early_stopping.is_best(self._log.metrics, mean_iou):
      checkpoint.save_best(self._directory, self.step, self.state)

  def _ends_with(self, *mean_iou: float) -> bool:
    """Whether the run ends at this step, if its evaluation has this score or, without one, as far as it is logged."""
    return self.step == self._steps or early_stopping.is_over(self._log.metrics, self._config.train.patience, *mean_iou)

  def finish(self) -> None:
    """Ends a run whose loop has ended: done, preempted or superseded."""
    reason = self.stop_reason()
    self._bar.saving()
    if (reason or self._stopped_early) and reason != signals.SUPERSEDED:
      self.write_logs()
      self._checkpoints.save(self.step, self.state)
    self._checkpoints.close()
    self._bar.close()
    self.exit_code = signals.EXIT_CODES[reason] if reason else 0
    if reason == signals.SUPERSEDED:  # this process must not write any more
      logger.info(f'stopped at step {self.step}: another process took over ({self._directory / "attempt.json"})')
    elif reason:
      self._log.write('preempted', self.step)
      logger.info(f'saved at step {self.step} of {self._steps}; run the same command again to resume')
    else:
      if self._stopped_early:
        logger.info(early_stopping.explanation(self._log.metrics, self.step, self._steps))
      warnings = advice.at_end(self._directory, self.data, self._log.metrics.rows, self._config, self.class_weights)
      early = {'stopped_early': True} if self._stopped_early else {}
      self._log.write('done', self.step, warnings=warnings, **early)

  def show_results(self) -> None:
    """Shows the results of a run that is done. It stays done if a file that they come from is missing or damaged."""
    if self._directory.writes:
      try:
        progress.show_results(self._directory, self._log.status)
      except UserError as error:
        logger.warning(f'the run is done, but not all of its results can be shown: {error}')

  def end_with(self, error: Exception) -> bool:
    """Ends a run that an error stopped; returns true if the error is handled and need not be raised."""
    if self._lock:
      self._lock.look()
    if self._own_reason() == signals.SUPERSEDED:  # this process must not write any more
      logger.info(f'failed at step {self.step} after another process took over: {error}')
      self.exit_code = signals.EXIT_CODES[signals.SUPERSEDED]
      return True
    diverged, lost = isinstance(error, FloatingPointError), hosts.lost_host(error)
    with contextlib.suppress(UserError):  # a full disk, for example, is the first error already
      state = 'diverged' if diverged else 'preempted' if lost else 'failed'
      self._log.write(state, self.step, **({} if lost else {'error': str(error)}))
    if lost:
      hosts.exit_now(f'stopped at step {self.step}, because another host of this run seems to be gone ({lost})')
    if diverged:
      logger.info(f'diverged: {error}. Try a lower optim.lr, or optim.clip=1')
      self.exit_code = EXIT_DIVERGED
    return diverged

  def close(self) -> None:
    """Closes the files of the run, however it ended."""
    if hasattr(self, '_bar'):
      self._bar.close()
    if hasattr(self, '_checkpoints'):
      with contextlib.suppress(Exception):  # after an error, a checkpoint in progress may still be complete
        self._checkpoints.close()
    self._entered.close()
