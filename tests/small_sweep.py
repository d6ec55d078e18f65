"""For tests of sweeps: experiment files with a few points, and runs that are done."""

import json

from etils import epath

from fcn_jax.run import directory
from fcn_jax.sweep import points

HEAD = 'from fcn_jax.config import default\nfrom fcn_jax.sweep import *\ndef get_config(dataset="scenes"):\n'
CONFIG = '  return default(dataset)\n'
SCORE = {'step': 800, 'eval/mean_iou': 0.5}


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


def begin(run, state='done', step=800, **more):
  """Writes the files of a run."""
  written = directory.RunDirectory(run.workdir)
  directory.write_config(written, run.config)
  written.write_json('env.json', [{'data': 'scenes'}])
  written.write('metrics.jsonl', json.dumps(SCORE) + '\n')
  written.write('timing.jsonl', '{"step": 800}\n')
  written.write_json('status.json', {'state': state, 'step': step, 'steps': 800, 'wall_seconds': 60.0} | more)
