"""Trains one run.

  python -m fcn_jax.main --config=experiments/fcn16s.py                   # needs no download
  python -m fcn_jax.main --config=experiments/fcn16s.py --config.optim.lr=1e-3 --workdir=runs/faster

Run the same command again to resume a run that was stopped. Exit codes: 0 done; 1 error; with everything saved, 75
stopped by SIGTERM, SIGHUP or SIGUSR1, and 130 stopped by Ctrl-C.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import re
import sys

from absl import flags

from fcn_jax import cli, machine
from fcn_jax.errors import UserError


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_config()
  flags.DEFINE_string('workdir', None, 'Run directory. Default: runs/EXPERIMENT-DATASET.')
  flags.DEFINE_bool('take_over', False, 'Stop any process that is training in --workdir, then start.')
  flags.DEFINE_string('profile', None, 'FROM,TO: trace these steps for a profiler, in the folder profile of --workdir.')
  # A run on several hosts is this command on each. On a TPU pod, or under srun, the environment provides all three.
  flags.DEFINE_string('coordinator', None, 'For a run on several hosts: HOST:PORT of the first process.')
  flags.DEFINE_integer('num_processes', None, 'For a run on several hosts: number of processes.', lower_bound=1)
  flags.DEFINE_integer('process_id', None, 'For a run on several hosts: index of this process, from 0.', lower_bound=0)


def main(arguments: list[str]) -> None:
  """The command."""
  given = flags.FLAGS
  if arguments:
    raise UserError(f'unexpected argument {arguments[0]!r}; settings are written --config.x=y')
  config = cli.config()
  workdir = given.workdir or cli.default_workdir(config.data.name)
  process = given.coordinator, given.num_processes, given.process_id
  if len({value is None for value in process}) > 1:
    raise UserError('--coordinator, --num_processes and --process_id must be given together; some of them are missing')
  if process[0] and not process[2] < process[1]:
    raise UserError(
      f'--process_id is {process[2]}; expected 0 to {process[1] - 1}, because --num_processes is {process[1]}'
    )

  # The number of steps of train.epochs is not known yet.
  profile_steps = _steps(given.profile, sys.maxsize if config.train.epochs else config.train.steps)
  if config.train.deterministic:
    machine.make_deterministic()

  from fcn_jax import train  # jax takes seconds to import: not before the config is checked
  from fcn_jax.run import hosts, messages

  hosts.join_hosts(*process)
  if not hosts.is_first_host():
    messages.mute()
  sys.exit(train.run(config, workdir, take_over=given.take_over, profile_steps=profile_steps))


def _steps(profile: str | None, steps: int) -> tuple[int, int] | None:
  """The first and the last step of --profile=FROM,TO; None without the flag."""
  if profile is None:
    return None
  match = re.fullmatch(r'(\d+),(\d+)', profile)
  if not match or not 1 <= int(match[1]) <= int(match[2]) <= steps:
    raise UserError(f'--profile is {profile!r}; expected FROM,TO, two steps from 1 to {steps} (train.steps): 20,25')
  return int(match[1]), int(match[2])


if __name__ == '__main__':
  cli.run(main, define_flags)
