"""Networks: `build` makes one from a config. To read the code, start with `fcn.py` and the backbone in `vgg.py`.

Importing the package does not import jax.
"""

import dataclasses
from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING

from fcn_jax.errors import UserError
from fcn_jax.models import names

if TYPE_CHECKING:
  from fcn_jax.models.fcn import FCN
  from fcn_jax.models.unet import UNet


def build(
  model,
  inputs: Mapping[str, int],
  heads: Mapping[str, int | Sized],
  *,
  freeze_backbone: bool = False,
  platform: str | None = None,
) -> 'FCN | UNet':
  """Makes the network that a config describes.

  Args:
    model: the section `model` of a config (`config/defaults.py`).
    inputs: channels of each input stream, such as {'rgb': 3}.
    heads: classes of each head, as a number or a collection: {'semantic': 21}.
    freeze_backbone: no gradient flows into the backbone.
    platform: the hardware to compile for, 'cpu', 'gpu' or 'tpu'; by default the hardware of this process.

  Returns:
    A linen module: `network.apply({'params': params}, inputs, size)` gives {head: scores [B, H, W, classes]}.

  Raises:
    UserError: `model.mean` and `model.std` do not have one number per channel, or there is no backbone to freeze.
  """
  import jax
  import jax.numpy as jnp

  shared = {'dtype': jnp.dtype(model.dtype), 'platform': platform or jax.default_backend()}
  network = names.load_class(names.NETWORKS[model.name].path)
  fields = _fields(network, model, shared) | {
    'heads': {head: classes if isinstance(classes, int) else len(classes) for head, classes in heads.items()},
    'mean': _per_stream(model, 'mean', inputs),
    'std': _per_stream(model, 'std', inputs),
  }
  if model.name == 'fcn':
    fields |= _fcn_fields(model, inputs, shared) | {'freeze_backbone': freeze_backbone}
  elif freeze_backbone:
    raise UserError(f'optim.freeze_backbone is set, but the network {model.name} has no backbone; leave it out')
  return network(**fields)


def _fields(module: type, model, shared: dict) -> dict:
  """The settings that a module has fields for; `shared` are the values of some."""
  values = {field: model[field] for field in model if field != 'name'} | shared
  return {field.name: values[field.name] for field in dataclasses.fields(module) if field.name in values}


def _fcn_fields(model, inputs: Mapping[str, int], shared: dict) -> dict:
  """The backbones of an FCN, and what depends on them."""
  from fcn_jax.models.fcn import AT_ONCE

  backbone = names.load_class(names.backbone(model.backbone).path)
  settings = _fields(backbone, model, shared)
  # The names are the checkpoints' format.
  names_of = {stream: 'trunk' if len(inputs) == 1 else f'trunk_{stream}' for stream in inputs}
  return {
    'backbones': {stream: backbone(**settings, name=name) for stream, name in names_of.items()},
    'skips': names.resolve_skips(model.backbone, model.stride, model.skips),
    'tap_factors': AT_ONCE if model.at_once else {},
  }


def init(model: 'FCN | UNet', seed: int) -> dict:
  """The initial parameters of a network."""
  import jax

  # On CPUs, optimizing the random number generators takes longer than everything else before the first step.
  quick = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
  made = jax.jit(model.init, compiler_options=quick)(jax.random.key(seed), model.example_inputs())
  params: dict = made['params']
  return params


def _per_stream(model, field: str, inputs: Mapping[str, int]) -> dict[str, tuple[float, ...]]:
  """`model.mean` or `model.std`, one number per channel, cut into the streams."""
  values = list(model[field] or getattr(names.DEFAULT_PREPROCESSING, field))
  if len(values) != sum(inputs.values()):
    channels = ', '.join(f'{count} of {stream}' for stream, count in inputs.items())
    raise UserError(
      f'model.{field} has {len(values)} numbers, but the images have {sum(inputs.values())} channels ({channels}); set '
      f'--config.model.{field} to one number per channel'
    )
  return {stream: tuple(values.pop(0) for _ in range(count)) for stream, count in inputs.items()}
