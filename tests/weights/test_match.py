"""Weights of files in the network, against implementations that are not ours."""

import functools
import http.server
import json
import subprocess
import sys
import threading

import cv2
import jax
import numpy as np
import pytest
import tiny
import weight_formats
from PIL import Image
from weight_formats import CLASSES, SMALL, config_for, network

from fcn_jax.errors import UserError
from fcn_jax.models import fcn
from fcn_jax.weights import formats, match, tensors

NETS = {'fcn32s': (32, False), 'fcn16s': (16, False), 'fcn8s': (8, False), 'fcn8s_atonce': (8, True)}
MEAN_BGR = (104.00699, 116.66877, 122.67892)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
  """Smooth colours, uint8 [H, W, 3]."""
  coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
  return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write_caffemodel(path, params, stride, at_once=False):
  path.write_bytes(weight_formats.caffemodel(weight_formats.caffe_blobs(params, stride, at_once=at_once)))
  return path


def opencv_scores(folder, params, stride, image, at_once=False) -> np.ndarray:
  """The scores [H, W, C] of the authors' network as OpenCV computes it from Caffe's files."""
  height, width = image.shape[:2]
  (folder / 'deploy.prototxt').write_text(weight_formats.prototxt(params, stride, height, width, at_once=at_once))
  model = write_caffemodel(folder / 'opencv.caffemodel', params, stride, at_once)
  net = cv2.dnn.readNetFromCaffe(str(folder / 'deploy.prototxt'), str(model))
  net.setInput((image[..., ::-1].astype(np.float32) - MEAN_BGR).transpose(2, 0, 1)[None].astype(np.float32))
  return net.forward('score')[0].transpose(1, 2, 0)


def check_close(found, expected):
  assert found.shape == expected.shape and np.ptp(expected) > 0
  assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def scores(config, params, image) -> np.ndarray:
  model = fcn.from_config(config, CLASSES)
  return np.asarray(jax.jit(model.apply)({'params': params}, image[None]))[0]


@pytest.mark.parametrize('size', [(67, 90), (101, 53)])
@pytest.mark.parametrize('net', NETS)
def test_scores_are_those_of_caffes_network_in_opencv(tmp_path, net, size):
  stride, at_once = NETS[net]
  config = config_for(stride, model__at_once=at_once)
  _, params = network(config)
  image = picture(*size)
  path = write_caffemodel(tmp_path / f'{net}.caffemodel', params, stride, at_once)
  config, loaded = match.load(config, CLASSES, str(path), lambda _: None)
  check_close(scores(config, loaded, image), opencv_scores(tmp_path, params, stride, image, at_once))


@pytest.mark.parametrize('batch_norm', [False, True])
def test_trunk_is_torchvisions_in_pytorch(tmp_path, batch_norm):
  torch = pytest.importorskip('torch', reason="PyTorch is not here: pip install 'fcn_jax[bench]'")
  from safetensors.numpy import save_file

  config = config_for(32, model__geometry='aligned')
  model, params = network(config)
  norms = weight_formats.random_batch_norm(params) if batch_norm else None
  state = weight_formats.torchvision(params, batch_norm=norms)
  save_file(state, tmp_path / 'vgg16.safetensors')

  layers, pooled_after = [], ('conv1_2', 'conv2_2', 'conv3_3', 'conv4_3', 'conv5_3')
  for name in weight_formats.CONVOLUTIONS:
    inside, outside = params['trunk'][name]['kernel'].shape[2:]
    layers.append(torch.nn.Conv2d(inside, outside, 3, padding=1))
    layers += [torch.nn.BatchNorm2d(outside)] if batch_norm else []
    layers.append(torch.nn.ReLU())
    layers += [torch.nn.MaxPool2d(2, 2)] if name in pooled_after else []
  fc6, fc7 = (params['trunk'][name]['kernel'].shape for name in ('fc6', 'fc7'))
  classifier = [torch.nn.Linear(49 * fc6[2], fc6[3]), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(*fc7[2:])]
  peer = torch.nn.ModuleDict(
    {
      'features': torch.nn.Sequential(*layers),
      'classifier': torch.nn.Sequential(
        *classifier, torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(fc7[3], 1000)
      ),
    }
  )
  peer.load_state_dict({name: torch.tensor(x) for name, x in state.items()})
  peer.eval()

  weights = formats.read(tmp_path / 'vgg16.safetensors')
  config = match.with_preprocessing(config, weights, 'vgg16.safetensors')
  loaded = match.fit(params, weights, config, 'vgg16.safetensors', lambda _: None)
  image = picture(224, 224)
  x = (image / 255 - tensors.IMAGENET_MEAN) / tensors.IMAGENET_STD  # as torchvision has it
  with torch.no_grad():
    features = peer['features'](torch.tensor(x.transpose(2, 0, 1)[None], dtype=torch.float32))
    # Its classifier, without the last layer, is fc7 where fc6's kernel covers the whole map: at the centre.
    expected = peer['classifier'][:5](features.flatten(1))

  model = fcn.from_config(config, CLASSES)
  normalised = (image - np.array(model.mean)) / np.array(model.std)
  maps = model.trunk.apply({'params': loaded['trunk']}, normalised[None].astype(np.float32), lambda _: None, False)
  check_close(np.asarray(maps['pool5'])[0], features[0].permute(1, 2, 0).numpy())
  check_close(np.asarray(maps['fc7'])[0, 3, 3], expected[0].numpy())


