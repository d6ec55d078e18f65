"""What seems to be wrong with a training, in plain words, from the rows of `metrics.jsonl` and confusion matrices.

Each warning has the usual causes and what to try. It belongs to the first evaluation at which the rows so far show it,
so a run logs it once, also if it resumes, unless it repeats this evaluation.
"""

import logging

import numpy as np

from fcn_jax import metrics
from fcn_jax.data.dataset import Data
from fcn_jax.errors import UserError
from fcn_jax.run import saved
from fcn_jax.run.directory import RunDirectory

logger = logging.getLogger(__name__)

# An IoU or a recall below this is as good as none. At the end of 47 runs of 300 to 800 steps, the lowest IoU of a class
# was at most 0.005 (5 runs) or at least 0.03.
_NONE = 0.01
# Evaluations in a row that a collapse must last: one may catch a network that is about to learn a second class.
_COLLAPSED = 2
# Of evaluations and losses, only those after twice the warmup count: before, the network has hardly been trained.
_WARMUPS = 2
# Logged losses whose mean is compared. In these 47 runs, the loss of a batch varied by 9 to 18 %, their mean by a third
# of that.
_LOSSES = 10
# A loss above this share of the chance level has learned nothing. At the first evaluation of these runs, after 50 to
# 400 steps, it was 0.19 to 0.85.
_CHANCE = 0.95
# At chance, the mean accuracy of C classes is 1 / C; this factor allows for the first traces of a second class. If the
# chance level is a plain number, half the way from 1 / C to 1 is allowed: the largest of nearly equal scores is often
# right. The level is that of the evaluated split, so a network that is right more often may have an easier one.
_ACCURACY = 1.5
# Evaluations in a row that must be worse than the best one, and by how much. The best of many evaluations is partly
# luck, so a small or a short fall means little.
_WORSE, _FALL = 3, 0.02
_LOSS_FALL = 0.95  # the training loss still falls if it is below this share of that at the best evaluation
_NAMED = 10  # classes that a warning lists


def at_evaluation(rows: list[dict], config, scores: dict[str, dict], class_weights: dict) -> list[str]:
  """Logs the warnings that belong to the last evaluation, and returns them.

  Args:
    rows: of `metrics.jsonl`, up to this evaluation.
    config: of the run.
    scores: of each head, from `evaluation.summarize`.
    class_weights: for each head, the weights of the classes in the loss, [C]; None if all classes weigh 1.
  """
  shares = {head: np.array(list(of_head['share'].values())) for head, of_head in scores.items()}
  level = chance_level(config.loss, shares, class_weights)
  new = _warnings(rows, config, shares, level)
  for end in reversed(range(1, len(rows))):  # most evaluations show nothing, or what the one before shows: no search
    if not new:
      break
    if 'eval/mean_iou' in rows[end - 1]:
      earlier = _warnings(rows[:end], config, shares, level)
      new = {kind: text for kind, text in new.items() if kind not in earlier}
  for text in new.values():
    logger.warning(text)
  return list(new.values())


def at_end(directory: RunDirectory, data: Data, rows: list[dict], config, class_weights: dict) -> list[str]:
  """Logs the warning on classes that were never learned; returns all warnings of a run that has ended.

  If the confusion matrices are missing or damaged, a warning says so, and nothing is returned: the training is over.

  Args:
    directory: of the run, with the confusion matrices of its last evaluation.
    data: the data set.
    rows: of `metrics.jsonl`.
    config: of the run.
    class_weights: as in `at_evaluation`.
  """
  if not directory.writes:  # another host has the files
    return []
  shares, unlearned = {}, []
  for head, classes in data.heads.items():
    path = directory / 'eval' / f'{saved.file_stem(data.watched, head, data.heads)}.npz'
    try:
      matrix = saved.read_arrays(path)['confusion'].sum(0)
    except UserError as error:
      logger.warning(f'warning: the run is not checked for signs of a failed training: {error}')
      return []
    shares[head] = matrix.sum(1) / matrix.sum()
    unlearned += filter(None, [never_learned(matrix, classes.names, data.watched)])
  for text in unlearned:
    logger.warning(text)
  return [text for _, text in found(rows, config, shares, class_weights)] + unlearned


