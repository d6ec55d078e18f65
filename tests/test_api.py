"""The Python API: a run that predicts, and new networks."""

import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
import untrained
import weight_formats
from absl.testing import flagsaver
from cheap import quick_jit
from command_line import flags_of
from photos import drawing, save
from PIL import Image

import fcn_jax
from fcn_jax import api, predict
from fcn_jax.data.builders.scenes import CLASSES
from fcn_jax.data.dataset import Classes
from fcn_jax.errors import UserError

SIZES = [(33, 47), (150, 70), (1, 1), (33, 48)]  # the second is larger than the images of the data set
TINY = {'width': 1 / 16, 'fc_channels': 256}


def images() -> list[np.ndarray]:
  return [drawing(*size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  return untrained.write(tmp_path_factory.mktemp('api') / 'run', eval__canvases=2)


@pytest.fixture(scope='module')
def run(written):
  return fcn_jax.load_run(written.workdir)


# Importing.


def python(code: str) -> str:
  done = subprocess.run([sys.executable, '-c', code], cwd=tiny.ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_importing_the_package_imports_nothing_else_and_changes_no_global_state():
  python(
    'import logging, os, sys; root = logging.root;'
    'before = set(sys.modules), dict(os.environ), root.level, root.handlers[:];'
    'import fcn_jax; loaded = set(sys.modules) - before[0];'
    'assert not {name.split(".")[0] for name in loaded} & {"jax", "numpy", "absl", "flax"}, loaded;'
    'assert (dict(os.environ), root.level, root.handlers) == before[1:]'
  )


def test_names_and_submodules_are_imported_when_they_are_used():
  python('import fcn_jax; assert callable(fcn_jax.load_run) and fcn_jax.losses.pixel_weights and fcn_jax.data.Data')
  assert {'load_run', 'build_model', 'Predictor'} <= set(dir(fcn_jax))
  with pytest.raises(AttributeError, match="module 'fcn_jax' has no attribute 'nothing'"):
    fcn_jax.nothing  # noqa: B018


# Runs.


def test_predictions_are_those_that_the_command_writes(written, run, tmp_path):
  paths = [str(save(tmp_path / 'in' / f'{number}.png', image)) for number, image in enumerate(images())]
  options = {'workdir': written.workdir, 'out': str(tmp_path / 'out'), 'heatmaps': True}
  with flags_of(predict), flagsaver.flagsaver(**options), pytest.raises(SystemExit) as caught:
    predict.main(paths)
  assert caught.value.code == 0
  for number, image in enumerate(images()):
    label = run.predict(image)
    assert label.dtype == np.uint8 and label.shape == image.shape[:2]
    with Image.open(tmp_path / 'out' / f'{number}.png') as opened:
      assert np.array_equal(label, np.asarray(opened))
    with np.load(tmp_path / 'out' / f'{number}.npz') as file:
      np.testing.assert_allclose(run.probabilities(image), file['probabilities'], atol=1e-5)


def test_a_list_gives_what_each_image_gives_alone_at_its_own_size(written, run):
  labels, probabilities = run.predict(images()), run.probabilities(images())
  assert isinstance(labels, list) and [x.shape for x in labels] == SIZES
  for image, label, probability in zip(images(), labels, probabilities, strict=True):
    assert probability.dtype == np.float32 and probability.shape == (*label.shape, len(CLASSES))
    np.testing.assert_allclose(probability.sum(-1), 1, atol=1e-5)
    assert np.array_equal(probability.argmax(-1), label)
    np.testing.assert_allclose(probability, written.alone({'rgb': image}), atol=1e-4)
    assert np.array_equal(run.predict(image), label)
  assert len(set(np.concatenate([x.ravel() for x in labels]))) > 2
  assert run.predict([]) == []


def test_other_kinds_of_images_are_accepted(run):
  image = drawing(33, 47)
  expected = run.predict(image)
  for same in (Image.fromarray(image), image.astype(np.float32), {'rgb': image}):
    assert np.array_equal(run.predict(same), expected)
  assert np.array_equal(run.predict((image, image))[1], expected)


def test_a_run_has_its_classes_palette_config_and_step(run):
  assert run.classes == CLASSES.names and run.palette == CLASSES.palette
  assert run.config.model.stride == 8 and run.config.data.name == 'scenes' and run.step == 7
  assert list(run.heads) == ['semantic']


def test_the_best_checkpoint(tmp_path):
  written = untrained.write(tmp_path / 'run')
  with pytest.raises(UserError, match='run has no best checkpoint'):
    fcn_jax.load_run(written.workdir, checkpoint='best')
  best = jax.tree.map(lambda x: 2 * x, written.params)
  untrained.save(written.workdir, 3, best, 'best')
  loaded = fcn_jax.load_run(written.workdir, checkpoint='best')
  assert loaded.step == 3
  jax.tree.map(np.testing.assert_array_equal, loaded.params, best)
  assert fcn_jax.load_run(written.workdir, checkpoint='last').step == 7


@pytest.fixture(scope='module')
def several(tmp_path_factory):
  """A run with two streams and two heads; its data module does not exist."""
  heads = {'semantic': CLASSES, 'edge': Classes(('inside', 'edge'), ((0, 0, 0), (255, 255, 255)))}
  written = untrained.write(
    tmp_path_factory.mktemp('several') / 'run',
    inputs={'rgb': 3, 'depth': 1},
    heads=heads,
    name='not.there',
    model__mean=(100.0,) * 4,
    model__std=(50.0,) * 4,
  )
  return written, fcn_jax.load_run(written.workdir)


def test_several_streams_and_heads(several):
  written, run = several
  given = [{'rgb': image, 'depth': image[..., :1]} for image in images()[:2]]
  assert run.classes == CLASSES.names
  for head, classes in run.heads.items():
    for streams, found in zip(given, run.probabilities(given, head=head), strict=True):
      assert found.shape == (*streams['rgb'].shape[:2], len(classes))
      np.testing.assert_allclose(found, written.alone(streams, head), atol=1e-4)
  assert np.array_equal(run.predict(given[0]), run.predict(given[0], head='semantic'))


@pytest.mark.parametrize(
  ('image', 'head', 'words'),
  [
    (np.zeros((4, 5), np.uint8), None, 'the image is uint8 [4, 5]; expected numbers in 0..255 of the shape [H, W, 3]'),
    (np.zeros((4, 5, 4), np.uint8), None, 'the image is uint8 [4, 5, 4]; expected'),
    (np.zeros((2, 4, 5, 3), np.uint8), None, 'the image is uint8 [2, 4, 5, 3]; expected'),
    ([np.zeros((4, 5, 3), np.uint8), np.zeros((0, 5, 3), np.uint8)], None, 'the image is uint8 [0, 5, 3]; expected'),
    ('photo.jpg', None, 'expected numbers in 0..255 of the shape [H, W, 3]'),
    ({'depth': np.zeros((4, 5, 1), np.uint8)}, None, "has no input stream 'rgb'; expected a dict with rgb"),
    (np.zeros((4, 5, 3), np.uint8), 'semantics', "no head 'semantics' (did you mean semantic?); expected one of sem"),
  ],
  ids=lambda value: str(value)[:40],
)
def test_a_wrong_image_or_head_is_an_error_that_says_what_is_expected(run, image, head, words):
  for method in (run.predict, run.probabilities):
    with pytest.raises(UserError) as caught:
      method(image, head=head)
    assert words in str(caught.value)


@pytest.mark.parametrize(
  ('image', 'words'),
  [
    (np.zeros((4, 5, 3), np.uint8), "no input stream 'depth'; expected a dict with rgb, depth"),
    ({'rgb': np.zeros((4, 5, 3)), 'depth': np.zeros((4, 5, 3))}, "[H, W, 1] for the input stream 'depth'"),
    ({'rgb': np.zeros((4, 5, 3)), 'depth': np.zeros((4, 6, 1))}, 'sizes [4, 5] of rgb, [4, 6] of depth; expected one'),
  ],
  ids=['missing', 'channels', 'sizes'],
)
def test_wrong_streams_are_an_error_that_says_what_is_expected(several, image, words):
  with pytest.raises(UserError) as caught:
    several[1].predict(image)
  assert words in str(caught.value)


def test_a_wrong_run_is_an_error(written, tmp_path):
  with pytest.raises(UserError, match='nowhere holds no run'):
    fcn_jax.load_run(str(tmp_path / 'nowhere'))
  with pytest.raises(UserError, match=r"no checkpoint 'bst' \(did you mean best\?\); expected one of last, best"):
    fcn_jax.load_run(written.workdir, checkpoint='bst')


# Networks.


@pytest.mark.parametrize(('name', 'taps'), [('fcn32s', 1), ('fcn16s', 2), ('fcn8s', 3)])
def test_a_new_network_scores_images_without_their_sizes(name, taps):
  model, params = fcn_jax.build_model(name, classes=21, **TINY)
  assert len(model.taps) == taps and model.stride == api.MODELS[name]['stride']
  batch = np.stack([drawing(40, 50, seed) for seed in range(2)])
  params = jax.tree.map(lambda x: x + 0.01, params)  # scores start at zero
  apply = quick_jit(lambda *inputs: model.apply({'params': params}, *inputs)['semantic'])
  scores = apply({'rgb': batch})
  assert scores.shape == (2, 40, 50, 21) and scores.dtype == np.float32 and np.ptp(scores) > 0
  whole = apply({'rgb': batch}, np.array([[40, 50]] * 2))
  np.testing.assert_allclose(scores, whole, atol=1e-5 * np.abs(whole).max())


@pytest.mark.slow
def test_settings_streams_heads_and_seed_are_keywords():
  heads = {'semantic': 21, 'edge': 2}
  streams = {'inputs': {'rgb': 3, 'depth': 1}, 'mean': (1.0,) * 4, 'std': [2.0] * 4}
  model, params = fcn_jax.build_model('fcn16s', heads, norm='group', group_size=4, shrink=2, **streams, **TINY)
  assert model.shrink == 2 and {'trunk_rgb', 'trunk_depth'} <= params.keys()
  assert model.heads == heads and model.std == {'rgb': (2.0,) * 3, 'depth': (2.0,)}
  assert 'scale' in str(jax.tree.structure(params['trunk_rgb'])), 'GroupNorm'
  kernels = [fcn_jax.build_model('fcn32s', 2, seed=seed, **TINY)[1]['trunk']['conv1_1']['kernel'] for seed in (0, 0, 1)]
  assert np.array_equal(kernels[0], kernels[1]) and not np.array_equal(kernels[0], kernels[2])


@pytest.mark.parametrize(
  ('name', 'settings', 'words'),
  [
    ('fcn4s', {}, "there is no network 'fcn4s' (did you mean"),
    ('fcn8s', {'backbone': 'vgg'}, "model.backbone is 'vgg' (did you mean vgg16?); expected one of vgg16"),
    ('fcn8s', {'widht': 0.5}, 'there is no setting model.widht (did you mean model.width?)'),
    ('fcn8s', {'data.mean': (1.0,) * 3}, 'the setting data.mean is now called model.mean'),
    ('fcn8s', {'optim.freeze_trunk': True}, 'the setting optim.freeze_trunk is now called optim.freeze_backbone'),
    ('fcn8s', {'width': 'wide'}, "model.width is 'wide'; expected float, like 1.0"),
    ('fcn8s', {'width': 0.3}, 'expected a whole number'),
    ('fcn32s', {'skips': 'pool4'}, 'finer than model.stride 32'),
    ('fcn8s', {'inputs': {'rgb': 3, 'depth': 1}}, 'the images have 4 channels (3 of rgb, 1 of depth)'),
    ('fcn8s', {'weights': 'nothing.safetensors'}, 'there is no weights file nothing.safetensors'),
  ],
  ids=str,
)
def test_a_wrong_network_or_setting_is_an_error(name, settings, words):
  with pytest.raises(UserError) as caught:
    fcn_jax.build_model(name, 21, **settings)
  assert words in str(caught.value)


@pytest.mark.slow
def test_weights_of_a_backbone_and_their_preprocessing_are_loaded(tmp_path):
  from safetensors.numpy import save_file

  config = weight_formats.config_for(8, model__geometry='aligned')
  _, source = weight_formats.network(config)
  path = tmp_path / 'vgg16.safetensors'
  save_file(weight_formats.torchvision(source), path)
  model, params = fcn_jax.build_model('fcn8s', classes=21, backbone='vgg16', weights=str(path), **TINY)
  jax.tree.map(np.testing.assert_array_equal, params['trunk'], source['trunk'])
  assert not np.any(params['score_fr']['kernel'])
  assert model.std['rgb'][0] == pytest.approx(0.229 * 255) and model.mean['rgb'][0] == pytest.approx(0.485 * 255)
  partial = {name: x for name, x in weight_formats.torchvision(source).items() if not name.startswith('classifier')}
  save_file(partial, tmp_path / 'features.safetensors')
  features = {'weights': str(tmp_path / 'features.safetensors')} | TINY
  with pytest.raises(UserError, match=r"if you intend that, pass allow_mismatch='fc6\+fc7'$"):
    fcn_jax.build_model('fcn8s', 21, **features)
  fcn_jax.build_model('fcn8s', 21, allow_mismatch='fc6+fc7', **features)
  with pytest.raises(UserError, match=r"preprocessing is 'cafe' \(did you mean caffe"):
    fcn_jax.build_model('fcn8s', 21, preprocessing='cafe')
  given = {'weights': str(path), 'preprocessing': 'caffe', 'mean': (1.0, 2.0, 3.0)}
  model, _ = fcn_jax.build_model('fcn8s', 21, **given, **TINY)
  assert (model.mean['rgb'], model.std['rgb']) == ((1.0, 2.0, 3.0), (1.0, 1.0, 1.0))
  with pytest.raises(UserError, match=r'does not fit the network: .*model\.width=0\.0625 and model\.fc_channels=256'):
    fcn_jax.build_model('fcn8s', 21, weights=str(path), width=1 / 8, fc_channels=256)
