"""Runs a sweep: trains every run of an experiment that is not done yet, each in a separate process.

  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation
  python -m fcn_jax.sweep --workdir=runs/ablation --list
  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation --only='stride=8,seed=0'

Run the same command again to resume a sweep: runs that are done are not repeated, unfinished runs continue. --config.*
overrides, for example --config.train.steps=200, apply to every run. Each run's output is in log.txt in its folder. With
--config, --list and --dry_run also show a sweep that has not started.

--list prints the same as python -m fcn_jax.runs on the folder, from sweep.json, which has the settings that the sweep
was started with. A damaged run counts as failed; the other runs are trained. Names of more than 200 bytes are
shortened: sweep.json has the settings of every run.

Exit codes: 0 all runs are done; 1 at least one run failed, diverged, is damaged or was skipped; with everything saved,
75 stopped by SIGTERM, SIGHUP or SIGUSR1, and 130 stopped by Ctrl-C.
"""

if __name__ == '__main__':
  from fcn_jax.run import signals

  signals.install()  # before the imports, which take time

import logging
import os
import shlex
import sys

from absl import flags
from etils import epath
from ml_collections import config_flags

from fcn_jax import cli, files
from fcn_jax.errors import UserError
from fcn_jax.sweep import local, points, ray, status
from fcn_jax.sweep.driver import Driver

logger = logging.getLogger('fcn_jax.sweep')  # here `__name__` is '__main__'


def define_flags() -> None:
  cli.define_config()
  flags.DEFINE_string('workdir', None, 'Directory of the sweep. Default: runs/EXPERIMENT-DATASET.')
  flags.DEFINE_bool('list', False, 'List the runs and their states; start nothing.')
  flags.DEFINE_bool('dry_run', False, 'Print the commands of the runs; start nothing.')
  flags.DEFINE_integer(
    'slots',
    None,
    'Number of runs at a time. Default: one per GPU, TPU chip or CPU core. Runs on the same GPU divide its memory.',
    lower_bound=1,
  )
  flags.DEFINE_string(
    'shard', None, 'i/n: run only the i-th of n parts of the sweep, counted from 0, to divide a sweep among machines.'
  )
  flags.DEFINE_string(
    'only', None, "Only runs that have all of these settings, written as in their names: 'stride=8,seed=0'."
  )
  flags.DEFINE_enum(
    'backend',
    'auto',
    ['auto', 'local', 'ray'],
    'Where to run: this machine (local) or a Ray cluster (ray). auto: ray if RAY_ADDRESS is set, else local.',
  )
  flags.DEFINE_float('cpus_per_run', 1, 'Ray only: CPU cores per run.', lower_bound=0)
  flags.DEFINE_float('gpus_per_run', 0, 'Ray only: GPUs per run.', lower_bound=0)
  flags.DEFINE_integer('tpus_per_run', 0, 'Ray only: TPU chips per run.', lower_bound=0)
  flags.DEFINE_integer('node_retries', 5, 'Ray only: how often to restart a run whose node was lost.', lower_bound=0)
  flags.DEFINE_integer('retries', 0, 'How often to restart a run that failed.', lower_bound=0)


def main(arguments: list[str]) -> None:
  if arguments:
    raise UserError(f'unexpected argument {arguments[0]!r}; settings are written --config.x=y')
  given = flags.FLAGS
  if given.list and given.workdir and given['config'].value is None:
    _list(points.recorded(files.path(given.workdir)))
    return
  config = cli.config()
  workdir = files.path(given.workdir or cli.default_workdir(config.data.name))
  if given.list and files.exists(workdir / 'sweep.json'):  # with the settings that the runs were started with
    _list(points.recorded(workdir))
    return
  all_runs = points.runs(config_flags.get_config_filename(given['config']), config, workdir)
  if given.list:
    _list(all_runs)
    return
  chosen = points.choose(all_runs, only=given.only, shard=given.shard)
  if given.dry_run:
    for run in chosen:
      print(shlex.join(run.command))
    return
  engine = make_engine(workdir)
  points.write_sweep(workdir, os.path.basename(cli.config_path()), config, all_runs)
  logger.info('%d runs, %s', len(chosen), engine.describe())
  sys.exit(Driver(chosen, engine, retries=given.retries, node_retries=given.node_retries).drive())


def _list(all_runs: list[points.Run]) -> None:
  chosen = points.choose(all_runs, only=flags.FLAGS.only, shard=flags.FLAGS.shard)
  status.show(chosen, {run.name: status.state(run) for run in chosen})


def make_engine(workdir: epath.Path) -> local.Local | ray.Ray:
  """The engine that --backend selects; a flag of the other engine is an error."""
  given = flags.FLAGS
  per_run = {name: given[f'{name}_per_run'] for name in ('cpus', 'gpus', 'tpus')}
  if given.backend == 'local' or (given.backend == 'auto' and 'RAY_ADDRESS' not in os.environ):
    if misplaced := [f'--{flag.name}' for flag in per_run.values() if flag.present]:
      raise UserError(f'{", ".join(misplaced)} requires --backend=ray; on one machine, set --slots')
    return local.Local(given.slots)
  if given.slots:
    raise UserError('--slots requires --backend=local; on Ray, set --cpus_per_run, --gpus_per_run or --tpus_per_run')
  return ray.Ray(workdir, **{name: flag.value for name, flag in per_run.items()})


if __name__ == '__main__':
  cli.run(main, define_flags)
