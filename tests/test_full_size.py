"""Where images were resized when they were read, predictions and scores are those of the size of the labels."""

import dataclasses

import numpy as np
import pytest
import untrained
from cheap import quick_jit
from command_line import call, flags_of
from photos import drawing, save
from PIL import Image
from test_evaluation import ByBrightness, RandomSplit, evaluator, score, slow_bands, slow_confusion

import fcn_jax
from fcn_jax import predict
from fcn_jax.data import resizing
from fcn_jax.data.builders.scenes import CLASSES
from fcn_jax.data.dataset import IGNORE
from fcn_jax.models.upsample import enlarge
from fcn_jax.run import devices


class Resized(RandomSplit):
  """A split of images that had other sizes: `full` are their labels."""

  def __init__(self, images, full):
    self.images, self.full = images, full

  def full_labels(self, index):
    return self.full[index]

  def full_sizes(self):
    return np.array([labels['semantic'].shape for labels in self.full])


def slow_enlarge(scores, size):
  """Bilinear along rows, then columns, in float64: [h, w, C] to [*size, C]."""
  for axis, length in enumerate(size):
    places = (np.arange(length) + 0.5) * scores.shape[axis] / length - 0.5
    known = np.arange(scores.shape[axis])
    scores = np.apply_along_axis(lambda line, at=places, x=known: np.interp(at, x, line), axis, scores)
  return scores


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])  # both ways to count
def test_labels_of_twice_the_size_are_counted_four_times(platform):
  """Of 0 and 1, bilinear enlargement by 2 has its maximum where the nearest pixel has it."""
  plain, found = RandomSplit([(20, 40), (33, 18), (1, 1)] * 3), []
  full = [{'semantic': x['labels']['semantic'].repeat(2, 0).repeat(2, 1)} for x in plain.images]
  for split in (plain, Resized(plain.images, full)):
    predictions = {}
    each = lambda image, to=predictions: to.update({image['index']: image['predictions']['semantic']})  # noqa: E731
    found.append((score(split, ByBrightness(platform=platform), predicted=range(9), each=each), predictions))
  (once, small), (twice, large) = found
  assert np.array_equal(twice.matrices['semantic'], 4 * once.matrices['semantic'])
  assert all(np.array_equal(large[index], small[index].repeat(2, 0).repeat(2, 1)) for index in range(9))
  for one, other in zip(once.examples, twice.examples, strict=True):  # they have the size of the images
    for kind in ('labels', 'predictions'):
      assert np.array_equal(one[kind]['semantic'], other[kind]['semantic'])


@dataclasses.dataclass(frozen=True)
class ByColor(ByBrightness):
  """A network whose scores are mixtures of the colors of a pixel."""

  def apply(self, variables, inputs, size):
    return {'semantic': inputs['rgb'] @ MIXTURE + 0 * variables['params']['bias']}


MIXTURE = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


def test_scores_are_enlarged_bilinearly_and_counted_at_the_size_of_the_labels():
  """Eleven images on eight devices and two canvases; one image keeps its size."""
  sizes, full = [(20, 40), (33, 18), (12, 12)], [(47, 93), (80, 44), (12, 12)]
  plain, labels = (RandomSplit((x * 4)[:11]).images for x in (sizes, full))
  expected, predictions = [], []
  for image, of_label in zip(plain, labels, strict=True):
    label = of_label['labels']['semantic']
    scores = slow_enlarge(image['inputs']['rgb'] @ MIXTURE.astype(float), label.shape)
    second, first = np.moveaxis(np.sort(scores), -1, 0)[-2:]
    label[first - second < 0.01] = IGNORE  # rounding may decide here
    predictions.append(scores.argmax(-1).astype(np.uint8))
    expected.append(slow_confusion(predictions[-1], label))
  scored = score(Resized(plain, [x['labels'] for x in labels]), ByColor(), canvases=2)
  assert np.array_equal(scored.matrices['semantic'], expected)
  counted = RandomSplit([])
  counted.images = labels
  assert np.array_equal(scored.bands['semantic'], slow_bands(counted, predictions))
  for example in scored.examples:
    size = example['inputs']['rgb'].shape[:2]
    nearest = resizing.nearest(predictions[example['index']], size)
    right = example['labels']['semantic'] != IGNORE
    assert np.array_equal(example['predictions']['semantic'][right], nearest[right])


def test_padding_does_not_change_enlarged_scores():
  x = np.random.default_rng(0).normal(size=(9, 11, 3)).astype(np.float32)
  padded = np.full((16, 16, 3), np.nan, np.float32)
  padded[:9, :11] = x
  found = enlarge(padded, np.array([9, 11]), np.array([30, 25]), np.arange(32), 32)
  assert found.shape == (32, 32, 3)
  np.testing.assert_allclose(found[:30, :25], slow_enlarge(x, (30, 25)), atol=1e-3)


SIZES = [(90, 131), (64, 40), (20, 30), (90, 131)]  # two are resized to different sizes, one is small


@pytest.mark.slow
def test_predictions_and_evaluation_agree_and_have_the_original_sizes(tmp_path):
  written = untrained.write(tmp_path / 'run', name='my.data', data__resize=48)
  alone = quick_jit(lambda x: written.model.apply({'params': written.params}, {'rgb': x[None]})['semantic'][0])
  images, expected, split = [drawing(*size, seed) for seed, size in enumerate(SIZES)], [], Resized([], [])
  for number, image in enumerate(images):
    save(tmp_path / 'in' / f'{number}.png', image)
    label = image[..., 0] % 8
    inputs, labels = resizing.resized({'rgb': image}, {'semantic': label}, 48)
    expected.append(slow_enlarge(np.asarray(alone(inputs['rgb'])), label.shape))
    second, first = np.moveaxis(np.sort(expected[-1]), -1, 0)[-2:]
    label[first - second < 1e-3] = IGNORE  # rounding may decide here
    split.images.append({'inputs': inputs, 'labels': labels, 'id': f'{number}'})
    split.full.append({'semantic': label})

  out = tmp_path / 'out'
  with flags_of(predict):
    options = {'workdir': written.workdir, 'out': str(out), 'heatmaps': True, 'save_scores': True}
    assert call(predict, tmp_path / 'in', **options) == 0
  scored = evaluator(written.model, canvases=2).score(devices.replicate(written.params), split)
  run = fcn_jax.load_run(written.workdir)
  for number, (labels, size) in enumerate(zip(run.predict(images), SIZES, strict=True)):
    with Image.open(out / f'{number}.png') as opened:
      prediction = np.asarray(opened)
    with np.load(out / f'{number}.npz') as heatmaps, np.load(out / f'{number}.scores.npz') as scores:
      np.testing.assert_allclose(scores['scores'], expected[number], atol=1e-3)
      assert heatmaps['probabilities'].shape == (*size, len(CLASSES))
      assert np.array_equal(heatmaps['probabilities'].argmax(-1), prediction)
    counts = split.full[number]['semantic'] != IGNORE
    assert prediction.shape == labels.shape == size and np.array_equal(prediction[counts], labels[counts])
    assert np.array_equal(prediction[counts], expected[number].argmax(-1)[counts])
    matrix = slow_confusion(prediction, split.full[number]['semantic'], len(CLASSES))
    assert np.array_equal(scored.matrices['semantic'][number], matrix)
  assert np.count_nonzero(scored.matrices['semantic'].sum((0, 1)) > 1000) > 1, 'a network that predicts one class'
