"""Run directories as training leaves them, made at once, for the tests of what reads them."""

import io
import json

import numpy as np
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import evaluation, files, metrics
from fcn_jax.data import bands, dataset
from fcn_jax.models import cost, grid
from fcn_jax.run import directory, environment

CLASSES = ('sky', 'tree', 'road')
PALETTE = ((70, 130, 180), (0, 100, 0), (128, 64, 128))


class Named(list):
  """A split of which only the ids are asked."""

  def ids(self):
    return list(self)


def run(folder, *, skill=0.7, state='done', pictures=10, classes=CLASSES, data='scenes', **settings) -> epath.Path:
  """A run directory; a share `skill` of every class's pixels is right. Settings have __ for the dot."""
  config = config_lib.default(data)
  config.update_from_flattened_dict({name.replace('__', '.'): x for name, x in settings.items()})
  name = ','.join(f'{n.rpartition("__")[2]}={x}' for n, x in settings.items())
  path = epath.Path(folder) / name
  directory.write_config(path, config)
  right = round(1000 * skill)
  matrix = np.eye(3, dtype=np.int64) * right + np.roll(np.eye(3, dtype=np.int64), 1, axis=1) * (1000 - right)
  near = np.tile(matrix, (len(bands.WIDTHS), 1, 1)) + np.arange(len(bands.WIDTHS))[::-1, None, None]
  scored = evaluation.Scored(np.tile(matrix, (pictures, 1, 1)), near, _examples(config.seed, pictures))
  split = 'validation' if data == 'scenes' else 'test'
  names = Named(f'picture {number}' for number in range(pictures))
  evaluation.write(path, split, scored, dataset.Data(classes, PALETTE, {split: names}, 'made/1.0.0'), step=20)
  _write_network(path, config, split)
  rows = [{'step': step, 'train/loss': 2 / step} for step in (5, 10, 15, 20)]
  rows += [{'step': step, 'eval/mean_iou': skill * step / 20} for step in (10, 20)]
  files.write(path / 'metrics.jsonl', ''.join(json.dumps(row) + '\n' for row in rows))
  timing = {'step': 20, 'images_per_second': 40.0, 'peak_memory_gib': 1.5}
  files.write(path / 'timing.jsonl', json.dumps(timing) + '\n')
  environment.add_environment(path, ['cpu'], 'made/1.0.0 0123')
  files.write_json(path / 'status.json', {'state': state, 'step': 20, 'wall_seconds': 90.0})
  return path


def _examples(seed: int, pictures: int) -> list[dict]:
  rng = np.random.default_rng(seed)
  image, label = rng.integers(0, 256, (12, 16, 3), np.uint8), np.zeros((12, 16), np.uint8)
  label[4:], label[8:] = 1, 2
  prediction = np.roll(label, seed, axis=0)
  return [{'index': index, 'image': image, 'label': label, 'prediction': prediction} for index in (0, pictures - 1)]


def _write_network(path, config, split: str) -> None:
  distances = {}
  if config.model.upsample != 'bilinear_fixed':
    noise = np.random.default_rng(config.seed).normal(size=(2 * config.model.stride,) * 2 + (3,))
    kernel = grid.bilinear_kernel(config.model.stride)[..., None] + 0.1 * noise
    buffer = io.BytesIO()
    np.savez_compressed(buffer, upsample_to_1=kernel)
    files.write(path / 'eval' / 'kernels.npz', buffer.getvalue())
    distances = {'upsample_to_1': cost.distances(kernel)}
  files.write_json(
    path / 'eval' / 'network.json',
    {
      'parameters': 1_234_567,
      'gflop': 2.5,
      'size': [128, 160],
      'upper_bound': {split: dict.fromkeys(metrics.METRICS, 1 - config.model.stride / 100)},
      'kernel_distance': distances,
    },
  )
