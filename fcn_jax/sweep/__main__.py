"""Runs an ablation: every point of a sweep that is not done yet, each by the plain command in a process of its own.

  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation
  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation --list
  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation --only='stride=8,seed=0'

The same command again goes on: what is done is skipped, what was stopped continues. Settings, as
--config.train.steps=200, go for all runs. What a run says goes to log.txt in its folder. Exit codes: 0 all done, 1 some
failed, 75 and 130 stopped by SIGTERM and Ctrl-C with everything saved.
"""

import collections
import os
import shlex
import sys
import time

from absl import flags
from etils import epath
from ml_collections import config_flags
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fcn_jax import cli
from fcn_jax.errors import UserError
from fcn_jax.run import directory
from fcn_jax.run.signals import EXIT_CODES, Stop
from fcn_jax.sweep import local, points

cli.define_config()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the runs go; runs/EXPERIMENT-DATASET by default.')
_LIST = flags.DEFINE_bool('list', False, 'Show every run with its state, and start nothing.')
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print the commands, and start nothing.')
_SLOTS = flags.DEFINE_integer('slots', None, 'Runs at a time; by default one a GPU, chip or core.', lower_bound=1)
_SHARD = flags.DEFINE_string('shard', None, 'i/n, i from 0: only this share, where several machines divide a sweep.')
_ONLY = flags.DEFINE_string('only', None, "Only runs whose names have these parts, as 'stride=8,seed=0'.")
_BACKEND = flags.DEFINE_enum(
  'backend', 'auto', ['auto', 'local', 'ray'], 'This machine, or a Ray cluster; auto is ray where RAY_ADDRESS is set.'
)
flags.DEFINE_float('cpus_per_run', 1, 'On Ray: cores that a run gets.', lower_bound=0)
flags.DEFINE_float('gpus_per_run', 0, 'On Ray: GPUs that a run gets.', lower_bound=0)
flags.DEFINE_integer('tpus_per_run', 0, 'On Ray: TPU chips that a run gets.', lower_bound=0)
_NODE_RETRIES = flags.DEFINE_integer('node_retries', 5, 'On Ray: how often a run may lose its node.', lower_bound=0)
_RETRIES = flags.DEFINE_integer('retries', 0, 'How often a failed run is tried again.', lower_bound=0)

WAITING, QUEUED, DONE, FAILED, DIVERGED, BLOCKED = 'waiting', 'queued', 'done', 'failed', 'diverged', 'blocked'
ENDED = (DONE, FAILED, DIVERGED, BLOCKED)
_LAST_LINES = 8  # of the log of a run that failed
_POLL = 0.1  # seconds

_console = Console(highlight=False, soft_wrap=True)


def main(arguments: list[str]) -> None:
  if arguments:
    raise UserError(f'unexpected argument {arguments[0]!r}; settings are written --config.x=y')
  config = cli.config()
  workdir = epath.Path(_WORKDIR.value or cli.default_workdir(config.data.name))
  every_run = points.runs(config_flags.get_config_filename(flags.FLAGS['config']), config, workdir)
  chosen = points.choose(every_run, only=_ONLY.value, shard=_SHARD.value)
  if _DRY_RUN.value:
    for run in chosen:
      print(shlex.join(run.command()))
    return
  if _LIST.value:
    states = {run.name: state(run) for run in chosen}
    _console.print(table(chosen, states, {}))
    return
  engine = make_engine(workdir)
  points.claim(workdir, os.path.basename(cli.config_path()), config, every_run)
  say(f'{len(chosen)} runs, {engine.describe()}')
  sys.exit(Driver(chosen, engine).drive())


def make_engine(workdir: epath.Path) -> local.Local | local.Ray:
  """What --backend and the flags that go with it ask for."""
  wants = {name: flags.FLAGS[f'{name}_per_run'] for name in ('cpus', 'gpus', 'tpus')}
  if _BACKEND.value == 'local' or (_BACKEND.value == 'auto' and 'RAY_ADDRESS' not in os.environ):
    if given := [f'--{flag.name}' for flag in wants.values() if flag.present]:
      raise UserError(f'{", ".join(given)} is for --backend=ray; on one machine, --slots divides it')
    return local.Local(_SLOTS.value)
  if _SLOTS.value:
    raise UserError('--slots is for --backend=local; on Ray, --cpus_per_run and the like say how many runs fit a node')
  return local.Ray(workdir, **{name: flag.value for name, flag in wants.items()})


