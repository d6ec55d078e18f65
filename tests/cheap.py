"""Small networks, and what keeps tests of them cheap: on two cores nearly all of their time is compilation."""

import functools

import jax
import numpy as np

from fcn_jax.models.fcn import FCN
from fcn_jax.models.vgg import VGG16

# For programs that run only a few times: compiles in half the time or less.
quick_jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def vgg(**fields) -> VGG16:
  """A narrow backbone."""
  return VGG16(**{'width': 1 / 16, 'fc_channels': 256, 'platform': 'cpu', 'name': 'trunk'} | fields)


def network(backbone, *, classes: int = 5, stride: int = 8, **fields) -> FCN:
  """An FCN with one input stream, 'rgb', and one head, 'semantic', and with all skip connections down to `stride`.

  Its activations have about the size 1, so that a bias of 0.3 is not lost among them.
  """
  skips = tuple(name for name, s in list(backbone.taps.items())[1:] if s >= stride)
  defaults = {
    'heads': {'semantic': classes},
    'backbones': {'rgb': backbone},
    'mean': {'rgb': (122.7, 116.7, 104.0)},
    'std': {'rgb': (64.0, 64.0, 64.0)},
    'skips': skips,
    'upsample': 'learned_random',
    'platform': 'cpu',
  }
  return FCN(stride=stride, **defaults | fields)


def scores(model: FCN, params, images, size=None, **options):
  """The scores of a network with one stream and one head."""
  return model.apply({'params': params}, {'rgb': images}, size, **options)['semantic']


def by_stride(nets: dict, *inputs):
  """Networks by stride over one backbone: a function of (params, images, size) to scores by stride; its parameters.

  Args:
    nets: the networks.
    *inputs: for their initialization, as in `shapes_of`.
  """
  above = {stride: random_params(net, *inputs, seed=stride) for stride, net in nets.items()}
  backbone = above[32]['trunk']

  @quick_jit
  def apply(params, images, size=None):
    backbone, above = params
    return {s: scores(net, above[s] | {'trunk': backbone}, images, size) for s, net in nets.items()}

  return apply, (backbone, above)


def check_padding(apply, params, sizes, classes: int = 5) -> None:
  """Asserts that images of several sizes in a batch get the scores that each gets alone; see `by_stride`."""
  sizes = np.array(sizes, np.int32)
  canvases = np.random.default_rng(0).integers(0, 256, (len(sizes), 64, 97, 3), np.uint8)  # garbage around the images
  together = apply(params, canvases, sizes)
  for number, (height, width) in enumerate(sizes):
    for stride, expected in apply(params, canvases[number : number + 1, :height, :width]).items():
      mine, scale = together[stride][number, :height, :width], np.abs(expected).max()
      assert expected.shape == (1, height, width, classes) and scale > 0.01
      assert np.abs(mine - expected[0]).max() < 1e-4 * scale, (stride, height, width)


def shapes_of(model, *inputs):
  """The parameters that `model.init` makes, as shapes; `inputs` are those of an FCN by default."""
  inputs = inputs or (model.example_inputs(),)
  return jax.eval_shape(lambda key: model.init(key, *inputs)['params'], jax.random.key(0))


def random_params(model, *inputs, seed: int = 0):
  """Parameters without compiling the initialization of the model; here biases and score layers are not zero.

  Activations keep about the size of the model's input, so that a bias in the wrong place is noticed.
  """
  rng = np.random.default_rng(seed)

  def draw(path, shape):
    name, owner = path[-1].key, path[-2].key if len(path) > 1 else ''
    normal = rng.normal(size=shape.shape).astype(np.float32)
    if name == 'scale':
      return 1 + 0.2 * normal
    if name in ('bias', 'mean'):
      return 0.3 * normal
    if name == 'var':
      return 1 + 0.2 * np.abs(normal)
    if owner.startswith('upsample'):
      return 0.5 * normal
    return normal * np.float32(np.sqrt(2 / np.prod(shape.shape[:-1])))

  return jax.tree_util.tree_map_with_path(draw, shapes_of(model, *inputs))
