"""For tests of sweeps: experiment files with a few points."""

from etils import epath

from fcn_jax.sweep import points

HEAD = 'from fcn_jax.config import default\nfrom fcn_jax.sweep import *\ndef get_config(dataset="scenes"):\n'
CONFIG = '  return default(dataset)\n'


def runs_of(tmp_path, sweep: str, change=lambda config: None) -> list[points.Run]:
  """The runs of an experiment file with the text `sweep`, in the directory runs/x; `change` changes its config."""
  path = tmp_path / 'experiment.py'
  path.write_text(HEAD + CONFIG + sweep)
  base = points.load(str(path), '')[1]
  change(base)
  return points.runs(str(path), base, epath.Path('runs/x'))


def returning(value: str) -> str:
  """A function `sweep()` that returns a value, as Python."""
  return f'def sweep():\n  return {value}\n'
