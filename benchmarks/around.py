"""Everything around a step: evaluation of a split, the input pipeline, startup, logs and checkpoints.

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
from typing import ClassVar

import jax
import numpy as np

from benchmarks import steps, turns
from fcn_jax import evaluation, models
from fcn_jax.config import default
from fcn_jax.data import dataset, pipeline
from fcn_jax.run import devices

COLORS = ('brightness', 'contrast', 'color')
READ, READ_BATCH = 20, 16  # batches per turn, images per batch
STEPS = 8  # of a loop over real data


def stanford(archive: str):
  """The config of Stanford Background, fold 0, for a network that the PyTorch side has too."""
  config = default('stanford_background')
  config.data.archive = archive
  config.model.update(std=(1.0, 1.0, 1.0), norm='none', width=0.25, dropout=0.0, dtype='float32')
  return config


def stanford_split(archive: str, name: str, **settings) -> dataset.Split:
  """A split of fold 0; `settings` are changes to the section `data` of the config."""
  data = stanford(archive).data
  data.update(settings)
  return dataset.load(data).split(name)


def split_evaluation(archive: str, ways: list[str], rounds: int) -> dict:
  """The 143 test images of fold 0, from decoded images in memory to the confusion matrix.

  The PyTorch side takes one image at a time.
  """
  config = stanford(archive)
  data = dataset.load(config.data)
  held_out = data.splits[data.held_out]
  model = models.build(config.model, data.inputs, data.heads)
  params = steps.with_scores(model.init(jax.random.key(0), model.example_inputs())['params'])
  evaluator = evaluation.Evaluator(
    model, batch_size=config.eval.batch_size, canvases=config.eval.canvases, threads=config.data.threads
  )

  def matrix() -> np.ndarray:
    return evaluator.score(params, held_out).matrices['semantic'].sum(0)

  task = steps.task('evaluation', model, config) | {'archive': archive}
  return turns.against_peer(matrix, task, steps.flat(params), {'matrix': matrix()}, ways, rounds)


class Brightness:
  """A network that costs next to nothing: the class of a pixel depends on its red."""

  heads: ClassVar = {'semantic': 8}
  platform = jax.default_backend()

  def apply(self, variables, inputs, size):
    del size
    return {'semantic': jax.nn.one_hot(inputs['rgb'][..., 0] // 32, 8) + variables['params']['bias']}


def evaluation_alone(archive: str, rounds: int) -> dict:
  """Evaluation of the 143 test images of fold 0 without a network; `ms_per_image` is what every image costs."""
  config = stanford(archive)
  data = dataset.load(config.data)
  held_out = data.splits[data.held_out]
  evaluator = evaluation.Evaluator(
    Brightness(), batch_size=config.eval.batch_size, canvases=config.eval.canvases, threads=config.data.threads
  )
  params = devices.replicate({'bias': np.zeros((), np.float32)})
  row = turns.against_peer(lambda: evaluator.score(params, held_out), {}, {}, {}, [], rounds)
  return row | {'images': len(held_out), 'ms_per_image': row['ours_ms'] / len(held_out)}


@contextlib.contextmanager
def one_core():
  """Restricts this process, and threads that it starts in the meantime, to one core."""
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {min(before)})
  try:
    yield
  finally:
    os.sched_setaffinity(0, before)


def read(batches: Iterator) -> None:
  """Reads the batches of a turn."""
  for _ in range(READ):
    next(batches)


def reading(archive: str, ways: list[str], rounds: int) -> dict:
  """From JPEG to augmented batches on one core, with images of 320x240 that are not cached in memory."""
  config = stanford(archive)
  config.data.update(cache_gib=0.0, threads=1)
  train = dataset.load(config.data).splits['train']

  def ours() -> None:
    with one_core():
      batches = pipeline.train_batches(train, config.data, batch_size=READ_BATCH, seed=0)
      read(batches)
      batches.close()

  task = {'kind': 'reading', 'archive': archive, 'dtype': 'float32'}
  # Memory allocation matters little here, and there is nothing to compile.
  row = turns.against_peer(ours, task, {}, {}, [way for way in ways if way == 'plain'], rounds)
  return row | {'images_per_second': READ * READ_BATCH / row['ours_ms'] * 1000}


def decoded(archive: str, rounds: int) -> dict:
  """Training batches of decoded images, for augmentation on the device, compared with augmentation on the host."""

  def seconds(where: str) -> float:
    data = stanford(archive).data
    data.update(threads=1, augment_on=where)
    batches = pipeline.train_batches(train, data, batch_size=READ_BATCH, seed=0)
    try:
      return turns.timed(lambda: read(batches))()
    finally:
      batches.close()  # otherwise it reads ahead during the other side's turn

  train = stanford_split(archive, 'train')
  sides = {'ours': lambda: seconds('device'), 'on the host': lambda: seconds('host')}
  row = turns.row(turns.interleaved(sides, rounds), 'on the host')
  return row | {'images_per_second': READ * READ_BATCH / row['ours_ms'] * 1000}


def fed(archive: str, rounds: int) -> dict:
  """Steps on images of Stanford Background, read as in a run, compared with steps on one batch on the devices."""
  side = steps.Workload(0.25, 16, (240, 320), classes=8).side()
  data, train = stanford(archive).data, stanford_split(archive, 'train')
  resident = side.arguments()

  def seconds(next_arguments: Callable[[], tuple]) -> float:
    def loop() -> None:
      for _ in range(STEPS):
        side.state, numbers = side.step(side.state, *next_arguments())
        float(numbers['loss'].addressable_data(0))

    return turns.timed(loop)()

  def on_real_data() -> float:
    batches = pipeline.train_batches(train, data, batch_size=16, seed=0)
    try:
      return seconds(lambda: (devices.shard(next(batches)), steps.no_signal()))
    finally:
      batches.close()  # otherwise it reads ahead during the other side's turn

  sides = {'ours': on_real_data, 'resident batch': lambda: seconds(lambda: resident)}
  return turns.row(turns.interleaved(sides, rounds), 'resident batch')


def _command(folder: str, name: str, **settings) -> list[str]:
  """The command of a run of FCN-16s on `scenes`; `settings` are changes to the config, with __ for the dot."""
  command = [sys.executable, '-m', 'fcn_jax.main', f'--config={turns.ROOT}/experiments/fcn16s.py']
  command += [f'--config.{setting.replace("__", ".")}={value}' for setting, value in settings.items()]
  return [*command, f'--workdir={folder}/{name}']


def start() -> dict:
  """From the command to the first step: with the compilation cache, compared with an empty one."""
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
        raise RuntimeError(f'{command} ended with exit code {process.returncode}; expected 0')
  return turns.row(found, 'cold')


def recording(rounds: int) -> dict:
  """A run that logs every step and saves a checkpoint every 10, compared with one that does both only at its end."""
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
  """Functions that measure one row each, by its name; those on Stanford Background only if its archive is given."""
  found = {}
  if archive:
    found |= {
      'evaluation of a split': functools.partial(split_evaluation, archive, ways, rounds),
      'evaluation without a network': functools.partial(evaluation_alone, archive, rounds),
      'input, 320 images on one core': functools.partial(reading, archive, ways, rounds),
      'input, decoded, one thread': functools.partial(decoded, archive, rounds),
      f'{STEPS} steps on real data': functools.partial(fed, archive, rounds),
    }
  return found | {'start': start, 'logs and checkpoints, 100 steps': functools.partial(recording, rounds)}
