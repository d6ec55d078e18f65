"""Makes run directories as training leaves them, without training, for tests of the code that reads them."""

import io

import numpy as np
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import evaluation, metrics
from fcn_jax.data import bands
from fcn_jax.data.dataset import Classes, Data
from fcn_jax.models import cost, grid
from fcn_jax.run import directory, environment

CLASSES = ('sky', 'tree', 'road')
PALETTE = ((70, 130, 180), (0, 100, 0), (128, 64, 128))
FINGERPRINT = 'made/1.0.0'
STEPS = 20


class Split(list):
  """A split that has only ids."""

  def ids(self) -> list[str]:
    return list(self)


def run(folder, *, skill=0.7, state='done', images=10, classes=CLASSES, data='scenes', **settings) -> epath.Path:
  """Makes a run directory in `folder`, named after `settings`.

  Args:
    folder: the folder of the runs.
    skill: the fraction of every class's pixels that are predicted correctly.
    state: the state in `status.json`.
    images: the number of scored images; each `data.fold` has other images.
    classes: the names of the three classes.
    data: the name of the data set.
    **settings: settings of the config, with __ for the dot.
  """
  config = config_lib.default(data)
  config.update_from_flattened_dict({name.replace('__', '.'): x for name, x in settings.items()})
  made = directory.RunDirectory(
    epath.Path(folder) / ','.join(f'{n.rpartition("__")[2]}={x}' for n, x in settings.items())
  )
  split = 'validation' if data == 'scenes' else 'test'
  directory.write_config(made, config)
  of_fold = f' of fold {config.data.fold}' if 'fold' in config.data else ''
  ids = Split(f'image {number}{of_fold}' for number in range(images))
  _write_evaluation(made, split, skill, ids, classes, config.seed)
  _write_network(made, split, config)
  logged, timing = made.rows('metrics.jsonl'), made.rows('timing.jsonl')
  for step in (5, 10, 15, 20):
    logged.add(step, {'train/loss': 2 / step})
  for step in (10, 20):
    logged.add(step, {'eval/mean_iou': skill * step / STEPS})
  timing.add(STEPS, {'images_per_second': 40.0, 'peak_memory_gib': 1.5})
  logged.flush()
  timing.flush()
  environment.add_environment(made, ['cpu'], f'{FINGERPRINT} 0123')
  made.write_json('status.json', {'state': state, 'step': STEPS, 'wall_seconds': 90.0})
  return made.path


def _write_evaluation(made, split: str, skill: float, ids: Split, names, seed: int) -> None:
  images = len(ids)
  right = round(1000 * skill)
  matrix = np.eye(3, dtype=np.int64) * right + np.roll(np.eye(3, dtype=np.int64), 1, axis=1) * (1000 - right)
  near = np.tile(matrix, (len(bands.WIDTHS), 1, 1)) + np.arange(len(bands.WIDTHS))[::-1, None, None]
  matrices = np.tile(matrix, (images, 1, 1))
  scored = evaluation.Scored({'semantic': matrices}, {'semantic': near}, _examples(seed, images))
  data = Data({'rgb': 3}, {'semantic': Classes(tuple(names), PALETTE)}, {}, FINGERPRINT)
  directory.write_data(made, data)
  evaluation.write(made, split, ids, scored, data.heads, step=STEPS)


def _examples(seed: int, images: int) -> list[dict]:
  rng = np.random.default_rng(seed)
  image, label = rng.integers(0, 256, (12, 16, 3), np.uint8), np.zeros((12, 16), np.uint8)
  label[4:], label[8:] = 1, 2
  prediction = np.roll(label, seed, axis=0)
  example = {'inputs': {'rgb': image}, 'labels': {'semantic': label}, 'predictions': {'semantic': prediction}}
  return [example | {'index': index} for index in (0, images - 1)]


def _write_network(made, split: str, config) -> None:
  distances, factor = {}, config.model.stride * config.model.shrink
  if config.model.upsample != 'bilinear_fixed':
    noise = np.random.default_rng(config.seed).normal(size=(2 * factor, 2 * factor, 3))
    kernel = grid.bilinear_kernel(factor)[..., None] + 0.1 * noise
    buffer = io.BytesIO()
    np.savez_compressed(buffer, upsample_to_1=kernel)
    made.write('eval/kernels.npz', buffer.getvalue())
    distances = {'upsample_to_1': cost.kernel_distances(kernel)}
  made.write_json(
    'eval/network.json',
    {
      'parameters': 1_234_567,
      'gflop': 2.5,
      'size': [128, 160],
      'upper_bound': {split: dict.fromkeys(metrics.METRICS, 1 - factor / 100)},
      'kernel_distance': distances,
    },
  )