def fit(path, config, whole=False):
  """Parameters, and what was said of them."""
  lines = []
  weights = formats.read(path)
  _, params = network(config, seed=1)
  return match.fit(params, weights, config, str(path), lines.append, whole=whole), lines


def test_every_tensor_is_accounted_for(tmp_path):
  config = config_for(16)
  _, params = network(config)
  path = tmp_path / 'vgg.caffemodel'
  path.write_bytes(weight_formats.caffemodel(weight_formats.vgg_blobs(params)))
  loaded, lines = fit(path, config)
  fates = [line.split()[0] for line in lines]
  assert fates.count('loaded') == 28 and fates.count('reshaped') == 2 and fates.count('fresh') == 4
  assert [line.split()[:3] for line in lines[-2:]] == [['left', 'over', 'fc8'], ['left', 'over', 'fc8[1]']]
  assert '  reshaped   trunk/fc6/kernel [7, 7, 32, 16]  fc6, reshaped from [16, 1568]' in lines
  assert np.array_equal(loaded['trunk']['conv5_3']['kernel'], params['trunk']['conv5_3']['kernel'])
  assert not np.array_equal(loaded['score_fr']['kernel'], params['score_fr']['kernel'])  # fresh


def test_upsampling_is_loaded_where_it_is_trained(tmp_path):
  config = config_for(8, model__upsample='bilinear_learned')
  _, params = network(config)
  loaded, lines = fit(write_caffemodel(tmp_path / 'fcn.caffemodel', params, 8), config, whole=True)
  assert not any(line.startswith(('  fresh', '  left over')) for line in lines)
  expected = np.repeat(weight_formats.bilinear(8)[..., None], CLASSES, -1)
  np.testing.assert_allclose(loaded['upsample_to_1']['kernel'], expected, atol=1e-6)


def test_stages_start_from_the_one_before(tmp_path):
  path = write_caffemodel(tmp_path / 'fcn32s.caffemodel', network(config_for(32))[1], 32)
  _, lines = fit(path, config_for(16))
  assert [line.split()[1] for line in lines if line.startswith('  fresh')] == ['score_pool4/bias', 'score_pool4/kernel']
  assert '  left over  upsample_to_1/kernel [64, 64, 21]  upscore, bilinear' in lines


