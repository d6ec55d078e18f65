"""Runs an ablation: every point of a sweep that is not done yet, each by the plain command in a process of its own.

  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation
  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation --list
  python -m fcn_jax.sweep --config=experiments/ablation.py --workdir=runs/ablation --only='stride=8,seed=0'

The same command again goes on: what is done is skipped, what was stopped continues. Settings, as
--config.train.steps=200, go for all runs. What a run says goes to log.txt in its folder. Exit codes: 0 all done, 1 some
failed, 75 and 130 stopped by SIGTERM and Ctrl-C with everything saved.
"""

import os
import shlex
import sys

from absl import flags
from etils import epath
from ml_collections import config_flags

from fcn_jax import cli
from fcn_jax.errors import UserError
from fcn_jax.sweep import local, points, ray
from fcn_jax.sweep.driver import Driver
from fcn_jax.sweep.status import _console, say, state, table

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
  sys.exit(Driver(chosen, engine, retries=_RETRIES.value, node_retries=_NODE_RETRIES.value).drive())


def make_engine(workdir: epath.Path) -> local.Local | ray.Ray:
  """What --backend and the flags that go with it ask for."""
  wants = {name: flags.FLAGS[f'{name}_per_run'] for name in ('cpus', 'gpus', 'tpus')}
  if _BACKEND.value == 'local' or (_BACKEND.value == 'auto' and 'RAY_ADDRESS' not in os.environ):
    if given := [f'--{flag.name}' for flag in wants.values() if flag.present]:
      raise UserError(f'{", ".join(given)} is for --backend=ray; on one machine, --slots divides it')
    return local.Local(_SLOTS.value)
  if _SLOTS.value:
    raise UserError('--slots is for --backend=local; on Ray, --cpus_per_run and the like say how many runs fit a node')
  return ray.Ray(workdir, **{name: flag.value for name, flag in wants.items()})


if __name__ == '__main__':
  cli.run(main)
