"""The names of networks and backbones, and what checking a config needs of them. Does not import jax.

A new backbone needs one line in each of `BACKBONES`, `TAPS` and `CHANNELS`.
"""

import importlib
from typing import NamedTuple

# Name -> 'module:Class'. Classes are imported only when a model is built.
NETWORKS = {'fcn': 'fcn_jax.models.fcn:FCN'}
BACKBONES = {'vgg16': 'fcn_jax.models.vgg:VGG16'}

# The feature maps that scores can be read from, with their strides, coarse to fine. The first one is always used; the
# others can be skip connections.
TAPS = {
  'vgg16': {'fc7': 32, 'pool4': 16, 'pool3': 8, 'pool2': 4, 'pool1': 2},
}

# Channels of the first layer at width 1. The channels of all other convolutions are multiples of it.
CHANNELS = {'vgg16': 64}


class Preprocessing(NamedTuple):
  """Normalization of R, G, B in 0..255: `mean` is subtracted, and the result is divided by `std`."""

  mean: tuple[float, ...]
  std: tuple[float, ...] = (1.0, 1.0, 1.0)


PREPROCESSING = {
  # From the FCN authors' `net.py`. The mean of VGG-16 itself differs by up to 1; the authors fine-tuned with this one.
  'caffe': Preprocessing((122.67892, 116.66877, 104.00699)),
  # torchvision and timm use (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) for R, G, B in 0..1.
  'torchvision': Preprocessing((255 * 0.485, 255 * 0.456, 255 * 0.406), (255 * 0.229, 255 * 0.224, 255 * 0.225)),
  'none': Preprocessing((0.0, 0.0, 0.0)),
}
DEFAULT_PREPROCESSING = PREPROCESSING['caffe']


def load_class(path: str) -> type:
  """The class that 'module:Class' names."""
  module, _, name = path.partition(':')
  return getattr(importlib.import_module(module), name)


def skip_strides(backbone: str) -> dict[str, int]:
  """The taps of a backbone that can be skip connections, coarse to fine."""
  return dict(list(TAPS[backbone].items())[1:])


def resolve_skips(backbone: str, stride: int, skips: str) -> tuple[str, ...]:
  """The taps that the setting `model.skips` names: 'all' down to `stride`, 'none', or names joined by '+'."""
  if skips == 'all':
    return tuple(name for name, s in skip_strides(backbone).items() if s >= stride)
  return () if skips == 'none' else tuple(skips.split('+'))
