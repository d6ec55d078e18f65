"""Runs an ablation: every point of a sweep that is not done yet, each by the plain command in a process of its own.

  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation
  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation --list
  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation --only='stride=8,seed=0'

The same command again goes on: what is done is skipped, what was stopped continues. Settings, as
--config.train.steps=200, go for all runs. What a run says goes to log.txt in its folder. Exit codes: 0 all done, 1 some
failed, 75 and 130 stopped by SIGTERM and Ctrl-C with everything saved.
"""

import collections
import functools
import os
import shlex
import signal
import subprocess
import sys
import time

from absl import flags
from etils import epath
from ml_collections import config_flags
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fcn_jax import cli, machine, points, runlog
from fcn_jax.errors import UserError
from fcn_jax.stop import EXIT_CODES, Stop

cli.define_config()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the runs go; runs/EXPERIMENT-DATASET by default.')
_LIST = flags.DEFINE_bool('list', False, 'Show every run with its state, and start nothing.')
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print the commands, and start nothing.')
_SLOTS = flags.DEFINE_integer('slots', None, 'Runs at a time; by default one a GPU, chip or core.', lower_bound=1)
_SHARD = flags.DEFINE_string('shard', None, 'i/n, i from 0: only this share, where several machines divide a sweep.')
_ONLY = flags.DEFINE_string('only', None, "Only runs whose names have these parts, as 'stride=8,seed=0'.")
_RETRIES = flags.DEFINE_integer('retries', 0, 'How often a failed run is tried again.', lower_bound=0)

DONE, FAILED, DIVERGED, BLOCKED = 'done', 'failed', 'diverged', 'blocked'
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
  points.claim(workdir, os.path.basename(cli.config_path()), config, every_run)
  sys.exit(Driver(chosen).drive())


def state(run: points.Run) -> str:
  """What its folder says: waiting, running, preempted, diverged, failed or done.

  Raises:
    UserError: where the folder holds a run of another config.
  """
  runlog.check(run.workdir, run.config)
  return runlog.read_json(run.workdir / 'status.json', {}).get('state', 'waiting')


