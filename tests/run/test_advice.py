"""Each warning is given for a training that shows the fault, and not for one that nearly does."""

import logging
import re
import types

import numpy as np
import pytest

from fcn_jax import config as config_lib
from fcn_jax import files, metrics
from fcn_jax.data.dataset import Classes
from fcn_jax.run import advice
from fcn_jax.run.directory import RunDirectory

NAMES = ('sky', 'road', 'tree', 'pole')
SHARES = np.array([0.5, 0.3, 0.18, 0.02])
ENTROPY = float(-np.sum(SHARES * np.log(SHARES)))  # 1.09
WARMUP, STEPS = 40, 500


def config(**settings):
  made = config_lib.default('scenes')
  made.update_from_flattened_dict({'optim.warmup': WARMUP, 'train.steps': STEPS})
  made.update_from_flattened_dict({name.replace('__', '.'): value for name, value in settings.items()})
  return made


def losses(function, until=STEPS):
  """A row every ten steps; the loss is a function of the step, and noise of some percent."""
  rng = np.random.default_rng(0)
  return [{'step': s, 'train/loss': function(s) * (1 + 0.1 * rng.normal())} for s in range(10, until + 1, 10)]


def falling(step):
  return 1.4 * np.exp(-step / 100) + 0.2


def evaluation(step, *, recall, prefix=''):
  """The row of an evaluation with the recall of each class, whose other pixels are predicted as sky."""
  labeled = (10_000 * SHARES).round().astype(int)
  matrix = np.diag((labeled * recall).astype(int))
  matrix[:, 0] += labeled - matrix.sum(1)
  scores = metrics.summarize(matrix, NAMES)
  of_class = {f'iou/{name}': x for name, x in scores['iou'].items()}
  return {'step': step} | {
    f'eval/{prefix}{n}': x for n, x in ({m: scores[m] for m in metrics.METRICS} | of_class).items()
  }


def scored(step, mean_iou):
  return evaluation(step, recall=(1, 0.8, 0.8, 0.5)) | {'eval/mean_iou': mean_iou}


def found(rows, heads=('semantic',), **settings):
  """The steps and the first words of the warnings."""
  in_order = sorted(rows, key=lambda row: (row['step'], 'eval/mean_iou' in row))
  shares, weights = dict.fromkeys(heads, SHARES), dict.fromkeys(heads)
  warnings = advice.found(in_order, config(**settings), shares, weights)
  check_settings(' '.join(text for _, text in warnings))
  return warnings


def check_settings(text):
  """All settings that a warning names exist."""
  named = re.findall(r'(?<!\.)\b(?:data|eval|loss|model|optim|train)\.[a-z_]+', text)
  assert config_lib.flatten(config()).keys() >= set(named)


def about(warnings):
  kinds = {'almost nothing but': 'collapsed', 'training loss is': 'chance', 'has fallen': 'overfits'}
  return [(step, kind) for step, text in warnings for part, kind in kinds.items() if part in text]


ONE, TWO, GOOD = (1, 0, 0, 0), (1, 0.05, 0, 0), (1, 0.8, 0.8, 0)


@pytest.mark.parametrize(
  ('recalls', 'settings', 'expected'),
  [
    ({100: ONE, 200: ONE}, {}, [(200, 'collapsed')]),
    ({100: ONE, 200: ONE, 300: ONE, 400: GOOD}, {}, [(200, 'collapsed')]),  # once
    ({500: ONE}, {}, [(500, 'collapsed')]),  # the only evaluation, at the end
    ({100: ONE, 200: TWO}, {}, []),  # a second class appears
    ({100: ONE}, {}, []),  # not yet the second evaluation
    ({40: ONE, 70: ONE}, {}, []),  # the warmup has just ended
    ({400: GOOD, 500: ONE}, {}, []),
  ],
)
def test_a_network_that_predicts_one_class(recalls, settings, expected):
  rows = [evaluation(step, recall=recall) for step, recall in recalls.items()]
  warnings = found(losses(falling) + rows, **settings)
  assert about(warnings) == expected
  assert all('nothing but sky' in text and '(last ' in text and 'optim.lr' in text for _, text in warnings)


def test_the_second_head_may_collapse_alone():
  rows = [evaluation(s, recall=GOOD) | evaluation(s, recall=ONE, prefix='geometric/') for s in (100, 200)]
  ((step, text),) = found(losses(falling) + rows, heads=('semantic', 'geometric'))
  assert step == 200 and 'the network of head geometric predicts almost nothing but sky' in text


def test_labels_of_a_single_class_are_no_collapse():
  row = {'eval/mean_iou': 0.5, 'eval/mean_accuracy': 0.99, 'eval/iou/sky': 0.99, 'eval/iou/road': 0.0}
  assert found([row | {'step': 200}, row | {'step': 300}]) == []


@pytest.mark.parametrize(
  ('loss', 'recall', 'settings', 'expected'),
  [
    (lambda step: ENTROPY, TWO, {}, [(250, 'chance')]),
    (lambda step: np.log(4), TWO, {}, [(250, 'chance')]),  # as before the first step
    (lambda step: 0.85 * ENTROPY, TWO, {}, []),  # it has learned something
    (falling, TWO, {}, []),
    (lambda step: ENTROPY, TWO, {'optim__warmup': 100}, []),  # the warmup has just ended
    (lambda step: ENTROPY, (1, 0.3, 0.3, 0), {}, [(250, 'chance')]),  # scores that hardly differ, but are often right
    (lambda step: ENTROPY, GOOD, {}, []),  # it has learned: the split is easier than the training images
    (lambda step: 0.8, TWO, {'loss__name': 'dice'}, [(250, 'chance')]),
    (lambda step: 0.8 - 0.2 * (step > 100), TWO, {'loss__name': 'dice'}, []),
    (lambda step: 0.3, GOOD, {'loss__name': 'dice'}, []),  # from trained parameters
    (lambda step: 30_000, TWO, {'loss__reduction': 'sum'}, [(250, 'chance')]),
  ],
)
def test_a_loss_at_chance_level(loss, recall, settings, expected):
  warnings = found([*losses(loss, until=250), evaluation(250, recall=recall)], **settings)
  assert about(warnings) == expected
  level = f'{ENTROPY:.4g}' if not settings else 'in the first steps'
  assert all(level in text and 'model.norm=group' in text for _, text in warnings)