def found(rows: list[dict], config, shares: dict[str, np.ndarray], class_weights: dict) -> list[tuple[int, str]]:
  """The warnings of a run so far, each with the step of the evaluation that it belongs to.

  Args:
    rows: of `metrics.jsonl`.
    config: of the run.
    shares: for each head, the share of the labeled pixels of each class, [C].
    class_weights: as in `at_evaluation`.
  """
  level, first = chance_level(config.loss, shares, class_weights), {}
  for end, row in enumerate(rows, 1):
    if 'eval/mean_iou' in row:
      for kind, text in _warnings(rows[:end], config, shares, level).items():
        first.setdefault(kind, (row['step'], text))
  return sorted(first.values())


def _warnings(rows: list[dict], config, shares: dict[str, np.ndarray], level: float | None) -> dict[str, str]:
  """What the last evaluation in the rows shows, by kind; `level` is from `chance_level`."""
  texts = {head: collapsed(rows, config, head, '' if n == 0 else f'{head}/') for n, head in enumerate(shares)}
  texts |= {'loss': at_chance(rows, config, level), 'overfit': overfits(rows)}
  return {kind: text for kind, text in texts.items() if text}


def collapsed(rows: list[dict], config, head: str = '', prefix: str = '') -> str | None:
  """A warning if a head with the fields `eval/PREFIX...` predicts almost nothing but one class.

  It does in its last evaluations: no other class has an IoU above 1 %, and the mean accuracy is that of one class among
  two or more. A run that is evaluated only once needs only one such evaluation.
  """
  scored = _evaluations(rows)
  late = [row for row in scored if row['step'] >= _WARMUPS * config.optim.warmup][-_COLLAPSED:]
  if len(late) < (1 if rows[-1]['step'] == config.train.steps and len(scored) == 1 else _COLLAPSED):
    return None
  for row in late:
    iou = _iou(row, prefix)
    *others, largest = sorted(iou, key=iou.get)
    # Where the labels have one class only, a network that finds it has a mean accuracy near 1.
    if not others or iou[others[-1]] >= _NONE or row[f'eval/{prefix}mean_accuracy'] > 0.5 + _NONE:
      return None
  of = f' of head {head}' if prefix else ''
  return (
    f'step {late[-1]["step"]}: the network{of} predicts almost nothing but {largest}: no other class has an IoU above '
    f'{100 * _NONE:.0f} % (last {len(late)} evaluations). Usual causes: a learning rate that is too high, or too low '
    '(try optim.lr a third, and three times as high); images and masks that do not belong together (see '
    'eval/examples.png); one class with most of the pixels (try loss.balance=median_frequency)'
  )


def never_learned(matrix: np.ndarray, names: tuple[str, ...], split: str) -> str | None:
  """A warning that names the classes of a confusion matrix [C, C] that are in its labels, but (almost) never found.

  That is, with a recall below 1 %.
  """
  scores = metrics.summarize(matrix, names)
  lost = [name for name in names if scores['recall'][name] is not None and scores['recall'][name] < _NONE]
  if not lost:
    return None
  listed = []
  for name in lost[:_NAMED]:
    row = matrix[names.index(name)]
    taken = names[int(np.argmax(row))]
    listed.append(f'{name} ({100 * scores["share"][name]:.2g} % of the pixels, predicted as {taken})')
  more = f' and {len(lost) - _NAMED} more' if len(lost) > _NAMED else ''
  which = 'each class' if len(lost) > 1 else 'the class'
  return (
    f'never learned: {", ".join(listed)}{more}. Fewer than {100 * _NONE:.0f} % of the pixels of {which} in {split} are '
    'found. What helps rare classes: loss.balance=inverse, more steps (train.steps), '
    'loss.name=cross_entropy+dice, data.crop_rare=0.5. If a class is frequent, check the training masks (python '
    '-m fcn_jax.data inspect) and try another optim.lr'
  )


