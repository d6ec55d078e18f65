"""Batches or one picture a step, and how much momentum (PAMI'16, the comparison of optimisers); two seeds.

  python -m fcn_jax.sweep --config=experiments/paper/batch_momentum.py --workdir=runs/batch-momentum

The paper compares accumulated gradients (20 pictures, momentum 0.9), online learning (1, 0.9) and online learning with
heavy momentum (1, 0.99), which is best. For `scenes` the batch is 8. What a picture moves the weights by in the end is
rate / (batch * (1 - momentum)), the same for all three; what differs is over how many pictures the momentum averages,
batch / (1 - momentum): 80, 10 and 100. All see 4000 pictures. SGD at a fixed rate, unclipped.
"""

from fcn_jax.config.recipes import for_ablation
from fcn_jax.sweep.space import axis, product, zipped

PICTURES, STEP = 4000, 0.0625  # seen by each run; what one of them moves the weights by, times its gradient


def get_config(dataset='scenes'):
  config = for_ablation(dataset)
  config.optim.update(name='sgd', schedule='constant', warmup=0, clip=0.0, weight_decay=5e-4)
  config.eval.every = config.checkpoint.every = 500
  return config


def sweep():
  batches, momenta = [8, 1, 1], [0.9, 0.9, 0.99]
  rates = [round(STEP * batch * (1 - momentum), 9) for batch, momentum in zip(batches, momenta, strict=True)]
  kinds = zipped(
    axis('train.batch_size', batches),
    axis('optim.momentum', momenta),
    axis('optim.lr', rates),
    axis('train.steps', [PICTURES // batch for batch in batches]),
  )
  return product(kinds, axis('seed', [0, 1]))
