"""The names of networks and backbones, and what checking a config needs of them. Does not import jax.

A new backbone of the package needs one entry in `BACKBONES`; one outside the package is named by its dotted path.
"""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from typing import NamedTuple

from fcn_jax import outside
from fcn_jax.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Network:
  """What checking a config needs of a network.

  Attributes:
    path: 'module:Class' of the linen module, which is imported only when a model is built.
    settings: the settings of the section `model` that only some networks have.
    channels, groups, norms: as of `Backbone`, for a network without one.
  """

  path: str
  settings: tuple[str, ...]
  channels: int = 64
  groups: int = 1
  norms: tuple[str, ...] = ('none', 'group')


@dataclasses.dataclass(frozen=True)
class Backbone:
  """What checking a config needs of a backbone.

  Attributes:
    path: 'module:Class' of the linen module.
    taps: the feature maps that scores can be read from, with their strides, coarse to fine. The first one is always
      used; the others can be skip connections.
    channels: the largest number of which the channels of all convolutions are multiples at width 1.
    groups: the largest number of groups of a convolution; it must divide `channels` times `model.width`.
    norms: the values of `model.norm` that it has.
    settings: the settings of the section `model` that only some backbones have.
  """

  path: str
  taps: dict[str, int]
  channels: int = 64
  groups: int = 1
  norms: tuple[str, ...] = ('group', 'frozen_batch')
  settings: tuple[str, ...] = ()


NETWORKS = {
  'fcn': Network('fcn_jax.models.fcn:FCN', ('backbone', 'stride', 'skips', 'upsample', 'shrink')),
  'unet': Network('fcn_jax.models.unet:UNet', ('depth',)),
}

_ALEXNET_TAPS = {'fc7': 32, 'pool2': 16, 'pool1': 8, 'conv1': 4}
_RESNET_TAPS = {'stage4': 32, 'stage3': 16, 'stage2': 8, 'stage1': 4, 'conv1': 2}
BACKBONES = {
  'vgg16': Backbone(
    'fcn_jax.models.vgg:VGG16',
    {'fc7': 32, 'pool4': 16, 'pool3': 8, 'pool2': 4, 'pool1': 2},
    norms=('none', 'group'),
    settings=('fc_channels', 'geometry', 'at_once'),
  ),
  'alexnet': Backbone(
    'fcn_jax.models.alexnet:AlexNet',
    _ALEXNET_TAPS,
    channels=32,
    groups=2,
    norms=('none', 'group'),
    settings=('fc_channels', 'geometry'),
  ),
  'resnet18': Backbone('fcn_jax.models.resnet:ResNet18', _RESNET_TAPS),
  'resnet50': Backbone('fcn_jax.models.resnet:ResNet50', _RESNET_TAPS),
}


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


def backbone(name: str) -> Backbone:
  """The entry of a backbone: of a key of `BACKBONES`, or of the dotted path of a linen module, which is imported.

  Raises:
    UserError: there is no such backbone.
  """
  if name in BACKBONES:
    return BACKBONES[name]
  if '.' not in name:
    raise UserError(f'model.backbone is {name!r}{nearest(name, BACKBONES)}, or a dotted path, MODULE.CLASS')
  return _described(name)


@functools.cache
def _described(path: str) -> Backbone:
  """The entry of a backbone outside the package, from its taps and its fields."""
  found = outside.member('model.backbone', path)
  if not hasattr(found, 'grids') or not getattr(found, 'taps', None):
    raise UserError(f'model.backbone is {path!r}; expected a linen module with taps and grids (docs/recipes/README.md)')
  fields = {field.name for field in dataclasses.fields(found)}
  special = {field for entry in BACKBONES.values() for field in entry.settings}
  module, _, name = path.rpartition('.')
  return Backbone(
    f'{module}:{name}',
    found.taps,
    norms=('none', 'group', 'frozen_batch') if 'norm' in fields else ('none',),
    settings=tuple(sorted(special & fields)),
  )


def unused_settings(model: Mapping) -> list[str]:
  """The settings of the section `model` that its network and backbone do not have."""
  has = {*NETWORKS[model['name']].settings, *limits(model).settings}
  special = {field for other in NETWORKS.values() for field in other.settings}
  special |= {field for other in BACKBONES.values() for field in other.settings}
  return sorted(special - has)


def limits(model: Mapping) -> Network | Backbone:
  """What has the `channels`, `groups` and `norms` of a network: its backbone, or itself if it has none."""
  network = NETWORKS[model['name']]
  return backbone(model['backbone']) if 'backbone' in network.settings else network


def pretrained_norm(model: Mapping) -> str:
  """The value of `model.norm` with which a network can start from a weights file."""
  return next(norm for norm in ('frozen_batch', 'none') if norm in limits(model).norms)


def skip_strides(name: str) -> dict[str, int]:
  """The taps of a backbone that can be skip connections, coarse to fine."""
  return dict(list(backbone(name).taps.items())[1:])


def resolve_skips(name: str, stride: int, skips: str) -> tuple[str, ...]:
  """The taps that the setting `model.skips` names: 'all' down to `stride`, 'none', or names joined by '+'."""
  if skips == 'all':
    return tuple(tap for tap, s in skip_strides(name).items() if s >= stride)
  return () if skips == 'none' else tuple(skips.split('+'))
