"""`predict` writes exactly what the network predicts, for images of any size."""

import io
import pathlib
import tempfile

import numpy as np
import pytest
import untrained
from absl.testing import flagsaver
from command_line import call, flags_of
from photos import drawing, rotated, save
from PIL import Image
from rich.console import Console

from fcn_jax import image_files, predict
from fcn_jax.data.builders.scenes import CLASSES
from fcn_jax.errors import UserError
from fcn_jax.run import progress


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return untrained.write(tmp_path_factory.mktemp('predict') / 'run', model__std=(64.0, 64.0, 64.0))


@pytest.fixture(scope='module', autouse=True)
def flags():
  with flags_of(predict):
    yield


@pytest.fixture(scope='module')
def predicted(run, tmp_path_factory):
  """A folder of several kinds of images: what people see in each, by name, and the folder of predictions."""
  folder = tmp_path_factory.mktemp('images')
  save(folder / 'in' / 'one.png', drawing(1, 1))
  save(folder / 'in' / 'large.png', drawing(150, 70, 1))  # larger than the images of the data set
  save(folder / 'in' / 'sub' / 'photo.jpg', drawing(33, 50, 2), exif=rotated(6))
  save(folder / 'in' / 'sub' / 'glass.webp', np.dstack([drawing(20, 30, 3), drawing(20, 30, 4)[..., :1]]))
  out = folder / 'out'
  assert call(predict, folder / 'in', workdir=run.workdir, out=str(out), heatmaps=True, save_scores=True) == 0
  names = ('one.png', 'large.png', 'sub/photo.jpg', 'sub/glass.webp')
  return {name.split('.')[0]: image_files.read(folder / 'in' / name) for name in names}, out


def test_predictions_are_those_of_the_network_on_each_image_alone(run, predicted):
  """All four images share a canvas."""
  images, out = predicted
  assert images['sub/photo'].shape == (50, 33, 3)
  seen = set()
  for name, image in images.items():
    expected = run.alone({'rgb': image})
    with np.load(out / f'{name}.npz') as file:
      assert set(file) == {'probabilities', 'classes'}
      assert tuple(file['classes']) == CLASSES.names
      found = file['probabilities']
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    with np.load(out / f'{name}.scores.npz') as file:
      scores = file['scores']
    assert scores.dtype == np.float32
    np.testing.assert_allclose(
      np.exp(scores - scores.max(-1, keepdims=True)), found / found.max(-1, keepdims=True), atol=1e-5
    )
    with Image.open(out / f'{name}.png') as opened:
      assert opened.mode == 'P' and opened.format == 'PNG'
      numbers, colors = np.asarray(opened), np.array(opened.getpalette()).reshape(-1, 3)
    assert np.array_equal(numbers, found.argmax(-1))
    assert colors[: len(CLASSES)].tolist() == [list(color) for color in CLASSES.palette]
    seen |= set(np.unique(numbers))
  assert len(seen) > 3, 'the network predicts one class almost everywhere: choose another seed'


def test_the_overlay_is_the_image_under_its_class_colors_and_a_legend(predicted):
  images, out = predicted
  for name, image in images.items():
    with Image.open(out / f'{name}.png') as opened:
      colors = np.array(CLASSES.palette)[np.asarray(opened)]
    with Image.open(out / f'{name}.overlay.png') as opened:
      overlay = np.asarray(opened)
    height, width = image.shape[:2]
    assert np.array_equal(overlay[:height, :width], (image.astype(int) + colors) // 2)
    for color in CLASSES.palette:
      assert (overlay[height:] == color).all(-1).sum() >= 50, 'a swatch in the legend'


def test_heatmaps_show_the_probability_of_each_class(predicted):
  images, out = predicted
  for name in images:
    with np.load(out / f'{name}.npz') as file:
      probabilities = file['probabilities']
    for number, label in enumerate(CLASSES.names):
      with Image.open(out / f'{name}.{label}.png') as opened:
        assert opened.mode == 'L'
        assert np.abs(np.asarray(opened) / 255 - probabilities[..., number]).max() <= 0.5 / 255 + 1e-6


def test_nothing_else_is_written(predicted):
  images, out = predicted
  endings = ('png', 'overlay.png', 'npz', 'scores.npz', *(f'{label}.png' for label in CLASSES.names))
  expected = {f'{name}.{ending}' for name in images for ending in endings}
  assert {str(path.relative_to(out)) for path in out.rglob('*') if path.is_file()} == expected


def test_nothing_is_left_that_was_not_asked_for(run, tmp_path, monkeypatch):
  """No temporary folders of libraries, and nothing new in the run."""
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  image = save(tmp_path / 'a.png', drawing(150, 70))
  before = sorted(pathlib.Path(run.workdir).rglob('*'))
  assert call(predict, image, workdir=run.workdir, out=str(tmp_path / 'out')) == 0
  assert sorted(path.name for path in tmp_path.rglob('*')) == ['a.overlay.png', 'a.png', 'a.png', 'out']
  assert sorted(pathlib.Path(run.workdir).rglob('*')) == before


def test_a_run_without_a_checkpoint_is_an_error(run, tmp_path):
  image = save(tmp_path / 'a.png', drawing(3, 3))
  (tmp_path / 'run').mkdir()
  for name in ('config.json', 'data.json'):
    with open(f'{run.workdir}/{name}') as file:
      (tmp_path / 'run' / name).write_text(file.read())
  for which, words in (('last', 'run has no checkpoint'), ('best', 'run has no best checkpoint')):
    with flagsaver.flagsaver(workdir=str(tmp_path / 'run'), checkpoint=which), pytest.raises(UserError, match=words):
      predict.main([str(image)])


def test_a_network_with_several_streams_is_an_error_that_names_the_api(tmp_path):
  inputs, normalization = {'rgb': 3, 'depth': 1}, {'model__mean': (0.0,) * 4, 'model__std': (1.0,) * 4}
  two = untrained.write(tmp_path / 'run', inputs=inputs, name='my.data', **normalization)
  image = save(tmp_path / 'a.png', drawing(3, 3))
  words = r'rgb with 3, depth with 1 channels, .* use fcn_jax\.load_run'
  with flagsaver.flagsaver(workdir=two.workdir), pytest.raises(UserError, match=words):
    predict.main([str(image)])


@pytest.mark.parametrize('terminal', [False, True])
def test_a_progress_bar_is_shown_on_a_terminal_only(run, tmp_path, monkeypatch, terminal):
  output = io.StringIO()
  monkeypatch.setattr(progress, 'console', Console(file=output, width=100, force_terminal=terminal))
  monkeypatch.setattr(progress, '_AFTER', 0)
  monkeypatch.setattr(progress, '_EVERY', 1e9)
  save(tmp_path / 'in' / 'a.png', drawing(150, 70))
  save(tmp_path / 'in' / 'b.png', drawing(150, 70))
  assert call(predict, tmp_path / 'in', workdir=run.workdir, out=str(tmp_path / 'out')) == 0
  if terminal:
    assert 'image 2/2' in output.getvalue()
  else:
    assert output.getvalue() == ''  # the last line is a message of the logger
