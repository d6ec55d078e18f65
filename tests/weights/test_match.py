"""Networks with weights from files, compared with other implementations; every tensor is accounted for."""

import jax
import numpy as np
import pytest
import weight_formats
from weight_formats import (
  CLASSES,
  build,
  check_close,
  config_for,
  network,
  opencv_scores,
  smooth_image,
  write_caffemodel,
)

from fcn_jax.config import normalization
from fcn_jax.errors import UserError
from fcn_jax.weights import formats, match

NETS = {'fcn32s': (32, False), 'fcn16s': (16, False), 'fcn8s': (8, False), 'fcn8s_atonce': (8, True)}


def scores(config, params, image) -> np.ndarray:
  return np.asarray(jax.jit(build(config).apply)({'params': params}, {'rgb': image[None]})['semantic'])[0]


@pytest.mark.parametrize('size', [(67, 90), (101, 53)])
@pytest.mark.parametrize('net', NETS)
def test_scores_equal_those_of_the_caffe_network_in_opencv(tmp_path, net, size):
  stride, at_once = NETS[net]
  config = config_for(stride, model__at_once=at_once)
  _, params = network(config)
  image = smooth_image(*size)
  path = write_caffemodel(tmp_path / f'{net}.caffemodel', params, stride, at_once=at_once)
  config, loaded = match.load(config, {'rgb': 3}, {'semantic': CLASSES}, str(path))
  check_close(scores(config, loaded, image), opencv_scores(tmp_path, params, stride, image, at_once=at_once))


@pytest.mark.parametrize('batch_norm', [False, True])
def test_backbone_equals_torchvisions_in_pytorch(tmp_path, batch_norm):
  torch = pytest.importorskip('torch', reason="PyTorch is missing: pip install 'fcn_jax[bench]'")
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
  config = normalization.resolve(config, weights, 'vgg16.safetensors')
  loaded, _ = match.fit(params, weights, config, 'vgg16.safetensors')
  image = smooth_image(224, 224)
  x = (image / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)  # torchvision's form
  with torch.no_grad():
    end = [i for i, layer in enumerate(layers) if isinstance(layer, torch.nn.MaxPool2d)][3] + 1
    pool4 = peer['features'][:end](torch.tensor(x.transpose(2, 0, 1)[None], dtype=torch.float32))
    # The classifier without its last layer is fc7 where the kernel of fc6 covers the whole map: at the center.
    fc7 = peer['classifier'][:5](peer['features'][end:](pool4).flatten(1))

  normalized = (image - np.array(config.model.mean)) / np.array(config.model.std)
  taps = model.backbones['rgb'].apply(
    {'params': loaded['trunk']}, normalized[None].astype(np.float32), lambda _: None, False
  )
  check_close(np.asarray(taps['pool4'])[0], pool4[0].permute(1, 2, 0).numpy())
  check_close(np.asarray(taps['fc7'])[0, 3, 3], fc7[0].numpy())


def fit(path, config, whole=False):
  """Loads a file into a network; returns the parameters and lines: the summary, and one per tensor."""
  params, rows = match.fit(network(config, seed=1)[1], formats.read(path), config, str(path), whole=whole)
  return params, [match.summary_line(rows, str(path)), *(f'  {match.row_text(row)}' for row in rows)]


def test_every_tensor_is_accounted_for(tmp_path):
  config = config_for(16)
  _, params = network(config)
  path = tmp_path / 'vgg.caffemodel'
  path.write_bytes(weight_formats.caffemodel(weight_formats.vgg_blobs(params)))
  loaded, lines = fit(path, config)
  outcomes = [line.split()[0] for line in lines[1:]]
  assert lines[0] == f'restored 15 of 17 layers from {path}; new: score_fr, score_pool4 (missing there); unused: fc8'
  assert outcomes.count('loaded') == 28 and outcomes.count('reshaped') == 2 and outcomes.count('new') == 4
  assert [line.split()[:2] for line in lines[-2:]] == [['unused', 'fc8'], ['unused', 'fc8[1]']]
  assert '  reshaped  trunk/fc6/kernel [7, 7, 32, 16]  fc6, reshaped from [16, 1568]' in lines
  assert np.array_equal(loaded['trunk']['conv5_3']['kernel'], params['trunk']['conv5_3']['kernel'])
  assert not np.array_equal(loaded['score_fr']['kernel'], params['score_fr']['kernel'])  # new


