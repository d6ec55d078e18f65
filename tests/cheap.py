"""What keeps tests of whole networks cheap: on two cores nearly all of their time is compilation."""

import functools

import jax
import numpy as np

# For what runs a few times: compiles in half the time or less.
quick_jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def shapes_of(model, *inputs):
  """The parameters that `model.init` makes for the inputs, as shapes."""
  return jax.eval_shape(lambda key: model.init(key, *inputs)['params'], jax.random.key(0))


def random_params(model, *inputs, seed: int = 0):
  """Parameters without compiling the model's own initialisation; here biases and score layers are not zero.

  Activations keep about the size of the model's input, so that a bias left where none belongs is seen.
  """
  rng = np.random.default_rng(seed)

  def draw(path, shape):
    name, owner = path[-1].key, path[-2].key if len(path) > 1 else ''
    normal = rng.normal(size=shape.shape).astype(np.float32)
    if name == 'scale':
      return 1 + 0.2 * normal
    if name == 'bias':
      return 0.3 * normal
    if owner.startswith('upsample'):
      return 0.5 * normal
    return normal * np.float32(np.sqrt(2 / np.prod(shape.shape[:-1])))

  return jax.tree_util.tree_map_with_path(draw, shapes_of(model, *inputs))
