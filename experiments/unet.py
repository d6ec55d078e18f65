"""U-Net. On `scenes`, it needs 0.27 GFLOP per image; the narrow FCN-8s needs 0.24.

In the sweep `networks.py`, which trains for 500 steps, it reaches 66.5 % mean IoU (`results/networks.md`).

  python -m fcn_jax.main --config=experiments/unet.py
"""

from fcn_jax.config import apply_recipe, default


def get_config(dataset='scenes'):
  config = default(dataset)
  config.model.name = 'unet'
  return apply_recipe(config, 'small_unet') if config.recipe.startswith('scratch_s') else config
