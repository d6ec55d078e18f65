"""What is around a step: the evaluation of a split, the input pipeline, the start, logs and checkpoints.

Rows of `benchmarks/run.py`.
"""

import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from benchmarks import steps, turns
from fcn_jax import evaluation
from fcn_jax.config import default
from fcn_jax.data import dataset, pipeline
from fcn_jax.models import fcn
from fcn_jax.run import devices

COLOURS = ('brightness', 'contrast', 'color')
READ, READ_BATCH = 20, 16  # batches a turn, pictures a batch
STEPS = 8  # of a loop over real data


def stanford(archive: str):
  """The config of Stanford Background, fold 0, for a network that is the peer's too."""
  config = default('stanford_background')
  config.data.archive = archive
  config.data.std = (1.0, 1.0, 1.0)
  config.model.update(norm='none', width=0.25, dropout=0.0, dtype='float32')
  return config


def pictures(archive: str, split: str, **settings) -> dataset.Pictures:
  """Those of fold 0."""
  data = stanford(archive).data
  data.update(settings)
  return dataset.load(data).split(split)


def split_evaluation(archive: str, ways: list[str], rounds: int) -> dict:
  """Fold 0's 143 pictures, from decoded pictures in memory to the confusion matrix; the peer takes one by one."""
  config = stanford(archive)
  data = dataset.load(config.data)
  classes, held_out = len(data.classes), data.splits[data.held_out]
  model = fcn.from_config(config, classes)
  params = model.init(jax.random.key(0), np.zeros((1, 1, 1, 3), np.uint8))['params']
  params = steps.with_scores(params)

  def matrix() -> np.ndarray:
    return evaluation.score(model, params, held_out, config, classes).matrices.sum(0)

  task = steps.task('evaluation', model, config) | {'archive': archive}
  return turns.against_peer(matrix, task, steps.flat(params), {'matrix': matrix()}, ways, rounds)


@contextlib.contextmanager
def one_core():
  """The process has one core while this lasts, and so have the threads that it starts meanwhile."""
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {min(before)})
  try:
    yield
  finally:
    os.sched_setaffinity(0, before)


def read(batches: Iterator) -> None:
  for _ in range(READ):
    next(batches)


def reading(archive: str, ways: list[str], rounds: int) -> dict:
  """JPEG to augmented batch on one core, pictures of 320x240, none of them kept in memory."""
  config = stanford(archive)
  config.data.update(cache=0.0, threads=1)
  train = dataset.load(config.data).splits['train']

  def ours() -> None:
    with one_core():
      batches = pipeline.train_batches(train, config.data, batch_size=READ_BATCH, seed=0)
      read(batches)
      batches.close()

  task = {'kind': 'reading', 'archive': archive, 'dtype': 'float32'}
  # How memory is had matters little here, and there is nothing to compile.
  row = turns.against_peer(ours, task, {}, {}, [way for way in ways if way == 'plain'], rounds)
  return row | {'pictures_per_second': READ * READ_BATCH / row['ours_ms'] * 1000}


def fed(archive: str, rounds: int) -> dict:
  """Steps on pictures of Stanford as a run gets them, beside steps on one batch that stays on the device."""
  side = steps.Side(steps.Workload(0.25, 16, (240, 320), classes=8))
  data, train = stanford(archive).data, pictures(archive, 'train')
  resident = side.batch()

  def seconds(next_batch: Callable[[], dict]) -> float:
    def loop() -> None:
      for _ in range(STEPS):
        side.state, numbers = side.step(side.state, next_batch())
        float(numbers['loss'].addressable_data(0))

    return turns.timed(loop)()

  def on_real_data() -> float:
    batches = pipeline.train_batches(train, data, batch_size=16, seed=0)

    def next_batch() -> dict:
      batch = next(batches)
      return devices.share(batch | {'signal': np.zeros(len(batch['image']), np.int32)})

    try:
      return seconds(next_batch)
    finally:
      batches.close()  # else it would read ahead in the turn of the other

  sides = {'ours': on_real_data, 'resident batch': lambda: seconds(lambda: dict(resident))}
  return turns.row(turns.interleaved(sides, rounds), 'resident batch')


def _command(folder: str, name: str, **settings) -> list[str]:
  """Of a run of FCN-16s on `scenes`."""
  command = [sys.executable, '-m', 'fcn_jax.main', f'--config={turns.ROOT}/experiments/fcn16s.py']
  command += [f'--config.{setting.replace("__", ".")}={value}' for setting, value in settings.items()]
  return [*command, f'--workdir={folder}/{name}']


def start() -> dict:
  """From the command to the first step: with the compilation cache, and with nothing compiled before."""
  found = {}
  with tempfile.TemporaryDirectory() as folder:
    env = os.environ | {'PYTHONPATH': str(turns.ROOT), 'JAX_COMPILATION_CACHE_DIR': f'{folder}/cache'}
    for name in ('cold', 'ours'):
      command = _command(folder, name, train__steps=1, optim__warmup=0)
      begun = time.perf_counter()
      with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        for line in process.stdout:
          if line.startswith('step 1/1'):
            found[name] = [time.perf_counter() - begun]
      if process.returncode:
        raise RuntimeError(f'{command} ended with {process.returncode}')
  return turns.row(found, 'cold')


def keeping(rounds: int) -> dict:
  """A run that logs each step and saves a checkpoint every 10, beside one that does neither before its end."""
  often = {'train__log_every': 1, 'checkpoint__every': 10}
  never = {'train__log_every': 100, 'checkpoint__every': 0}

  def run(settings: dict) -> float:
    with tempfile.TemporaryDirectory() as folder:
      command = _command(folder, 'run', train__steps=100, eval__every=0, **settings)
      subprocess.run(command, stdout=subprocess.DEVNULL, env=os.environ | {'PYTHONPATH': str(turns.ROOT)}, check=True)
      return json.loads(pathlib.Path(folder, 'run', 'status.json').read_text())['wall_seconds']

  times = turns.interleaved({'ours': lambda: run(often), 'never': lambda: run(never)}, rounds)
  return turns.row(times, 'never')


def rows(archive: str, ways: list[str], rounds: int) -> dict[str, Callable[[], dict]]:
  """Functions that measure a row each, by its name; those on Stanford Background where there is its archive."""
  found = {}
  if archive:
    found |= {
      'evaluation of a split': functools.partial(split_evaluation, archive, ways, rounds),
      'input, 320 pictures on a core': functools.partial(reading, archive, ways, rounds),
      f'{STEPS} steps on real data': functools.partial(fed, archive, rounds),
    }
  return found | {'start': start, 'logs and checkpoints, 100 steps': functools.partial(keeping, rounds)}
