"""Configs that several experiment files start from."""

import ml_collections

from fcn_jax.config import default


def for_ablation(dataset: str) -> ml_collections.ConfigDict:
  """The default, on `scenes` short enough for 27 runs in half an hour on two cores."""
  config = default(dataset)
  if dataset == 'scenes':
    config.train.steps = 500
    config.eval.every = config.checkpoint.every = 250
  return config


def as_released(
  dataset: str, *, stride: int, lr: float, steps: int = 100_000, weights: str = ''
) -> ml_collections.ConfigDict:
  """The settings of the authors' solvers, of which `experiments/paper/` are variations.

  The loss is summed, a step has one picture, drawn with replacement, and the rate is fixed: `lr` on the sum. `weights`
  is for `init.weights`.
  """
  config = default(dataset)
  config.model.stride = stride
  config.model.geometry, config.model.norm, config.model.dropout = 'caffe', 'none', 0.5
  config.loss.reduction = 'sum'
  config.optim.update(name='sgd', lr=lr, momentum=0.99, weight_decay=5e-4, bias_lr=2.0, schedule='constant')
  config.optim.update(warmup=0, clip=0.0)
  config.train.steps, config.train.batch_size = steps, 1
  config.eval.every = config.checkpoint.every = 4000
  config.data.replacement = True
  if dataset != 'scenes':  # whose network is narrower than those that there are weights of
    config.init.weights = weights
  return config
