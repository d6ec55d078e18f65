"""The sweeps of `experiments/paper` train: one shortened point of each, with the command that the sweep would start."""

import json

import pytest
import tiny
from etils import epath

from fcn_jax.sweep import points

# The settings that a point decides, such as the batch size and the optimizer, stay as they are.
SMALL = {name: tiny.SETTINGS[name] for name in tiny.SETTINGS if name != 'train.batch_size'}
SMALL |= {'model.group_size': 4, 'optim.warmup': 0, 'train.steps': 3, 'train.log_every': 1, 'eval.every': 3}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return tiny.prepare(tmp_path_factory.mktemp('small') / 'data')


def start(run, data, **changed):
  """Runs the command of the run with further flags that make it small; of two equal flags the later one counts."""
  settings = SMALL | {'data.dir': data} | changed
  done = tiny.run([*run.command, *(f'--config.{name}={value}' for name, value in settings.items())])
  assert done.returncode == 0, done.stderr
  return json.loads((run.workdir / 'status.json').read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'only'),
  [
    ('batch_momentum', 'momentum=0.99,seed=0'),
    ('patch_sampling', 'sampling=0.25,seed=0'),
    ('class_balance', 'balance=inverse,seed=0'),
    ('augmentation', 'flip=0.5,jitter=32,seed=0'),
    ('frozen', 'freeze_backbone=True,seed=0'),
  ],
)
def test_a_shortened_point_of_each_sweep_trains(data, tmp_path, name, only):
  experiment = f'{tiny.ROOT}/experiments/paper/{name}.py'
  runs = points.runs(experiment, points.load(experiment, '')[1], epath.Path(tmp_path))
  for run in points.choose(runs, only=only, shard=None):  # and the run that it starts from
    assert start(run, data)['state'] == 'done'
  rows = [json.loads(line) for line in (run.workdir / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows if 'train/loss' in row] == [1, 2, 3]
  assert rows[-1]['eval/mean_iou'] > 0
