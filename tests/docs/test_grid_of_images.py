"""The figure of the README is drawn by `docs/grid.py`."""

import sys

import numpy as np
import tiny
from PIL import Image

from fcn_jax import config
from fcn_jax.data import dataset
from fcn_jax.data.builders import scenes
from fcn_jax.images import colorize


def test_the_grid_shows_what_it_should(tmp_path):
  tiny.prepare(tmp_path / 'data')
  data = config.default('scenes').data
  data.dir = str(tmp_path / 'data')
  shown = dataset.load(data).splits['validation']
  (tmp_path / 'mine').mkdir()
  for picture in (shown[i] for i in range(len(shown))):
    Image.fromarray(picture['label']).save(tmp_path / 'mine' / f'{picture["id"]}.png')
  command = [sys.executable, f'{tiny.ROOT}/docs/grid.py', f'--config={tiny.ROOT}/experiments/fcn8s.py']
  command += [f'--config.data.dir={data.dir}', '--pictures=2', f'--out={tmp_path}/grid.png']
  done = tiny.run([*command, str(tmp_path / 'mine')])
  assert done.returncode == 0, done.stderr
  drawn = np.asarray(Image.open(tmp_path / 'grid.png'))
  red = (drawn == (200, 30, 30)).all(-1)
  assert not red.any(), 'a prediction equal to the label has no errors'
  height, width = shown[0]['label'].shape
  expected, step = colorize(shown[0]['label'], scenes.Scenes.PALETTE), max(shown[i]['label'].shape[1] for i in (0, 7))
  column = drawn[:, step + 4 : step + 4 + width]  # the second: the label
  assert any(np.array_equal(column[top : top + height], expected) for top in range(len(column) - height))

  done = tiny.run([*command, str(tmp_path / 'nothing')])
  assert done.returncode == 1 and done.stderr.startswith('error: cannot read the prediction'), done.stderr
