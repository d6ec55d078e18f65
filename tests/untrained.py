"""Runs with random parameters, which test predictions as well as trained ones."""

import dataclasses
import os

import jax
import numpy as np
from cheap import quick_jit, random_params

from fcn_jax import config as config_lib
from fcn_jax import models
from fcn_jax.config import normalization
from fcn_jax.data.builders.scenes import CLASSES
from fcn_jax.data.dataset import Data
from fcn_jax.run import checkpoint, directory

SMALL = {'model.width': 1 / 16, 'model.fc_channels': 256, 'model.norm': 'none', 'model.stride': 8, 'eval.canvases': 1}


@dataclasses.dataclass(frozen=True)
class Run:
  """A run directory, and the network in it."""

  workdir: str
  model: object
  params: dict

  def alone(self, streams: dict, head: str = 'semantic') -> np.ndarray:
    """The probabilities [H, W, C] of one image, computed at its original size; streams [H, W, C]."""

    def probabilities(streams):
      return jax.nn.softmax(self.model.apply({'params': self.params}, streams)[head])

    return np.asarray(quick_jit(probabilities)({name: x[None] for name, x in streams.items()})[0])


def write(
  folder, *, inputs: dict | None = None, heads: dict | None = None, name: str = 'scenes', seed: int = 0, **settings
):
  """Writes a run that is done at step 7; `settings` are settings of its config, with __ for the dot."""
  inputs, heads = inputs or {'rgb': 3}, heads or {'semantic': CLASSES}
  config = config_lib.default('scenes')
  config.data.name = name  # a module that is never imported, unless it is scenes
  with config.unlocked():  # for settings of other data sets
    config.update_from_flattened_dict(SMALL | {key.replace('__', '.'): x for key, x in settings.items()})
  config = normalization.resolve(config)
  model = models.build(config.model, inputs, heads)
  params = random_params(model, model.example_inputs(), seed=seed)
  run_directory = directory.RunDirectory(folder)
  directory.write_config(run_directory, config)
  directory.write_data(run_directory, Data(inputs, heads, {}, 'none'))
  save(run_directory, 7, params)
  run_directory.status(7).write('done', 7)
  return Run(os.fspath(run_directory), model, params)


def save(workdir, step: int, params: dict, kind: str = 'checkpoints') -> None:
  """Saves a checkpoint; `kind` is the folder, checkpoints or best."""
  checkpoints = checkpoint.Checkpoints(workdir, 1, kind)
  checkpoints.save(step, {'params': params})
  checkpoints.close()
