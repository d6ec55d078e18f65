"""`docs/grid.py`, which draws the figure of the README."""

import sys

import numpy as np
import tiny
from PIL import Image

from fcn_jax import config
from fcn_jax.data import dataset
from fcn_jax.images import colorize


def test_the_figure_shows_images_labels_predictions_and_errors(tmp_path):
  data = config.default('scenes').data
  data.dir = tiny.prepare(tmp_path / 'data')
  loaded = dataset.load(data)
  shown, classes = loaded.splits['validation'], loaded.heads['semantic']
  wrong = 0  # pixels of the last network in the images that are shown, the first and the last
  for index in range(len(shown)):
    label, name = shown[index]['labels']['semantic'], shown[index]['id']
    for folder, prediction in (('right', label), ('noise', np.where(np.indices(label.shape).sum(0) % 3, label, 0))):
      (tmp_path / folder).mkdir(exist_ok=True)
      Image.fromarray(prediction.astype(np.uint8)).save(tmp_path / folder / f'{name}.png')
    if index in (0, len(shown) - 1):
      wrong += np.count_nonzero((prediction != label) & (label != classes.ignore))

  command = [sys.executable, f'{tiny.ROOT}/docs/grid.py', f'--config={tiny.ROOT}/experiments/fcn8s.py']
  command += [f'--config.data.dir={data.dir}', '--images=2', f'--out={tmp_path}/grid.png']

  def draw(*folders):
    done = tiny.run([*command, *(str(tmp_path / folder) for folder in folders)])
    assert done.returncode == 0, done.stderr
    drawn = np.asarray(Image.open(tmp_path / 'grid.png'))
    return drawn, np.count_nonzero((drawn == (200, 30, 30)).all(-1))

  drawn, red = draw('noise', 'right')
  assert red == 0, 'a prediction that is equal to the label has no errors'
  height, width = shown[0]['labels']['semantic'].shape
  step = 4 + max(shown[i]['inputs']['rgb'].shape[1] for i in (0, len(shown) - 1))
  noise = np.asarray(Image.open(tmp_path / 'noise' / f'{shown[0]["id"]}.png'))
  expected = [shown[0]['inputs']['rgb']]
  expected += [colorize(x, classes.palette) for x in (shown[0]['labels']['semantic'], noise)]
  for column, part in enumerate(expected):
    strip = drawn[:, column * step : column * step + width]
    assert any(np.array_equal(strip[top : top + height], part) for top in range(len(strip) - height))
  assert draw('right', 'noise')[1] == wrong > 0

  done = tiny.run([*command, str(tmp_path / 'nothing')])
  assert done.returncode == 1 and done.stderr.startswith('error: cannot read '), done.stderr
  done = tiny.run(command)
  assert done.returncode == 1 and done.stderr.startswith('error: no predictions; expected folders'), done.stderr