class Driver:
  """Starts runs as slots and the runs that they start from allow, and sees to their ends."""

  def __init__(self, chosen: list[points.Run]):
    self._runs = {run.name: run for run in chosen}
    self.states = {run.name: state(run) for run in chosen}
    for name, known in self.states.items():
      if known != DONE:
        self.states[name] = 'waiting'  # what failed before is tried again: that is what the command is given for
    self._free = machine.slots(_SLOTS.value)
    self._slots = len(self._free)
    self._processes = {}  # by name: (process, slot, seconds since the epoch)
    self._tries = collections.Counter()
    self._seconds = []  # of each run that was done here
    self._prepared = False

  def drive(self) -> int:
    """Until all has ended or a signal comes; the exit code."""
    with Stop(say) as stop, Display() as display:
      while not stop.signal and not self._ended():
        self._start_what_can()
        self._reap(display)
        display.show(self)
        time.sleep(_POLL)
      if stop.signal:
        self._stop_all(stop.signal)
        display.show(self)
    if stop.signal:
      say('the runs are stopped and saved; the same command goes on from there')
      return EXIT_CODES[stop.signal]
    return self._conclude()

  def _ended(self) -> bool:
    return all(known in ENDED for known in self.states.values())

  def _start_what_can(self) -> None:
    for name, run in self._runs.items():
      if self.states[name] != 'waiting':
        continue
      source = self.states[run.source] if run.source else DONE
      if source in (FAILED, DIVERGED, BLOCKED):
        self.states[name] = BLOCKED
      # The first run prepares the data, alone, for all of them.
      elif source == DONE and self._free and (self._prepared or not self._processes):
        self._start(run)

  def _start(self, run: points.Run) -> None:
    slot = self._free.pop(0)
    run.workdir.mkdir(parents=True, exist_ok=True)
    self._tries[run.name] += 1
    with (run.workdir / 'log.txt').open('a') as log:
      process = subprocess.Popen(
        run.command(),
        env=os.environ | slot.env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        process_group=0,  # Ctrl-C is for this process, which passes it on once
        preexec_fn=functools.partial(machine.settle, slot),
      )
    self._processes[run.name] = process, slot, time.time()
    self.states[run.name] = 'running'

  def _reap(self, display: 'Display') -> None:
    for name, (process, slot, begun) in list(self._processes.items()):
      run = self._runs[name]
      code = process.poll()
      # It tells of the data in env.json once they are prepared.
      self._prepared |= code is not None or (run.workdir / 'env.json').exists()
      if code is None:
        continue
      del self._processes[name]
      self._free.append(slot)
      self._free.sort(key=lambda s: s.cores)
      known = state(run)
      if code == 0 and known == DONE:
        self.states[name] = DONE
        self._seconds.append(time.time() - begun)
      elif known == DIVERGED:
        self.states[name] = DIVERGED  # the same again would diverge again
      else:
        self.states[name] = 'waiting' if self._tries[name] <= _RETRIES.value else FAILED
        if self.states[name] == FAILED or not display.live:
          say(f'{name}: {_ending(code)} ({run.workdir / "log.txt"}):\n{last_lines(run)}')

  def _stop_all(self, number: signal.Signals) -> None:
    for process, _, _ in self._processes.values():
      process.send_signal(number)
    for name, (process, _, _) in self._processes.items():
      process.wait()
      self.states[name] = 'preempted'

  def _conclude(self) -> int:
    _console.print(table(list(self._runs.values()), self.states, {}))
    for name, known in self.states.items():
      if known == BLOCKED:
        say(f'{name}: blocked, since {self._runs[name].source}, which it starts from, did not get done')
      elif known == DIVERGED:
        say(f'{name}: diverged:\n{last_lines(self._runs[name])}')
    return 0 if set(self.states.values()) == {DONE} else 1

  def began(self) -> dict[str, float]:
    """When the runs that are running were started, in seconds since the epoch."""
    return {name: begun for name, (_, _, begun) in self._processes.items()}

  def table(self) -> Table:
    """Of what is going on, or went wrong: a sweep has more runs than a terminal has lines."""
    return table(list(self._runs.values()), self.states, self.began(), self.forecast(), hidden=('waiting', DONE))

  def forecast(self) -> float | None:
    """Seconds until all is done, if runs take as long as those before; None while none is done."""
    if not self._seconds:
      return None
    each = sum(self._seconds) / len(self._seconds)
    spent = sum(min(each, time.time() - begun) for begun in self.began().values())
    left = sum(known not in ENDED for known in self.states.values())
    return (left * each - spent) / min(self._slots, max(left, 1))


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
        if self._shown.get(name, 'waiting') != known:
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
    status, text = runlog.read_json(run.workdir / 'status.json', {}), ''
    seconds = time.time() - began[run.name] if run.name in began else status.get('wall_seconds')
    if states[run.name] == 'running':
      text = last_lines(run, 1).strip()
    elif states[run.name] == DONE:
      scored = runlog.Rows(run.workdir / 'metrics.jsonl', status['step']).with_field('eval/mean_iou')[-1]
      text = f'mean IoU {100 * scored["eval/mean_iou"]:.2f} %'
    elif states[run.name] != 'waiting':
      text = status.get('error', '')
    out.add_row(run.name, states[run.name], _minutes(seconds) if seconds else '', text[:80])
  return out


def last_lines(run: points.Run, count: int = _LAST_LINES) -> str:
  path = run.workdir / 'log.txt'
  if not path.exists():
    return ''
  return '\n'.join(f'  {line}' for line in path.read_bytes().decode(errors='replace').splitlines()[-count:])


def say(text: str) -> None:
  _console.print(text, markup=False)


def _ending(code: int) -> str:
  return f'killed by {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'


def _minutes(seconds: float) -> str:
  return f'{seconds:.0f} s' if seconds < 100 else f'{seconds / 60:.0f} min'


if __name__ == '__main__':
  cli.run(main)
