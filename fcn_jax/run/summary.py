"""The summary that a run starts with: recipe, network, data, devices and compiled shapes."""

import jax
import ml_collections

from fcn_jax import config as config_lib
from fcn_jax.config import normalization
from fcn_jax.data import canvases, dataset, shares
from fcn_jax.models import cost, names


def startup_lines(config: ml_collections.ConfigDict, data: dataset.Data, model, parameters: int) -> list[str]:
  """A description of the run, its data and its devices; one string per line.

  Args:
    config: of the run.
    data: its data set.
    model: its network.
    parameters: the number of parameters.
  """
  lines = [_recipe(config), _network(config, model, parameters), *_data(data), *_devices(config, data)]
  return [*lines, _learning_rate(config)] if config.loss.reduction == 'sum' else lines


def input_line(config: ml_collections.ConfigDict, resolved: ml_collections.ConfigDict) -> str:
  """The normalization of the input, with its sources; `resolved` is `config` with the numbers of `model.mean`."""
  parts = [f'{field} {_short(resolved.model[field])} ({x})' for field, x in normalization.sources(config).items()]
  return f'input    {", ".join(parts)}'


def _recipe(config: ml_collections.ConfigDict) -> str:
  """The recipe, and its changes to the model, data, optimizer and loss that the config has not overridden."""
  values, usual = config_lib.flatten(config), config_lib.flatten(config_lib.base())
  recipe = dict(setting for part in config.recipe.split('+') for setting in config_lib.RECIPES[part].items())
  changed = [
    f'{field}={_short(value)}'
    for field, value in recipe.items()
    if value == values[field] != usual[field] and field.partition('.')[0] in ('model', 'data', 'optim', 'loss')
  ]
  return f'recipe   {": ".join(filter(None, (config.recipe, ", ".join(changed))))}'


def _short(value) -> str:
  if isinstance(value, tuple):
    return ','.join(map(_short, value))
  return f'{value:g}' if isinstance(value, float) else str(value)


def _network(config: ml_collections.ConfigDict, model, parameters: int) -> str:
  chosen, (height, width) = config.model, config.data.train_size
  described = f'U-Net of depth {chosen.depth}'
  if chosen.name == 'fcn':
    skips = names.resolve_skips(chosen.backbone, chosen.stride, chosen.skips)
    pixels = f' (stride {chosen.stride * chosen.shrink} px)' if chosen.shrink != 1 else ''
    described = (
      f'FCN-{chosen.stride}s{pixels}, backbone {chosen.backbone}, skips {"+".join(skips) or "none"}, '
      f'upsampling {chosen.upsample}'
    )
  return (
    f'network  {described}: {parameters:,} parameters, {cost.flops(model, (height, width)) / 1e9:.2f} GFLOP per '
    f'{height}x{width} image'
  )


def _data(data: dataset.Data) -> list[str]:
  """The number of images, and the share of each class in the labeled training pixels, by head."""
  train = data.splits['train']
  lines = [f'data     {data.fingerprint}: {len(train)} train, {len(data.splits[data.watched])} {data.watched}']
  for head, classes in data.heads.items():
    parts = shares.class_shares(train, head, len(classes))
    listed = ', '.join(f'{name} {100 * share:.1f} %' for name, share in zip(classes.names, parts, strict=True))
    lines.append(f'classes  {f"{head}: " if len(data.heads) > 1 else ""}{listed}')
  return lines


def _devices(config: ml_collections.ConfigDict, data: dataset.Data) -> list[str]:
  """The devices, the amount of training, and the shapes that are compiled."""
  kinds = ', '.join(sorted({device.device_kind for device in jax.devices()}))
  steps, batch_size, (height, width) = config.train.steps, config.train.batch_size, config.data.train_size
  epochs, sizes = steps * batch_size / len(data.splits['train']), data.splits[data.watched].sizes()
  plan = canvases.eval_plan(sizes, batch_size=config.eval.batch_size, canvases=config.eval.canvases)
  shapes = [f'{h}x{w}' for h, w in sorted({canvas for canvas, _ in plan})]
  return [
    f'devices  {jax.device_count()} x {kinds}; batch size {batch_size}, {steps} steps, {epochs:.1f} epochs',
    f'shapes   {1 + len(shapes)} to compile: training at {height}x{width} (batch size {batch_size}), evaluation at '
    f'{", ".join(shapes)} (batch size {config.eval.batch_size})',
  ]


def _learning_rate(config: ml_collections.ConfigDict) -> str:
  """What the learning rate of a summed loss corresponds to on the mean loss, to compare recipes."""
  height, width = config.data.train_size
  lr, momentum, batch_size = config.optim.lr, config.optim.momentum, config.train.batch_size
  return (
    f'lr       {lr:g} on the summed loss of {batch_size} x {height}x{width} pixels is equivalent to '
    f'{lr * batch_size * height * width:.2g} on the mean loss; momentum {momentum} multiplies the effect of a step by '
    f'{1 / (1 - momentum):.3g} in the long run'
  )