def chance_level(loss, shares: dict[str, np.ndarray], class_weights: dict) -> float | None:
  """The loss of the best prediction that is the same for all pixels, or None if it is no plain number.

  For a mean cross entropy, the best prediction is the share of each class in the weight of all pixels, and its loss is
  the entropy of the shares: log C for C equally frequent classes. Losses of heads add up.

  Args:
    loss: the section of the config.
    shares: for each head, the share of the labeled pixels of each class, [C].
    class_weights: for each head, the weights of the classes, [C]; None if all classes weigh 1.
  """
  if loss.name != 'cross_entropy' or loss.reduction != 'mean':
    return None
  total = 0.0
  for head, share in shares.items():
    weight = class_weights[head]
    share = share if weight is None else share * weight
    share = share[share > 0] / max(share.sum(), 1e-30)
    total -= float(np.sum(share * np.log(share)))
  return total


def at_chance(rows: list[dict], config, level: float | None) -> str | None:
  """A warning if the training loss and the scores are those of a network that ignores its input.

  The loss is compared with `level`, from `chance_level`; if that is None, with the first losses of the run. In
  addition, the mean accuracy must be low: a run that starts from trained parameters has a low loss at once.
  """
  losses = [(row['step'], row['train/loss']) for row in rows if 'train/loss' in row]
  late = [x for step, x in losses if step >= _WARMUPS * config.optim.warmup][-_LOSSES:]
  evaluated = _evaluations(rows)[-1]
  chance = 1 / max(len(_iou(evaluated)), 1)
  if len(late) < _LOSSES or evaluated['eval/mean_accuracy'] > ((1 + chance) / 2 if level else _ACCURACY * chance):
    return None
  mean, first = float(np.mean(late)), float(np.mean([x for _, x in losses[:3]]))
  compared = f'the chance level of {level:.4g}' if level else f'{first:.4g} in the first steps'
  if mean < _CHANCE * (level or first):
    return None
  return (
    f'step {rows[-1]["step"]}: the training loss is {mean:.4g}, compared to {compared}: the network has learned '
    'almost nothing from the images so far. Usual causes: a learning rate that is too low, or so high that the network '
    'does not recover (try optim.lr three times, and a third as high, and optim.clip=1); no normalization in a network '
    'that starts from random parameters (model.norm=group); images and masks that do not belong together'
  )


def overfits(rows: list[dict]) -> str | None:
  """A warning if mean IoU stays below its best by two points, for three evaluations, while the training loss falls."""
  scored = [(row['step'], row['eval/mean_iou']) for row in _evaluations(rows)]
  best = max(range(len(scored)), key=lambda n: scored[n][1])
  step, highest = scored[best]
  if len(scored) - 1 - best < _WORSE or any(highest - x < _FALL for _, x in scored[-_WORSE:]):
    return None
  before, now = (_mean_loss(rows, scored[n - 1][0] if n else 0, scored[n][0]) for n in (best, len(scored) - 1))
  if before is None or now is None or now > _LOSS_FALL * before:
    return None
  return (
    f'step {scored[-1][0]}: mean IoU has fallen to {100 * scored[-1][1]:.2f} % from {100 * highest:.2f} % at step '
    f'{step}, while the training loss still falls (from {before:.4g} to {now:.4g}): the network overfits. What helps: '
    'fewer steps (train.steps, or train.patience), more images, more augmentation (data.flip, data.scale, data.blur), '
    'a smaller network (model.width), a larger optim.weight_decay'
  )


def _evaluations(rows: list[dict]) -> list[dict]:
  return [row for row in rows if 'eval/mean_iou' in row]


def _iou(row: dict, prefix: str = '') -> dict[str, float]:
  """The IoU of the classes that are in the labels or the predictions."""
  start = f'eval/{prefix}iou/'
  return {name.removeprefix(start): x for name, x in row.items() if name.startswith(start) and x is not None}


def _mean_loss(rows: list[dict], after: int, until: int) -> float | None:
  """The mean of the training losses that were logged after a step and until another."""
  losses = [row['train/loss'] for row in rows if 'train/loss' in row and after < row['step'] <= until]
  return float(np.mean(losses)) if losses else None
