"""For tests of commands: the smallest run that trains, saves and evaluates, and the command that starts it."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# One configuration for all tests that train, because each configuration is compiled separately. Checkpoints come at
# steps 3, 6, 9 and 12 and evaluations at 4, 8 and 12, so a kill may come before, between and after the two.
STEPS = 12
SETTINGS = {
  'model.width': 0.0625,
  'model.fc_channels': 1024,
  'model.norm': 'none',
  'data.train_size': '32,32',
  'optim.warmup': 2,
  'train.steps': STEPS,
  'train.batch_size': 8,
  'train.log_every': 2,
  'eval.every': 4,
  'eval.batch_size': 8,
  'eval.canvases': 1,
  'checkpoint.every': 3,
}


# Environment variables with which a command compiles in less time, for tests whose programs take only a few steps.
QUICK = {'XLA_FLAGS': '--xla_backend_optimization_level=0'}


def prepare(folder, change=lambda image: image) -> str:
  """Prepares `scenes` with 24 and 8 images only, each passed through `change`, in a folder for `data.dir`."""
  from fcn_jax import config
  from fcn_jax.data import dataset
  from fcn_jax.data.builders import scenes

  draw = scenes.image
  data = config.default('scenes').data
  data.dir = str(folder)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(scenes, 'SPLITS', {'train': 24, 'validation': 8})
    patch.setattr(scenes, 'image', lambda split, index: change(draw(split, index) | {'split': split, 'index': index}))
    dataset.load(data)
  return data.dir


def command(data_dir, workdir, *, dataset: str = '', **settings) -> list[str]:
  """The command that trains the run.

  Args:
    data_dir: `data.dir`.
    workdir: the run directory.
    dataset: the argument of the config file; '' for its default.
    **settings: further settings, with __ for the dot.
  """
  changed = SETTINGS | {'data.dir': data_dir} | {name.replace('__', '.'): x for name, x in settings.items()}
  flags = [f'--config.{name}={value}' for name, value in changed.items()]
  config = f'{ROOT}/experiments/fcn32s.py' + (f':{dataset}' if dataset else '')
  return [sys.executable, '-m', 'fcn_jax.main', f'--config={config}', *flags, f'--workdir={workdir}']


def start(arguments, **options) -> subprocess.Popen:
  """Starts a command on one device, with its output in pipes; `env` has further environment variables."""
  env = os.environ | {'XLA_FLAGS': '', 'PYTHONPATH': str(ROOT)} | options.pop('env', {})
  pipe = subprocess.PIPE
  return subprocess.Popen(arguments, env=env, stdout=pipe, stderr=pipe, text=True, **options)


def until(condition, *processes) -> None:
  """Returns as soon as the condition holds; the processes must run until then."""
  while not condition():
    for process in processes:
      assert process.poll() is None, process.communicate()
    time.sleep(0.02)


def free_port() -> int:
  with socket.socket() as server:
    server.bind(('localhost', 0))
    return server.getsockname()[1]


def run(arguments, **options) -> subprocess.CompletedProcess:
  """Starts a command and waits for its end."""
  process = start(arguments, **options)
  try:
    output, errors = process.communicate(timeout=300)
  finally:
    process.kill()
  return subprocess.CompletedProcess(arguments, process.returncode, output, errors)