def test_upsampling_with_parameters_is_loaded(tmp_path):
  config = config_for(8, model__upsample='bilinear_learned')
  _, params = network(config)
  loaded, lines = fit(write_caffemodel(tmp_path / 'fcn.caffemodel', params, 8), config, whole=True)
  assert not any(line.startswith(('  new', '  unused')) for line in lines)
  expected = np.repeat(weight_formats.bilinear(8)[..., None], CLASSES, -1)
  np.testing.assert_allclose(loaded['upsample_to_1']['kernel'], expected, atol=1e-6)


def test_fcn16s_starts_from_a_file_of_fcn32s(tmp_path):
  path = write_caffemodel(tmp_path / 'fcn32s.caffemodel', network(config_for(32))[1], 32)
  _, lines = fit(path, config_for(16))
  assert [line.split()[1] for line in lines if line.startswith('  new')] == ['score_pool4/bias', 'score_pool4/kernel']
  assert '  unused    upsample_to_1/kernel [64, 64, 21]  upscore, bilinear' in lines


def test_mismatches_that_the_config_does_not_allow_are_refused(tmp_path):
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
    match=r'x\.caffemodel does not fit the network: trunk/fc6/bias .16. would be newly initialized.*'
    r'--config\.init\.allow_mismatch=fc6\+fc7',
  ):
    fit(path, config)
  _, lines = fit(path, config_for(8, init__allow_mismatch='fc6+fc7'))
  assert sum(line.startswith('  new') for line in lines) == 4
  with pytest.raises(UserError, match=r'would be newly initialized.*expected a file with exactly its parameters'):
    fit(path, config_for(8, init__allow_mismatch='fc6+fc7'), whole=True)

  path = write(blobs | {'fc9': [np.ones((3, 4)), np.ones(3)]})
  with pytest.raises(UserError, match=r'fc9 .3, 4. would be unused.*init\.allow_mismatch=fc9'):
    fit(path, config)
  fit(path, config_for(8, init__allow_mismatch='fc9'))

  path = write(blobs)
  with pytest.raises(
    UserError,
    match=r'conv1_1/bias .8. would be newly initialized \(conv1_1 is .4. in the file\).*and \d+ more; the file is for '
    r'model\.width=0\.0625 and model\.fc_channels=256: set both',
  ):
    fit(path, config_for(8, model__width=1 / 8))
  with pytest.raises(UserError, match=r'score_pool3/kernel .1, 1, 16, 21. would be unused'):
    fit(path, config_for(16))
  moved = [blobs['upscore2'][0] * 1.1]
  with pytest.raises(UserError, match=r'upsample_to_16/kernel .* would be unused'):
    fit(write(blobs | {'upscore2': moved}), config)

  with pytest.raises(
    UserError, match=r'multiplies the pools by nothing, but the network multiplies them by .*model\.at_once=False'
  ):
    fit(path, config_for(8, model__at_once=True))
  with pytest.raises(UserError, match=r'the network multiplies them by nothing; set model\.at_once=True'):
    fit(write_caffemodel(tmp_path / 'once.caffemodel', params, 8, at_once=True), config)


def test_a_file_with_another_classifier_fits_if_the_config_allows_it(tmp_path):
  config = config_for(8)
  blobs = weight_formats.vgg_blobs(network(config)[1])
  blobs['fc6'][0] = np.ones((16, 32, 3, 3))  # as in networks for detection
  path = tmp_path / 'reduced.caffemodel'
  path.write_bytes(weight_formats.caffemodel(blobs))
  with pytest.raises(
    UserError, match=r'trunk/fc6/kernel .* \(fc6 is \[3, 3, 32, 16\] in the file\); if you intend that'
  ):
    fit(path, config)
  _, lines = fit(path, config_for(8, init__allow_mismatch='fc6'))
  assert '  new       trunk/fc6/kernel [7, 7, 32, 16]  fc6 is [3, 3, 32, 16] in the file' in lines