def state(run: points.Run) -> str:
  """What its folder says: waiting, running, preempted, diverged, failed or done.

  Raises:
    UserError: where the folder holds a run of another config.
  """
  directory.check(run.workdir, run.config)
  return directory.read_json(run.workdir / 'status.json', {}).get('state', WAITING)


class Driver:
  """Starts runs as the engine and the runs that they start from allow, and sees to their ends."""

  def __init__(self, chosen: list[points.Run], engine: local.Local | local.Ray):
    self._runs, self._engine = {run.name: run for run in chosen}, engine
    self.states = {run.name: state(run) for run in chosen}
    for name, known in self.states.items():
      if known != DONE:
        self.states[name] = WAITING  # what failed before is tried again: that is what the command is given for
    self._began = {}  # seconds since the epoch, of those that the engine has
    self._attempts = {}  # of those, the attempt before
    self._looked = 0.0  # seconds since the epoch
    self._failures, self._losses = collections.Counter(), collections.Counter()
    self._seconds = []  # of each run that was done here
    self._prepared = False

  def drive(self) -> int:
    """Until all has ended or a signal comes; the exit code."""
    with Stop(say) as stop, Display() as display:
      while not stop.signal and not self._ended():
        self._start_what_can()
        for ending in self._engine.ended():
          self._conclude_one(ending, display)
        self._look()
        display.show(self)
        time.sleep(_POLL)
      if stop.signal:
        self._engine.stop(stop.signal)
        self.states |= dict.fromkeys(self._began, 'preempted')
        display.show(self)
    if stop.signal:
      say('the runs are stopped and saved; the same command goes on from there')
      return EXIT_CODES[stop.signal]
    return self._conclude()

  def _ended(self) -> bool:
    return all(known in ENDED for known in self.states.values())

  def _start_what_can(self) -> None:
    for name, run in self._runs.items():
      if self.states[name] != WAITING:
        continue
      source = self.states[run.source] if run.source else DONE
      if source in (FAILED, DIVERGED, BLOCKED):
        self.states[name] = BLOCKED
      elif source == DONE and self._engine.room(prepared=self._prepared):
        self._began[name], self.states[name] = time.time(), QUEUED
        self._attempts[name] = _attempt(run)
        self._engine.start(run)

  def _look(self) -> None:
    """Which of the started runs are running by now; a Ray cluster may still be without a node for one."""
    if time.time() - self._looked < self._engine.poll:
      return
    self._looked = time.time()
    for name in self._began:
      if self.states[name] == QUEUED and _attempt(self._runs[name]) != self._attempts[name]:
        self.states[name], self._began[name] = 'running', time.time()
      # A run tells of the data in env.json once they are prepared.
      self._prepared = self._prepared or (self._runs[name].workdir / 'env.json').exists()

  def _conclude_one(self, ending: local.Ending, display: 'Display') -> None:
    name, run = ending.name, self._runs[ending.name]
    took = time.time() - self._began.pop(name)
    self._prepared = True
    known = state(run)
    if ending.code == 0 and known == DONE:
      self.states[name] = DONE
      self._seconds.append(took)
      return
    if known == DIVERGED:
      self.states[name] = DIVERGED  # the same again would diverge again
      return
    counts, budget = (self._losses, _NODE_RETRIES) if ending.code is None else (self._failures, _RETRIES)
    counts[name] += 1
    self.states[name] = WAITING if counts[name] <= budget.value else FAILED
    if self.states[name] == FAILED or not display.live:
      say(f'{name}: {ending.text} ({run.workdir / "log.txt"}):\n{last_lines(run)}')

  def _conclude(self) -> int:
    _console.print(table(list(self._runs.values()), self.states, {}))
    for name, known in self.states.items():
      if known == BLOCKED:
        say(f'{name}: blocked, since {self._runs[name].source}, which it starts from, did not get done')
      elif known == DIVERGED:
        say(f'{name}: diverged:\n{last_lines(self._runs[name])}')
    for counts, budget in ((self._failures, _RETRIES), (self._losses, _NODE_RETRIES)):
      for name, count in counts.items():
        what = 'failed' if counts is self._failures else 'lost its node'
        say(f'{name}: {what} {count} times, of which --{budget.name}={budget.value} are made up for')
    return 0 if set(self.states.values()) == {DONE} else 1

  def table(self) -> Table:
    """Of what is going on, or went wrong: a sweep has more runs than a terminal has lines."""
    return table(list(self._runs.values()), self.states, self._began, self.forecast(), hidden=(WAITING, DONE))

  def forecast(self) -> float | None:
    """Seconds until all is done, if runs take as long as those before; None while none is done."""
    if not self._seconds:
      return None
    each = sum(self._seconds) / len(self._seconds)
    running = [begun for name, begun in self._began.items() if self.states[name] == 'running']
    spent = sum(min(each, time.time() - begun) for begun in running)
    left = sum(known not in ENDED for known in self.states.values())
    return (left * each - spent) / min(self._engine.slots, max(left, 1))