def test_what_was_not_asked_for_is_refused(tmp_path):
  config = config_for(8)
  _, params = network(config)
  blobs = weight_formats.caffe_blobs(params, 8)

  def write(blobs):
    path = tmp_path / 'x.caffemodel'
    path.write_bytes(weight_formats.caffemodel(blobs))
    return path

  path = write({name: x for name, x in blobs.items() if name not in ('fc6', 'fc7')})
  with pytest.raises(
    UserError,
    match=r'x\.caffemodel does not fit the network: trunk/fc6/bias .16. would be fresh.*'
    r'--config\.init\.without=fc6\+fc7',
  ):
    fit(path, config)
  _, lines = fit(path, config_for(8, init__without='fc6+fc7'))
  assert sum(line.startswith('  fresh') for line in lines) == 4
  with pytest.raises(UserError, match=r'would be fresh.*expected a file with all of it'):
    fit(path, config_for(8, init__without='fc6+fc7'), whole=True)

  path = write(blobs | {'fc9': [np.ones((3, 4)), np.ones(3)]})
  with pytest.raises(UserError, match=r'fc9 .3, 4. would be left over.*init\.without=fc9'):
    fit(path, config)
  fit(path, config_for(8, init__without='fc9'))

  path = write(blobs)
  with pytest.raises(UserError, match=r'conv1_1/bias .8. would be fresh \(conv1_1 is .4.\).*and \d+ more'):
    fit(path, config_for(8, model__width=1 / 8))
  with pytest.raises(UserError, match=r'score_pool3/kernel .1, 1, 16, 21. would be left over'):
    fit(path, config_for(16))
  moved = [blobs['upscore2'][0] * 1.1]
  with pytest.raises(UserError, match=r'upsample_to_16/kernel .* would be left over'):
    fit(write(blobs | {'upscore2': moved}), config)

  with pytest.raises(UserError, match=r'multiplies the pools by nothing, the network by .*model.at_once=False'):
    fit(path, config_for(8, model__at_once=True))
  with pytest.raises(UserError, match=r'the network by nothing; set model.at_once=True'):
    fit(write_caffemodel(tmp_path / 'once.caffemodel', params, 8, at_once=True), config)


def test_preprocessing_travels_and_a_conflict_is_an_error(tmp_path):
  config = config_for(8)
  weight_formats.write_keras(tmp_path / 'vgg.h5', network(config)[1])
  weights = formats.read(tmp_path / 'vgg.h5')
  settled = match.with_preprocessing(config, weights, 'vgg.h5')
  assert settled.data.mean == (123.68, 116.779, 103.939) and config.data.mean == (122.67892, 116.66877, 104.00699)
  assert match.with_preprocessing(settled, weights, 'vgg.h5') == settled
  config.data.std = (64.0, 64.0, 64.0)
  with pytest.raises(UserError, match=r'data\.std is \(64.*but vgg\.h5 was trained with \(1\.0.*leave data\.std out'):
    match.with_preprocessing(config, weights, 'vgg.h5')


@pytest.fixture
def server(tmp_path):
  """An address that serves the files of a folder, and how often it was asked."""
  asked = []

  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
      asked.append(self.path)

  folder = tmp_path / 'served'
  folder.mkdir()
  running = http.server.ThreadingHTTPServer(('localhost', 0), functools.partial(Handler, directory=folder))
  threading.Thread(target=running.serve_forever).start()
  yield folder, f'http://localhost:{running.server_port}', asked
  running.shutdown()
  running.server_close()


def test_a_known_file_is_fetched_once_and_checked(tmp_path, monkeypatch, server):
  import hashlib

  folder, address, asked = server
  config = config_for(8)
  weight_formats.write_keras(folder / 'vgg16.h5', network(config)[1])
  digest = hashlib.md5((folder / 'vgg16.h5').read_bytes()).hexdigest()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setitem(match.KNOWN, 'small', match.Known(f'{address}/vgg16.h5', f'md5:{digest}'))
  for _ in range(2):
    assert len(match.read('small').tensors) == 30
  assert asked == ['/vgg16.h5']

  monkeypatch.setitem(match.KNOWN, 'small', match.Known(f'{address}/vgg16.h5', f'md5:{"0" * 32}'))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'another'))
  with pytest.raises(UserError, match=r'cannot fetch http://localhost.*hash'):
    match.read('small')
  assert not list((tmp_path / 'another').rglob('*vgg16*'))

  port = tiny.free_port()
  monkeypatch.setitem(match.KNOWN, 'small', match.Known(f'http://localhost:{port}/vgg16.h5', f'md5:{digest}'))
  with pytest.raises(
    UserError, match=r'cannot fetch .*put it into .*another/fcn_jax/weights, or name it: --config\.init'
  ):
    match.read('small')


