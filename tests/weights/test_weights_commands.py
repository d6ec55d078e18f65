"""The commands with weights files: convert, train, evaluate, predict."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
import weight_formats
from absl import flags
from command_line import flags_of
from flax import traverse_util
from PIL import Image
from weight_formats import (
  SMALL,
  build,
  check_close,
  config_for,
  network,
  opencv_scores,
  smooth_image,
  write_caffemodel,
)

from fcn_jax.errors import UserError
from fcn_jax.models import names
from fcn_jax.weights import __main__ as weights_command
from fcn_jax.weights import formats, tensors


def command(module, *arguments, cwd):
  return tiny.run([sys.executable, '-m', f'fcn_jax.{module}', *map(str, arguments)], cwd=cwd)


def small_flags(config_file, **changes):
  flags = SMALL | {name.replace('__', '.'): x for name, x in changes.items()}
  return [f'--config={tiny.ROOT}/experiments/{config_file}', *(f'--config.{name}={x}' for name, x in flags.items())]


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'found 0 arguments; expected 2: SOURCE and OUT.npz'),
    (['vgg.h5', 'vgg.h5'], 'vgg.h5 does not end in .npz'),
    (['', 'out.NPZ'], "the path '' is empty"),
    (['none.h5', 'out.npz'], 'there is no weights file none.h5'),
    (['vgg.pth', 'out.npz'], 'is a pickle'),
  ],
)
def test_errors_are_one_line(tmp_path, arguments, message):
  done = command('weights', *arguments, cwd=tmp_path)
  assert done.returncode == 1 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  assert message in done.stderr and not list(tmp_path.iterdir())


def test_a_run_is_no_weights_file(tmp_path):
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'config.json').write_text('{}')
  done = command('weights', 'run', 'out', cwd=tmp_path)
  assert done.returncode == 1 and 'run is a run, not a weights file. To start another run from its' in done.stderr
  with pytest.raises(UserError, match=r'--config\.init\.run='):  # of all commands that read weights
    formats.read(tmp_path / 'run')


@pytest.fixture
def convert(tmp_path, monkeypatch, caplog):
  """A function that runs the command in this process, in `tmp_path`, and returns what it prints."""
  monkeypatch.chdir(tmp_path)

  def convert(*arguments, **given):
    caplog.clear()
    with caplog.at_level('INFO', 'fcn_jax'), flags_of(weights_command):
      if not flags.FLAGS.is_parsed():
        flags.FLAGS(['test'])
      for name, value in given.items():
        flags.FLAGS[name].value = value
      weights_command.main([str(argument) for argument in arguments])
    return '\n'.join(caplog.messages)

  return convert


def test_an_output_that_exists_is_skipped_and_the_source_is_never_the_output(tmp_path, monkeypatch, convert):
  _, params = network(config_for(8))
  write_caffemodel(tmp_path / 'fcn.caffemodel', params, 8)
  (tmp_path / 'mine.npz').write_bytes(b'mine')
  with pytest.raises(UserError, match=r'there is no weights file none\.h5'):
    convert('none.h5', 'mine.npz')
  assert convert('fcn.caffemodel', 'mine.npz') == 'skipped: mine.npz exists; pass --overwrite to write it again'
  assert (tmp_path / 'mine.npz').read_bytes() == b'mine'
  assert 'mine.npz: ' in convert('fcn.caffemodel', 'mine.npz', overwrite=True)
  content = (tmp_path / 'mine.npz').read_bytes()
  (tmp_path / 'link.npz').symlink_to('mine.npz')
  for out in ('mine.npz', './mine.npz', tmp_path / 'mine.npz', 'link.npz'):
    for overwrite in (False, True):
      with pytest.raises(UserError, match=r'is the source itself; expected another file as the output'):
        convert('mine.npz', out, overwrite=overwrite)
  assert (tmp_path / 'mine.npz').read_bytes() == content

  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  assert 'values' in convert('mine.npz', '~/made/vgg.npz')
  assert 'values' in convert('~/made/vgg.npz', 'again.npz')
  assert sorted(p.name for p in tmp_path.iterdir()) == ['again.npz', 'fcn.caffemodel', 'home', 'link.npz', 'mine.npz']


def test_the_preprocessing_is_assumed_and_said_so_or_given_and_recorded(tmp_path, convert):
  from safetensors.numpy import save_file

  save_file(weight_formats.torchvision(network(config_for(8))[1]), tmp_path / 'vgg.safetensors')
  printed = convert('vgg.safetensors', 'assumed.npz')
  assert 'subtract (123.67, 116.28, 103.53), divide by (58.40, 57.12, 57.38)' in printed
  assert 'those of torchvision, because vgg.safetensors does not say' in printed and '--preprocessing' in printed
  printed = convert('vgg.safetensors', 'caffe.npz', preprocessing='caffe')
  assert 'subtract (122.68, 116.67, 104.01), divide by (1.00, 1.00, 1.00)' in printed and 'does not say' not in printed
  found = formats.read(tmp_path / 'caffe.npz')
  assert (found.mean, found.std, found.assumed) == (*names.PREPROCESSING['caffe'], '')


@pytest.mark.slow
def test_predict_with_a_file_saves_scores(tmp_path):
  _, params = network(config_for(8))
  path = write_caffemodel(tmp_path / 'fcn8s.caffemodel', params, 8)
  images = {'wide': smooth_image(67, 90), 'high': smooth_image(101, 53, seed=1)}
  for name, image in images.items():
    Image.fromarray(image).save(tmp_path / f'{name}.png')
  files = [tmp_path / f'{name}.png' for name in images]
  flags = [*small_flags('fcn8s.py:voc2011'), f'--weights={path}', '--save_scores', f'--out={tmp_path}/out']
  done = command('predict', *flags, *files, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  for name, image in images.items():
    with np.load(tmp_path / 'out' / f'{name}.scores.npz') as file:
      found = file['scores']
    assert found.dtype == np.float32
    check_close(found, opencv_scores(tmp_path, params, 8, image))
    with Image.open(tmp_path / 'out' / f'{name}.png') as label:
      assert np.array_equal(np.asarray(label), found.argmax(-1))

  backbone = tmp_path / 'vgg16.caffemodel'
  backbone.write_bytes(weight_formats.caffemodel(weight_formats.vgg_blobs(params)))
  done = command('predict', *small_flags('fcn8s.py:voc2011'), f'--weights={backbone}', *files, cwd=tmp_path)
  assert done.returncode == 1 and 'score_fr/kernel' in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.slow
def test_a_run_starts_from_a_file_and_resumes_without_it(tmp_path, data_dir):
  config = config_for(32, dataset='scenes', model__geometry='aligned', model__norm='none')
  _, params = network(config)
  weight_formats.write_keras(tmp_path / 'vgg16.h5', params)
  done = command('weights', 'vgg16.h5', 'vgg16.npz', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert 'unused    predictions' in done.stdout
  assert 'subtract (123.68, 116.78, 103.94), divide by (1.00, 1.00, 1.00)' in done.stdout

  start = tiny.command(data_dir, tmp_path / 'run', model__fc_channels=256, init__weights=tmp_path / 'vgg16.npz')
  first = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  tiny.until(lambda: list((tmp_path / 'run' / 'checkpoints').glob('[0-9]*')), first)
  first.terminate()
  assert first.wait(60) in (75, 0)
  saved = json.loads((tmp_path / 'run' / 'config.json').read_text())
  assert saved['model']['mean'] == [123.68, 116.779, 103.939] and saved['model']['std'] == [1, 1, 1]
  (tmp_path / 'vgg16.npz').unlink()
  done = tiny.run(start)
  assert done.returncode == 0, done.stderr
  source = f'{tmp_path}/vgg16.npz'
  assert f'input    mean 123.68,116.779,103.939 ({source}), std 1,1,1 ({source})\n' in done.stdout
  assert json.loads((tmp_path / 'run' / 'config.json').read_text()) == saved


@pytest.mark.slow
def test_evaluate_scores_a_file(tmp_path, data_dir):
  config = config_for(32, dataset='scenes', model__norm='none')
  model = build(config, classes=8)
  shapes = jax.eval_shape(model.init, jax.random.key(0), model.example_inputs())['params']
  rng = np.random.default_rng(0)
  random = {
    path: tensors.Tensor(rng.normal(0, 0.1, x.shape).astype(np.float32), '')
    for path, x in traverse_util.flatten_dict(shapes, sep='/').items()
  }
  formats.write(tmp_path / 'fcn.npz', tensors.Weights(random, {}, (120.0, 120.0, 120.0), (64.0, 64.0, 64.0)))
  flags = small_flags('fcn32s.py', model__norm='none', data__dir=data_dir)
  done = command('evaluate', *flags, '--weights=fcn.npz', '--out=scored', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  scores = json.loads((tmp_path / 'scored' / 'eval' / 'validation.json').read_text())
  assert scores['images'] == 100 and 0 < scores['pixel_accuracy'] < 1
  assert 'fcn.npz, on validation of scenes' in done.stdout
