"""Backbones, losses and augmentations outside the package, which settings name by their dotted paths."""

import numpy as np
import pytest

from fcn_jax import config as config_lib
from fcn_jax.data import outside_augment
from fcn_jax.errors import UserError

MODULE = """
import types
Net = types.SimpleNamespace
def loss(logits, label, weight): return 0
def nothing(example, rng): return None
def cropped(example, rng): return example | {'inputs': {'rgb': example['inputs']['rgb'][1:]}}
def floats(example, rng): return example | {'labels': {'semantic': example['labels']['semantic'] / 2}}
"""
NAMES = {'model.backbone': 'of_user.Net', 'loss.name': '0.5*of_user.loss+dice', 'data.augment': 'of_user.loss'}


@pytest.fixture(autouse=True)
def of_user(tmp_path, monkeypatch):
  (tmp_path / 'of_user.py').write_text(MODULE)
  (tmp_path / 'broken.py').write_text('import no_such_library')
  monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
  ('setting', 'path', 'message'),
  [
    ('model.backbone', 'vgg61', r"is 'vgg61' \(did you mean vgg16\?\); expected one of vgg16, .*, or a dotted path"),
    ('model.backbone', 'not_there.Net', 'there is no module not_there; expected MODULE.NAME, .* PYTHONPATH'),
    ('model.backbone', 'of_user.Nett', r'of_user.py defines no class or function Nett \(did you mean Net\?\)'),
    ('model.backbone', 'of_user.Net', 'expected a linen module with taps and grids'),
    ('loss.name', 'dice+of_user.los', r'loss.name .* no class or function los \(did you mean loss\?\)'),
    ('loss.name', 'broken.loss', "the module broken does not import: No module named 'no_such_library'"),
    ('data.augment', 'nothing', "data.augment is 'nothing', but there is no module nothing; expected MODULE.NAME"),
  ],
)
def test_what_is_not_there_is_an_error_before_anything_starts(setting, path, message):
  config = config_lib.default('scenes')
  config.update_from_flattened_dict({setting: path})
  with pytest.raises(UserError, match=message):
    config_lib.validate(config)


def test_the_config_of_a_run_is_read_without_the_modules():
  config = config_lib.default('scenes')
  config.update_from_flattened_dict({name: path.replace('of_user', 'gone') for name, path in NAMES.items()})
  config_lib.validate(config, settings=config_lib.flatten(config))


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('nothing', 'image 07: it is of type NoneType; expected a dict of inputs, labels and id'),
    ('cropped', r'image 07: the input rgb is uint8 \[3, 5, 3\]; expected uint8 \[4, 5, 3\]'),
    ('floats', r'image 07: the label semantic is float64 \[4, 5\]; expected uint8 \[4, 5\]'),
  ],
)
def test_an_augmentation_must_return_an_example_of_the_same_size(name, message):
  example = {'inputs': {'rgb': np.zeros((4, 5, 3), np.uint8)}, 'labels': {'semantic': np.zeros((4, 5), np.uint8)}}
  with pytest.raises(UserError, match=message):
    outside_augment.function(f'of_user.{name}')(example | {'id': '07'}, np.random.default_rng(0))
