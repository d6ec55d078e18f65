"""U-Net. On `scenes`, it has about the FLOPs of the narrow FCN-8s.

python -m fcn_jax.main --config=experiments/unet.py
"""

from fcn_jax.config import apply_recipe, default


def get_config(dataset='scenes'):
  config = default(dataset)
  config.model.name = 'unet'
  return apply_recipe(config, 'small_unet') if config.recipe.startswith('scratch_s') else config
