"""A data set: a disk on noise. Replace the drawing by reading your files."""

import numpy as np

from fcn_jax.data import Classes, Data

SETTINGS = {'count': 200, 'train_size': (96, 128)}  # adds --config.data.count, and changes a default
RECIPE = 'scratch_short'  # the default recipe
CLASSES = Classes(names=('background', 'disk'), palette=((0, 0, 0), (255, 128, 0)))


class Disks:
  def __init__(self, seed: int, count: int):
    self.seed, self.count = seed, count

  def __len__(self):
    return self.count

  def __getitem__(self, index):  # an index always gives the same image
    rng = np.random.default_rng([self.seed, index])
    y, x, radius = rng.integers((20, 20, 8), (76, 108, 20))
    rows, columns = np.indices((96, 128))
    label = ((rows - y) ** 2 + (columns - x) ** 2 < radius**2).astype(np.uint8)  # 255 would be ignored
    image = rng.integers(0, 150, (96, 128, 3), np.uint8) + 80 * label[..., None]
    return {'inputs': {'rgb': image}, 'labels': {'semantic': label}, 'id': f'{index:04}'}

  def sizes(self):  # height and width of each image, without reading it
    return np.array([[96, 128]] * self.count)

  def ids(self):
    return [f'{index:04}' for index in range(self.count)]


def load(data):  # the section `data` of the config
  splits = {'train': Disks(0, data.count), 'validation': Disks(1, 50)}
  return Data(inputs={'rgb': 3}, heads={'semantic': CLASSES}, splits=splits, fingerprint=f'{data.count} disks')