def test_the_chance_level_is_the_smallest_loss_of_one_prediction_for_all_pixels():
  """With weights, of the weighted pixels; heads add up."""
  weights, loss = np.array([1, 2, 0, 4.0]), config().loss
  options = np.random.default_rng(0).dirichlet(SHARES * weights * 20 + 0.1, 20_000)
  with np.errstate(divide='ignore'):
    of_option = -(SHARES * weights)[[0, 1, 3]] @ np.log(options[:, [0, 1, 3]]).T / (SHARES @ weights)
  level = advice.chance_level(loss, {'a': SHARES}, {'a': weights})
  assert level <= of_option.min() < 1.01 * level
  both = advice.chance_level(loss, {'a': SHARES, 'b': np.full(8, 1 / 8)}, {'a': weights, 'b': None})
  assert both == pytest.approx(level + np.log(8))
  assert advice.chance_level(config(loss__name='focal').loss, {'a': SHARES}, {'a': None}) is None


@pytest.mark.parametrize(
  ('mean_ious', 'loss', 'expected'),
  [
    ((0.40, 0.50, 0.47, 0.47, 0.46), falling, [(500, 'overfits')]),
    ((0.40, 0.50, 0.49, 0.485, 0.485), falling, []),  # within what evaluations vary
    ((0.40, 0.50, 0.47, 0.49, 0.46), falling, []),  # it recovers
    ((0.40, 0.45, 0.50, 0.47, 0.46), falling, []),  # two evaluations so far
    ((0.40, 0.50, 0.47, 0.47, 0.46), lambda step: 0.5 + step / 1000, []),  # the training loss rises too
    ((0.40, 0.42, 0.46, 0.48, 0.50), falling, []),
  ],
)
def test_mean_iou_that_falls_while_the_training_loss_still_falls(mean_ious, loss, expected):
  warnings = found(losses(loss) + [scored(100 * n, x) for n, x in enumerate(mean_ious, 1)])
  assert about(warnings) == expected
  assert all('to 46.00 % from 50.00 % at step 200' in text for _, text in warnings)


def test_classes_that_are_never_learned_are_named_with_their_shares():
  matrix = np.array([[4995, 5, 0, 0], [0, 3000, 0, 0], [0, 1791, 9, 0], [196, 1, 0, 3]])
  text = advice.never_learned(matrix, NAMES, 'validation')
  assert text.startswith('never learned: tree (18 % of the pixels, predicted as road). Fewer than 1 % of the pixels of')
  assert 'loss.balance=inverse' in text and 'pole' not in text  # of which 1.5 % are found
  matrix[2] = [0, 1700, 100, 0]
  assert advice.never_learned(matrix, NAMES, 'validation') is None
  matrix[3] = 0  # in no label
  assert advice.never_learned(matrix, NAMES, 'validation') is None


def test_many_such_classes_are_counted():
  matrix = np.zeros((15, 15), int)
  matrix[:, 0] = 10
  assert 'class 10 (6.7 % of the pixels, predicted as class 0) and 4 more' in advice.never_learned(
    matrix, tuple(f'class {n}' for n in range(15)), 'test'
  )


def test_each_warning_is_logged_once_and_kept(tmp_path, caplog):
  """Also by a start that resumes between two evaluations, which has only the rows."""
  caplog.set_level(logging.WARNING)
  rows, logged = [], []
  matrix = np.array([[90, 0], [10, 0]])
  scores, weights = metrics.summarize(matrix, ('sky', 'pole')), {'semantic': None}
  row = {f'eval/{name}': scores[name] for name in metrics.METRICS} | {'eval/iou/sky': 0.9, 'eval/iou/pole': 0.0}
  for step in (100, 200, 300, 400):
    rows = [*map(dict, rows), {'step': step} | row]
    logged.append(len(advice.at_evaluation(rows, config(), {'semantic': scores}, weights)))
  assert logged == [0, 1, 0, 0] and len(caplog.messages) == 1
  with pytest.MonkeyPatch.context() as patch:  # of 1,000 evaluations, each would take longer than the one before
    searched, overfits = [], advice.overfits
    patch.setattr(advice, 'overfits', lambda rows: searched.append(len(rows)) or overfits(rows))
    advice.at_evaluation(rows, config(), {'semantic': scores}, weights)
  assert len(searched) == 2
  directory = RunDirectory(tmp_path)
  directory.write('eval/validation.npz', files.npz(confusion=matrix[None], id=['a']))
  data = types.SimpleNamespace(watched='validation', heads={'semantic': Classes(('sky', 'pole'), ((0, 0, 0),) * 2)})
  kept = advice.at_end(directory, data, rows, config(), weights)
  assert kept == caplog.messages and 'never learned: pole (10 % of the pixels, predicted as sky)' in kept[1]
  assert advice.at_end(RunDirectory(tmp_path, writes=False), data, rows, config(), weights) == []
  check_settings(kept[1])
