"""The names of networks and backbones, and what checking a config needs of them. Does not import jax.

A new backbone needs one entry in `BACKBONES`.
"""

import dataclasses
import importlib
from collections.abc import Mapping

# Name -> 'module:Class'. Classes are imported only when a model is built.
NETWORKS = {'fcn': 'fcn_jax.models.fcn:FCN'}


@dataclasses.dataclass(frozen=True)
class Backbone:
  """What checking a config needs of a backbone.

  Attributes:
    path: 'module:Class' of the linen module.
    taps: the feature maps that scores can be read from, with their strides, coarse to fine. The first one is always
      used; the others can be skip connections.
    channels: of the first layer at width 1. The channels of all other convolutions are multiples of it.
    norms: the values of `model.norm` that it has.
    settings: further settings of the section `model` that only some backbones have.
  """

  path: str
  taps: Mapping[str, int]
  channels: int = 64
  norms: tuple[str, ...] = ('group', 'frozen_batch')
  settings: tuple[str, ...] = ()


_RESNET_TAPS = {'stage4': 32, 'stage3': 16, 'stage2': 8, 'stage1': 4, 'conv1': 2}
BACKBONES = {
  'vgg16': Backbone(
    'fcn_jax.models.vgg:VGG16',
    {'fc7': 32, 'pool4': 16, 'pool3': 8, 'pool2': 4, 'pool1': 2},
    norms=('none', 'group'),
    settings=('fc_channels', 'geometry', 'at_once'),
  ),
  'resnet18': Backbone('fcn_jax.models.resnet:ResNet18', _RESNET_TAPS),
  'resnet50': Backbone('fcn_jax.models.resnet:ResNet50', _RESNET_TAPS),
}


def load_class(path: str) -> type:
  """The class that 'module:Class' names."""
  module, _, name = path.partition(':')
  return getattr(importlib.import_module(module), name)


def skip_strides(backbone: str) -> dict[str, int]:
  """The taps of a backbone that can be skip connections, coarse to fine."""
  return dict(list(BACKBONES[backbone].taps.items())[1:])


def resolve_skips(backbone: str, stride: int, skips: str) -> tuple[str, ...]:
  """The taps that the setting `model.skips` names: 'all' down to `stride`, 'none', or names joined by '+'."""
  if skips == 'all':
    return tuple(name for name, s in skip_strides(backbone).items() if s >= stride)
  return () if skips == 'none' else tuple(skips.split('+'))
