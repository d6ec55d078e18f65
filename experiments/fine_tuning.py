"""A small folder of images, from scratch and from a run on `scenes`; three seeds (results/own_data.md).

  python -m fcn_jax.main --config=experiments/fcn8s.py --workdir=runs/scenes
  python -m fcn_jax.sweep --config=experiments/fine_tuning.py --config.data.folder=FOLDER --workdir=runs/tuned
  python -m fcn_jax.report runs/tuned

The first command trains the run that the others start from.
"""

from fcn_jax.config import apply_recipe, default
from fcn_jax.sweep import axis, chain, product

SOURCE = 'runs/scenes'


def get_config(dataset='folder'):
  config = apply_recipe(default(dataset), 'steps_300')
  config.model.stride = 8
  config.data.train_size = (160, 160)
  return config


def sweep():
  changes = chain(
    axis('optim.lr_backbone', [3e-4]),
    axis('loss.balance', ['inverse']),
    axis('loss.name', ['cross_entropy+dice']),
  )
  starts = chain(axis('init.run', ['', SOURCE]), product(axis('init.run', [SOURCE]), changes))
  return product(starts, axis('seed', [0, 1, 2]))
