"""Scores on eight devices, on shared canvases, are those of each picture alone; no pixel is lost or counted twice."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from cheap import quick_jit, random_params

from fcn_jax import config as configs
from fcn_jax import evaluation
from fcn_jax.data.dataset import IGNORE
from fcn_jax.models.fcn import FCN
from fcn_jax.models.vgg import VGG
from fcn_jax.run import devices

CLASSES = 4


class Drawn:
  """Random pictures of the given sizes, as `pipeline.Pictures` has them."""

  def __init__(self, sizes):
    rng = np.random.default_rng(0)
    self._pictures = []
    for size in sizes:
      label = rng.integers(0, CLASSES, size, np.uint8)
      label[rng.random(size) < 0.2] = IGNORE
      self._pictures.append({'image': rng.integers(0, 256, (*size, 3), np.uint8), 'label': label})

  def __len__(self):
    return len(self._pictures)

  def __getitem__(self, index):
    return self._pictures[index]

  def sizes(self):
    return np.array([picture['label'].shape for picture in self._pictures])


@dataclasses.dataclass(frozen=True)
class ByBrightness:
  """A network that compiles at once: the class is the quarter of 0..255 that the pixel's red lies in."""

  name: str  # each test its own, since eval steps are kept by network

  def apply(self, variables, images, size):
    assert images.shape[0] == size.shape[0]
    return jax.nn.one_hot(images[..., 0] // 64, CLASSES) + 0 * variables['params']['bias']


PARAMS = {'bias': np.zeros((), np.float32)}


def settings(batch_size, canvases):
  config = configs.default('scenes')
  config.eval.update(batch_size=batch_size, canvases=canvases)
  return config


def slow_confusion(prediction, label):
  matrix = np.zeros((CLASSES, CLASSES), np.int64)
  np.add.at(matrix, (label[label != IGNORE], prediction[label != IGNORE]), 1)
  return matrix


def test_eight_devices_take_part():
  assert jax.device_count() == 8


def test_scores_are_those_of_each_picture_alone():
  """Three sizes on two canvases, and eleven pictures on eight devices, so that fillers are needed."""
  pictures = Drawn([(20, 40), (33, 18), (1, 1)] * 3 + [(33, 18), (20, 40)])
  trunk = VGG(width=1 / 16, fc_channels=256)
  net = FCN(CLASSES, trunk, stride=8, upsample='learned_random', std=(64.0, 64.0, 64.0))
  params = random_params(net, np.zeros((1, 1, 1, 3), np.uint8))
  alone = quick_jit(lambda image: net.apply({'params': params}, image[None])[0])
  expected = []
  for picture in (pictures[i] for i in range(len(pictures))):
    logits = np.asarray(alone(picture['image']))
    second, first = np.moveaxis(np.sort(logits), -1, 0)[-2:]
    picture['label'][first - second < 1e-3] = IGNORE  # rounding may decide here
    expected.append(slow_confusion(logits.argmax(-1), picture['label']))

  matrices = evaluation.score(net, devices.replicate(params), pictures, settings(8, 2), CLASSES).matrices
  assert matrices.dtype == np.int64
  assert np.array_equal(matrices, expected)
  assert np.all(matrices.sum((0, 1)) > 100)  # all classes are predicted


@pytest.mark.parametrize('count', [1, 8, 9])
def test_fillers_do_not_count(count):
  pictures = Drawn([(5, 7), (40, 3), (6, 6)] * 3)
  pictures._pictures = pictures._pictures[:count]
  scored = evaluation.score(ByBrightness('fillers'), devices.replicate(PARAMS), pictures, settings(8, 1), CLASSES)
  expected = [slow_confusion(p['image'][..., 0] // 64, p['label']) for p in pictures._pictures]
  assert np.array_equal(scored.matrices, expected)


@pytest.mark.parametrize('fault', ['drops', 'doubles'])
def test_a_pixel_lost_or_counted_twice_is_noticed(monkeypatch, fault):
  right = evaluation.confusion

  def wrong(prediction, label, classes):
    if fault == 'drops':
      return right(prediction, label.at[0, 0, 0].set(IGNORE), classes)
    return right(prediction, label, classes).at[0, 1, 1].add(1)

  pictures = Drawn([(5, 7)])
  pictures[0]['label'][0, 0] = 1
  score = functools.partial(evaluation.score, ByBrightness(fault), devices.replicate(PARAMS), pictures, settings(8, 1))
  monkeypatch.setattr(evaluation, 'confusion', wrong)
  with pytest.raises(AssertionError, match='labelled pixels, but'):
    score(CLASSES)


def test_examples_are_spread_over_the_split_at_their_own_sizes():
  pictures = Drawn([(5, 7), (40, 3), (6, 6), (33, 33)] * 5)
  scored = evaluation.score(ByBrightness('examples'), devices.replicate(PARAMS), pictures, settings(8, 2), CLASSES)
  for example, number in zip(scored.examples, (0, 3, 7, 11, 15, 19), strict=True):
    assert example['index'] == number
    for name, value in pictures[number].items():
      assert np.array_equal(example[name], value)
    assert np.array_equal(example['prediction'], pictures[number]['image'][..., 0] // 64)


def test_more_examples_than_pictures_are_all_pictures():
  pictures = Drawn([(5, 7), (6, 6)])
  scored = evaluation.score(ByBrightness('few'), devices.replicate(PARAMS), pictures, settings(8, 1), CLASSES)
  assert [example['label'].shape for example in scored.examples] == [(5, 7), (6, 6)]


def test_it_stops_between_batches_and_returns_nothing():
  pictures = Drawn([(5, 7)] * 24)
  answers = iter([False, True])
  arguments = ByBrightness('stop'), devices.replicate(PARAMS), pictures, settings(8, 1), CLASSES
  assert evaluation.score(*arguments, stop=lambda: next(answers)) is None
  assert next(answers, 'asked no more') == 'asked no more'
