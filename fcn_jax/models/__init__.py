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


def build(
  model,
  inputs: Mapping[str, int],
  heads: Mapping[str, int | Sized],
  *,
  freeze_backbone: bool = False,
  platform: str | None = None,
) -> 'FCN':
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
    UserError: `model.mean` and `model.std` do not have one number per channel.
  """
  import jax
  import jax.numpy as jnp

  from fcn_jax.models.fcn import AT_ONCE

  shared = {'dtype': jnp.dtype(model.dtype), 'platform': platform or jax.default_backend()}
  backbone = names.load_class(names.BACKBONES[model.backbone])
  # A backbone gets the settings that it has fields for.
  settings = {
    f.name: model[f.name] for f in dataclasses.fields(backbone) if f.name in model and f.name != 'name'
  } | shared
  names_of = {
    stream: 'trunk' if len(inputs) == 1 else f'trunk_{stream}' for stream in inputs
  }  # the checkpoints' format
  return names.load_class(names.NETWORKS[model.name])(
    heads={head: classes if isinstance(classes, int) else len(classes) for head, classes in heads.items()},
    backbones={stream: backbone(**settings, name=name) for stream, name in names_of.items()},
    mean=_per_stream(model, 'mean', inputs),
    std=_per_stream(model, 'std', inputs),
    stride=model.stride,
    skips=names.resolve_skips(model.backbone, model.stride, model.skips),
    upsample=model.upsample,
    shrink=model.shrink,
    tap_factors=AT_ONCE if model.at_once else {},
    freeze_backbone=freeze_backbone,
    **shared,
  )


def init(model: 'FCN', seed: int) -> dict:
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
