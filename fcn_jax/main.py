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


def main(arguments: list[str]) -> None:
  if arguments:
    raise UserError(f'unexpected argument {arguments[0]!r}; settings are written --config.x=y')
  config = cli.config()
  workdir = _WORKDIR.value or cli.default_workdir(config.data.name)

  from fcn_jax import train  # jax takes seconds to import: only now

  sys.exit(train.run(config, workdir))


if __name__ == '__main__':
  cli.run(main)
