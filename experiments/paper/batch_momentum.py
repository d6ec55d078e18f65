"""Batch size and momentum (PAMI'16, the comparison of optimizers); two seeds.

  python -m fcn_jax.sweep --config=experiments/paper/batch_momentum.py --workdir=runs/batch-momentum

The paper compares gradient accumulation (20 images, momentum 0.9), online learning (1 image, 0.9) and heavy learning
(1 image, 0.99), which is best. For `scenes` the batch is 8. The effect of one image on the weights is the same in all
three: learning rate / (batch * (1 - momentum)). The number of images that the momentum averages over differs:
batch / (1 - momentum) is 80, 10 and 100. Each run sees 4000 images. SGD has a fixed learning rate and no clipping.
"""

from fcn_jax.config import default
from fcn_jax.sweep import axis, product, zipped

IMAGES, STEP = 4000, 0.0625  # images that each run sees; factor from the gradient of one image to its total effect


def get_config(dataset='scenes'):
  config = default(dataset, {'scenes': 'scratch_short'})
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
    axis('train.steps', [IMAGES // batch for batch in batches]),
  )
  return product(kinds, axis('seed', [0, 1]))
