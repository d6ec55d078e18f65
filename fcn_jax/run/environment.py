"""`env.json`: the code, machine and data of each start of a run."""

import datetime
import importlib.metadata
import pathlib
import subprocess
import sys

from fcn_jax.errors import UserError
from fcn_jax.run import saved
from fcn_jax.run.directory import RunDirectory

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-datasets', 'grain', 'numpy', 'pillow')


def check_fingerprint(directory: RunDirectory, fingerprint: str) -> None:
  """Raises `UserError` if a run has been trained on data with another fingerprint."""
  expected = saved.read_fingerprint(directory.path)
  if expected not in (None, fingerprint):
    is_folder = fingerprint.startswith('folder ')
    raise UserError(
      f'these are not the data of the run in {directory}: their fingerprint is {fingerprint!r}; expected {expected!r}. '
      f'Restore the data, give the folder of the right data with --config.data.{"folder" if is_folder else "dir"}='
      'FOLDER, or train again in another --workdir'
      + ('; evaluate --out=FOLDER scores a run on other images' if is_folder else '')
    )


def add_environment(directory: RunDirectory, devices: list[str], fingerprint: str) -> None:
  """Appends an entry to `env.json`: the code, versions, devices, command and data of this start.

  Args:
    directory: of the run.
    devices: the kind of each device.
    fingerprint: of the data set.
  """
  starts = saved.read_starts(directory.path)
  git = ['git', '-C', str(pathlib.Path(__file__).parent)]
  start = {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'command': [sys.executable, *sys.argv],
    'commit': _output([*git, 'rev-parse', 'HEAD']),
    'dirty': bool(_output([*git, 'status', '--porcelain', '--untracked-files=no'])),
    'python': sys.version.split()[0],
    'versions': {name: importlib.metadata.version(name) for name in _PACKAGES},
    'devices': devices,
    'data': fingerprint,
  }
  directory.write_json('env.json', [*starts, start])


def _output(command: list[str]) -> str | None:
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
  except OSError:  # no git on this machine
    return None
  return done.stdout.strip() if done.returncode == 0 else None