def test_vgg16_is_a_known_file():
  known = match.KNOWN['vgg16']
  assert known.url.startswith('https://') and known.checksum.startswith('md5:') and len(known.checksum) == 36


def command(module, *arguments, cwd):
  return tiny.run([sys.executable, '-m', f'fcn_jax.{module}', *map(str, arguments)], cwd=cwd)


def small_flags(config_file, **changes):
  flags = SMALL | {name.replace('__', '.'): x for name, x in changes.items()}
  return [f'--config={tiny.ROOT}/experiments/{config_file}', *(f'--config.{name}={x}' for name, x in flags.items())]


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    ([], '0 arguments; expected SOURCE and OUT.npz'),
    (['vgg.h5', 'vgg.h5'], 'vgg.h5 does not end in .npz'),
    (['none.h5', 'out.npz'], 'there is no file none.h5'),
    (['vgg.pth', 'out.npz'], 'is a pickle'),
  ],
)
def test_the_command_says_in_a_sentence_what_is_wrong(tmp_path, arguments, sentence):
  done = command('weights', *arguments, cwd=tmp_path)
  assert done.returncode == 1 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  assert sentence in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_predict_from_a_file_saves_scores(tmp_path):
  _, params = network(config_for(8))
  path = write_caffemodel(tmp_path / 'fcn8s.caffemodel', params, 8)
  images = {'wide': picture(67, 90), 'high': picture(101, 53, seed=1)}
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

  trunk = tmp_path / 'vgg16.caffemodel'
  trunk.write_bytes(weight_formats.caffemodel(weight_formats.vgg_blobs(params)))
  done = command('predict', *small_flags('fcn8s.py:voc2011'), f'--weights={trunk}', *files, cwd=tmp_path)
  assert done.returncode == 1 and 'score_fr/kernel' in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.slow
def test_a_run_starts_from_a_file_and_goes_on_without_it(tmp_path, data_dir):
  config = config_for(32, dataset='scenes', model__geometry='aligned', model__norm='none')
  _, params = network(config)
  weight_formats.write_keras(tmp_path / 'vgg16.h5', params)
  done = command('weights', 'vgg16.h5', 'vgg16.npz', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert (
    'left over  predictions' in done.stdout and 'minus (123.68, 116.78, 103.94), over (1.00, 1.00, 1.00)' in done.stdout
  )

  start = tiny.command(data_dir, tmp_path / 'run', model__fc_channels=256, init__weights=tmp_path / 'vgg16.npz')
  first = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  tiny.until(lambda: list((tmp_path / 'run' / 'checkpoints').glob('[0-9]*')), first)
  first.terminate()
  assert first.wait(60) in (75, 0)
  saved = json.loads((tmp_path / 'run' / 'config.json').read_text())
  assert saved['data']['mean'] == [123.68, 116.779, 103.939] and saved['data']['std'] == [1, 1, 1]
  (tmp_path / 'vgg16.npz').unlink()
  done = tiny.run(start)
  assert done.returncode == 0, done.stderr
  assert json.loads((tmp_path / 'run' / 'config.json').read_text()) == saved


@pytest.mark.slow
def test_evaluate_scores_a_file(tmp_path, data_dir):
  config = config_for(32, dataset='scenes', model__norm='none')
  model = fcn.from_config(config, 8)
  shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 1, 1, 3), np.uint8))['params']
  rng = np.random.default_rng(0)
  drawn = {
    jax.tree_util.keystr(path, simple=True, separator='/'): tensors.Tensor(
      rng.normal(0, 0.1, x.shape).astype(np.float32), ''
    )
    for path, x in jax.tree_util.tree_leaves_with_path(shapes)
  }
  formats.write(tmp_path / 'fcn.npz', tensors.Weights(drawn, {}, (120.0, 120.0, 120.0), (64.0, 64.0, 64.0)))
  flags = small_flags('fcn32s.py', model__norm='none', data__dir=data_dir)
  done = command('evaluate', *flags, '--weights=fcn.npz', '--out=scored', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  scores = json.loads((tmp_path / 'scored' / 'eval' / 'validation.json').read_text())
  assert scores['images'] == 100 and 0 < scores['pixel_accuracy'] < 1
  assert 'fcn.npz, on validation of scenes' in done.stdout