class Display:
  """A table that is kept up to date on a terminal; elsewhere a line a change."""

  def __init__(self):
    self.live = Live(console=_console, auto_refresh=False) if _console.is_terminal else None
    self._shown, self._time = {}, 0.0

  def __enter__(self) -> 'Display':
    if self.live:
      self.live.start()
    return self

  def __exit__(self, *_) -> None:
    if self.live:
      self.live.stop()

  def show(self, driver: Driver) -> None:
    if self.live:
      if time.time() - self._time > 1 or driver.states != self._shown:
        self.live.update(driver.table(), refresh=True)
        self._time = time.time()
    else:
      for name, known in driver.states.items():
        if self._shown.get(name, WAITING) != known:
          left = driver.forecast()
          say(f'{known:9} {name}' + (f'  ({_minutes(left)} left)' if known == DONE and left else ''))
    self._shown = dict(driver.states)


def table(
  runs: list[points.Run], states: dict[str, str], began: dict, left: float | None = None, hidden: tuple[str, ...] = ()
) -> Table:
  """A row a run that is not in a hidden state: how long it took or takes, what it scored or said last."""
  counts = collections.Counter(states[run.name] for run in runs)
  title = ', '.join(f'{count} {known}' for known, count in counts.items())
  out = Table(title=title + (f'; {_minutes(left)} left' if left else ''))
  out.add_column('run', overflow='fold')  # names are what is looked for: never cut
  for column in ('state', 'time', ''):
    out.add_column(column, no_wrap=True)
  for run in runs:
    if states[run.name] in hidden:
      continue
    status, text = directory.read_json(run.workdir / 'status.json', {}), ''
    seconds = time.time() - began[run.name] if run.name in began else status.get('wall_seconds')
    if states[run.name] == 'running':
      text = last_lines(run, 1).strip()
    elif states[run.name] == DONE:
      scored = directory.Rows(run.workdir / 'metrics.jsonl', status['step']).with_field('eval/mean_iou')[-1]
      text = f'mean IoU {100 * scored["eval/mean_iou"]:.2f} %'
    elif states[run.name] != WAITING:
      text = status.get('error', '')
    out.add_row(run.name, states[run.name], _minutes(seconds) if seconds else '', text[:80])
  return out


def _attempt(run: points.Run) -> str | None:
  """The id of the newest start of the run."""
  return directory.read_json(run.workdir / 'attempt.json', {}).get('id')


def last_lines(run: points.Run, count: int = _LAST_LINES) -> str:
  path = run.workdir / 'log.txt'
  if not path.exists():
    return ''
  return '\n'.join(f'  {line}' for line in path.read_bytes().decode(errors='replace').splitlines()[-count:])


def say(text: str) -> None:
  _console.print(text, markup=False)


def _minutes(seconds: float) -> str:
  return f'{seconds:.0f} s' if seconds < 100 else f'{seconds / 60:.0f} min'


if __name__ == '__main__':
  cli.run(main)
