"""What is around a step: the evaluation of a split, the input pipeline, the start. Rows of `benchmarks/run.py`."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from fcn_jax import parallel, scoring
from fcn_jax.config import default
from fcn_jax.datasets import IGNORE, pipeline
from fcn_jax.datasets.augment import augment
from fcn_jax.models import fcn

ROOT = pathlib.Path(__file__).resolve().parent.parent


def stanford(archive: str):
  """The config of Stanford Background, fold 0, for a network that is the peer's too."""
  config = default('stanford_background')
  config.data.archive = archive
  config.data.std = (1.0, 1.0, 1.0)
  config.model.update(norm='none', width=0.25, dropout=0.0, dtype='float32')
  return config


def evaluation(archive: str, peer) -> dict:
  """Functions that score fold 0's 143 pictures and return the confusion matrix; `peer` is the module, or None."""
  config = stanford(archive)
  data = pipeline.load(config.data)
  classes, pictures = len(data.classes), data.splits[data.held_out]
  model = fcn.from_config(config, classes)
  shape = np.zeros((1, 1, 1, 3), np.uint8)
  params = with_scores(model.init(jax.random.key(0), shape)['params'])
  on_devices = parallel.replicate(params)
  functions = {'ours': lambda: scoring.score(model, on_devices, pictures, config, classes).matrices.sum(0)}
  if peer:
    import torch

    net = peer.from_ours(jax.tree.map(np.asarray, params), classes, config.model.width)

    def one_by_one():
      total = np.zeros((classes, classes), np.int64)
      with torch.inference_mode():
        for index in range(len(pictures)):
          image, label = pictures[index]['image'], pictures[index]['label']
          prediction = net(peer.normalised(image[None], model.mean, model.std)).argmax(1)[0].numpy()
          known = label != IGNORE
          pairs = label[known].astype(np.int64) * classes + prediction[known]
          total += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
      return total

    functions['eager'] = one_by_one
  return functions


def with_scores(params: dict) -> dict:
  """The parameters with random score layers, which else start at zero and leave nothing to compare."""

  def fill(path, x):
    is_score = path[0].key.startswith('score') and path[-1].key == 'kernel'
    return 0.01 * jax.random.normal(jax.random.key(1), x.shape) if is_score else x

  return jax.tree_util.tree_map_with_path(fill, params)


@contextlib.contextmanager
def one_core():
  """The process has one core while this lasts."""
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {min(before)})
  try:
    yield
  finally:
    os.sched_setaffinity(0, before)


def input_rate(archive: str, batches: int, with_peer: bool) -> dict[str, float]:
  """Decoded and augmented pictures a second on one core, none of them from memory: ours, and a DataLoader with PIL."""
  config = stanford(archive)
  config.data.update(cache=0.0, threads=1)
  pictures, batch_size = pipeline.load(config.data).splits['train'], 16

  def rate(iterator) -> float:
    next(iterator)
    begun = time.perf_counter()
    for _ in range(batches):
      next(iterator)
    return batches * batch_size / (time.perf_counter() - begun)

  with one_core():
    rates = {'ours': rate(pipeline.train_batches(pictures, config.data, batch_size=batch_size, seed=0))}
    if with_peer:
      import torch

      torch.set_num_threads(1)  # two on one core would wait for each other

      class Examples(torch.utils.data.Dataset):
        def __len__(self):
          return len(pictures)

        def __getitem__(self, index):
          picture = pictures[index]
          return augment(picture['image'], picture['label'], np.random.default_rng(index), config.data)

      loader = torch.utils.data.DataLoader(Examples(), batch_size=batch_size, shuffle=True, drop_last=True)
      rates['DataLoader'] = rate(iter(loader))
  return rates


def seconds_to_first_step() -> dict[str, float]:
  """From the command of FCN-16s on `scenes`, prepared, to its first step: with nothing compiled before, and again."""
  found = {}
  with tempfile.TemporaryDirectory() as folder:
    env = os.environ | {'PYTHONPATH': str(ROOT), 'JAX_COMPILATION_CACHE_DIR': f'{folder}/cache'}
    for name in ('cold', 'with the cache'):
      command = [
        sys.executable,
        '-m',
        'fcn_jax.main',
        f'--config={ROOT}/experiments/fcn16s.py',
        '--config.train.steps=1',
      ]
      command += ['--config.optim.warmup=0', f'--workdir={folder}/{name}']
      begun = time.perf_counter()
      with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        for line in process.stdout:
          if line.startswith('step 1/1'):
            found[name] = time.perf_counter() - begun
      if process.returncode:
        raise RuntimeError(f'{command} ended with {process.returncode}')
  return found
