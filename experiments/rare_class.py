"""What helps a class with few pixels, one change at a time; three seeds (results/own_data.md).

  python -m fcn_jax.sweep --config=experiments/rare_class.py --config.data.folder=FOLDER --workdir=runs/rare
  python -m fcn_jax.report runs/rare

Training images are crops of 96x96 pixels, so that it matters where a crop lies.
"""

from fcn_jax.config import apply_recipe, default
from fcn_jax.sweep import axis, chain, product


def get_config(dataset='folder'):
  config = apply_recipe(default(dataset), 'steps_300')
  config.model.stride = 8
  config.data.train_size = (96, 96)
  return config


def sweep():
  changes = chain(
    axis('loss.balance', ['none', 'median_frequency', 'inverse']),
    axis('loss.name', ['focal', 'dice', 'cross_entropy+dice']),
    axis('data.crop_rare', [0.5, 1.0]),
    axis('data.flip_vertical', [0.5]),
    axis('data.rotate', [15.0]),
    axis('data.blur', [1.0]),
    axis('data.noise', [10.0]),
  )
  return product(changes, axis('seed', [0, 1, 2]))
