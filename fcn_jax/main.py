"""Trains one run.

  python -m fcn_jax.main --config=experiments/fcn16s.py                   # on data that needs no download
  python -m fcn_jax.main --config=experiments/fcn16s.py --config.optim.lr=1e-3 --workdir=runs/faster

The same command again goes on where the run was stopped. Exit codes: 0 done, 1 an error, 75 stopped by SIGTERM with
everything saved, 130 likewise by Ctrl-C.
"""

import sys

from absl import flags

from fcn_jax import cli
from fcn_jax.errors import UserError

cli.define_config()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run goes; runs/EXPERIMENT-DATASET by default.')
_TAKE_OVER = flags.DEFINE_bool('take_over', False, 'Where a process is training in --workdir, have it stop first.')
# A run on several hosts is this command on each. On a TPU pod, or under srun, the environment says all three.
_COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT of the first of several processes.')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many processes train together.', lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.', lower_bound=0)


def main(arguments: list[str]) -> None:
  if arguments:
    raise UserError(f'unexpected argument {arguments[0]!r}; settings are written --config.x=y')
  config = cli.config()
  workdir = _WORKDIR.value or cli.default_workdir(config.data.name)
  others = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
  if len({value is None for value in others}) > 1:
    raise UserError('--coordinator, --num_processes and --process_id go together; some of them are missing')
  if others[0] and not others[2] < others[1]:
    raise UserError(f'--process_id is {others[2]}; expected 0 to {others[1] - 1}, since --num_processes is {others[1]}')

  from fcn_jax import train  # jax takes seconds to import: only now
  from fcn_jax.run import hosts

  hosts.join_hosts(*others)
  sys.exit(train.run(config, workdir, take_over=_TAKE_OVER.value))


if __name__ == '__main__':
  cli.run(main)
