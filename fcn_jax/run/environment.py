"""What each start of a run runs on: `env.json`."""

import datetime
import importlib.metadata
import pathlib
import subprocess
import sys

from etils import epath

from fcn_jax.files import read_json, write_json


def add_environment(workdir: epath.Path, devices: list[str], fingerprint: str) -> None:
  """Appends to `env.json` what this start runs on: code, versions, devices, command, data."""
  here = pathlib.Path(__file__).parent
  git = ['git', '-C', str(here)]
  names = (
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'tensorflow-datasets',
    'grain',
    'numpy',
    'pillow',
  )
  start = {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'command': [sys.executable, *sys.argv],
    'commit': _output([*git, 'rev-parse', 'HEAD']),
    'dirty': bool(_output([*git, 'status', '--porcelain', '--untracked-files=no'])),
    'python': sys.version.split()[0],
    'versions': {name: importlib.metadata.version(name) for name in names},
    'devices': devices,
    'data': fingerprint,
  }
  write_json(workdir / 'env.json', [*read_json(workdir / 'env.json', []), start])


def _output(command: list[str]) -> str | None:
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
  except OSError:  # no git on this machine
    return None
  return done.stdout.strip() if done.returncode == 0 else None
