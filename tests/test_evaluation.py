"""Scores on eight devices, on shared canvases, are those of each image alone; no pixel is lost or counted twice."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
import pytest
from cheap import quick_jit, random_params

from fcn_jax import config as config_lib
from fcn_jax import counting, evaluation, models
from fcn_jax.data import bands
from fcn_jax.data.dataset import IGNORE, Classes
from fcn_jax.errors import UserError
from fcn_jax.run import devices
from fcn_jax.run.directory import RunDirectory

CLASSES = 4
NAMES = ('sky', 'road', 'tree', 'house')
SEMANTIC = {'semantic': Classes(NAMES, ((0, 0, 0),) * 4)}
TWO_HEADS = SEMANTIC | {'geometric': Classes(('flat', 'upright'), ((0, 0, 0),) * 2)}


def blocks(rng, classes, size):
  """A label of blocks of 6x6 pixels, so that pixels are in different bands."""
  height, width = size
  return (
    rng.integers(0, classes, (height // 6 + 1, width // 6 + 1), np.uint8).repeat(6, 0).repeat(6, 1)[:height, :width]
  )


class RandomSplit:
  """Random images of the given sizes, with a label of each head."""

  def __init__(self, sizes, heads=SEMANTIC):
    rng = np.random.default_rng(0)
    self.images = []
    for number, size in enumerate(sizes):
      labels = {head: blocks(rng, len(classes), size) for head, classes in heads.items()}
      for label in labels.values():
        label[rng.random(size) < 0.2] = IGNORE
      rgb = rng.integers(0, 256, (*size, 3), np.uint8)
      self.images.append({'inputs': {'rgb': rgb}, 'labels': labels, 'id': f'image-{number}'})

  def __len__(self):
    return len(self.images)

  def __getitem__(self, index):
    return self.images[index]

  def sizes(self):
    return np.array([image['inputs']['rgb'].shape[:2] for image in self.images])

  def ids(self):
    return [image['id'] for image in self.images]


@dataclasses.dataclass(frozen=True)
class ByBrightness:
  """A network that compiles at once: the class depends on the red of a pixel, 0 to 255, and on the head."""

  heads: Mapping[str, int] = dataclasses.field(default_factory=lambda: {'semantic': CLASSES})
  platform: str = 'cpu'

  def apply(self, variables, inputs, size):
    assert inputs['rgb'].shape[0] == size.shape[0]
    zero = 0 * variables['params']['bias']
    red = inputs['rgb'][..., 0]
    return {head: jax.nn.one_hot(red // (256 // classes), classes) + zero for head, classes in self.heads.items()}


PARAMS = {'bias': np.zeros((), np.float32)}


def evaluator(network, canvases=1):
  return evaluation.Evaluator(network, batch_size=8, canvases=canvases, threads=2)


def score(split, network=None, canvases=1, **options):
  """What `ByBrightness` scores on a split."""
  return evaluator(network or ByBrightness(), canvases).score(devices.replicate(PARAMS), split, **options)


def slow_confusion(prediction, label, classes=CLASSES):
  matrix = np.zeros((classes, classes), np.int64)
  np.add.at(matrix, (label[label != IGNORE], prediction[label != IGNORE]), 1)
  return matrix


def slow_bands(split, predictions, head='semantic', classes=CLASSES):
  """Over all images, the confusion matrices within each band."""
  total = np.zeros((len(bands.WIDTHS), classes, classes), np.int64)
  for image, prediction in zip(split.images, predictions, strict=True):
    label = image['labels'][head]
    for band in range(len(total)):
      total[band] += slow_confusion(prediction, np.where(bands.narrowest(label) > band, IGNORE, label), classes)
  return total


def test_eight_devices_take_part():
  assert jax.device_count() == 8


def test_scores_are_those_of_each_image_alone():
  """Three sizes on two canvases, and eleven images on eight devices, so that fillers are needed."""
  split = RandomSplit([(20, 40), (33, 18), (1, 1)] * 3 + [(33, 18), (20, 40)])
  config = config_lib.default('scenes')
  config.model.update(width=1 / 16, fc_channels=256, norm='none', upsample='learned_random')
  net = models.build(config.model, {'rgb': 3}, SEMANTIC)
  params = random_params(net, net.example_inputs())
  alone = quick_jit(lambda inputs: net.apply({'params': params}, inputs)['semantic'][0])
  expected, predictions = [], []
  for image in split.images:
    logits = np.asarray(alone({'rgb': image['inputs']['rgb'][None]}))
    second, first = np.moveaxis(np.sort(logits), -1, 0)[-2:]
    label = image['labels']['semantic']
    label[first - second < 1e-3] = IGNORE  # rounding may decide here
    predictions.append(logits.argmax(-1))
    expected.append(slow_confusion(predictions[-1], label))

  scored = evaluator(net, canvases=2).score(devices.replicate(params), split)
  matrices = scored.matrices['semantic']
  assert matrices.dtype == scored.bands['semantic'].dtype == np.int64
  assert np.array_equal(matrices, expected)
  assert np.array_equal(scored.bands['semantic'], slow_bands(split, predictions))
  assert np.all(matrices.sum((0, 1)) > 100)  # all classes are predicted


@pytest.mark.parametrize('count', [1, 8, 9])
def test_fillers_do_not_count(count):
  split = RandomSplit([(5, 7), (40, 3), (6, 6)] * 3)
  split.images = split.images[:count]
  expected = [slow_confusion(x['inputs']['rgb'][..., 0] // 64, x['labels']['semantic']) for x in split.images]
  assert np.array_equal(score(split).matrices['semantic'], expected)


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])  # both ways to count give the same numbers
def test_each_head_is_scored_with_its_labels(platform):
  split = RandomSplit([(5, 7), (19, 23)] * 5, TWO_HEADS)
  scored = score(split, ByBrightness({'semantic': 4, 'geometric': 2}, platform))
  for head, classes in (('semantic', 4), ('geometric', 2)):
    of_images = [(x['inputs']['rgb'][..., 0] // (256 // classes), x['labels'][head]) for x in split.images]
    assert np.array_equal(scored.matrices[head], [slow_confusion(*x, classes) for x in of_images])
    predictions = [prediction for prediction, _ in of_images]
    assert np.array_equal(scored.bands[head], slow_bands(split, predictions, head, classes))
    assert scored.examples[0]['predictions'][head].max() == classes - 1


@pytest.mark.parametrize('fault', ['drops', 'doubles'])
def test_a_pixel_lost_or_counted_twice_is_noticed(monkeypatch, fault):
  right = counting._pairs

  def wrong(row, column, rows, columns):
    if fault == 'drops':
      return right(row.at[0, 0, 0].set(rows), column, rows, columns)
    return right(row, column, rows, columns).at[0, 1, 1].add(1)

  split = RandomSplit([(5, 7)])
  split[0]['labels']['semantic'][0, 0] = 1
  monkeypatch.setattr(counting, '_pairs', wrong)
  with pytest.raises(AssertionError, match='labeled pixels, but'):
    score(split)


def test_examples_are_spread_over_the_split_at_their_original_sizes():
  split = RandomSplit([(5, 7), (40, 3), (6, 6), (33, 33)] * 5)
  for example, number in zip(score(split, canvases=2).examples, (0, 3, 7, 11, 15, 19), strict=True):
    assert example['index'] == number
    image, label = split[number]['inputs']['rgb'], split[number]['labels']['semantic']
    assert np.array_equal(example['inputs']['rgb'], image)
    assert np.array_equal(example['labels']['semantic'], label)
    assert np.array_equal(example['predictions']['semantic'], image[..., 0] // 64)


def test_predictions_come_back_only_for_batches_with_an_image_that_needs_them():
  split, seen = RandomSplit([(5, 7)] * 64), {}
  score(split, predicted=[17], each=lambda image: seen.update({image['index']: image.get('predictions')}))
  assert seen.keys() == set(range(64))
  batches = {number // 8 for number, found in seen.items() if found}
  assert batches == {i // 8 for i in (0, 12, 25, 37, 50, 63, 17)}  # of the examples, and of image 17
  assert np.array_equal(seen[17]['semantic'], split[17]['inputs']['rgb'][..., 0] // 64)


def test_in_a_split_of_few_images_all_are_examples():
  split = RandomSplit([(5, 7), (6, 6)])
  assert [example['labels']['semantic'].shape for example in score(split).examples] == [(5, 7), (6, 6)]


def test_scoring_can_be_stopped_between_images_and_then_returns_nothing():
  answers = iter([False, True])
  assert score(RandomSplit([(5, 7)] * 24), stop=lambda: next(answers)) is None
  assert next(answers, 'not called again') == 'not called again'


def test_the_files_and_fields_of_the_first_head_are_flat_and_others_have_its_name(tmp_path):
  split, directory = RandomSplit([(5, 7), (9, 3)], TWO_HEADS), RunDirectory(tmp_path)
  scored = score(split, ByBrightness({'semantic': 4, 'geometric': 2}))
  scores = evaluation.write(directory, 'test', split, scored, TWO_HEADS, step=7)
  endings = ('', '.json', '.npz', '.images.csv', '.confusion.png')
  assert {path.name for path in (tmp_path / 'eval').iterdir()} == {
    f'{stem}{ending}' for stem in ('test', 'test.geometric') for ending in endings
  }
  for stem, head in (('test', 'semantic'), ('test.geometric', 'geometric')):
    saved = directory.read_json(f'eval/{stem}.json', None)
    assert saved['step'] == 7 and saved['images'] == 2 and saved['mean_iou'] == scores[head]['mean_iou']
    with np.load(tmp_path / 'eval' / f'{stem}.npz') as arrays:
      assert np.array_equal(arrays['confusion'], scored.matrices[head])
      assert arrays['id'].tolist() == ['image-0', 'image-1']
    names = {path.name for path in (tmp_path / 'eval' / stem).iterdir()}
    assert names == {f'image-{i}.{kind}' for i in (0, 1) for kind in ('image.jpg', 'label.png', 'prediction.png')}
  row = evaluation.metrics_row(scores)
  assert row['eval/mean_iou'] == scores['semantic']['mean_iou']
  assert row['eval/geometric/mean_iou'] == scores['geometric']['mean_iou']
  assert row['eval/iou/sky'] == scores['semantic']['iou']['sky']
  assert row['eval/geometric/iou/flat'] == scores['geometric']['iou']['flat']


def test_a_split_without_labeled_pixels_cannot_be_scored(tmp_path):
  split = RandomSplit([(5, 7)])
  split[0]['labels']['semantic'][:] = IGNORE
  with pytest.raises(UserError, match='test has no labeled pixel to score; expected labels other than 255'):
    evaluation.write(RunDirectory(tmp_path), 'test', split, score(split), SEMANTIC, step=0)
