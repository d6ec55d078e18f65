"""Readers return the tensors that the files were written from, bit for bit, and name what is wrong with a file."""

import numpy as np
import pytest
import weight_formats
from weight_formats import CONVOLUTIONS, config_for, network

from fcn_jax.errors import UserError
from fcn_jax.weights import formats


@pytest.fixture(scope='module')
def params():
  return network(config_for(stride=8))[1]


def save(path, tensors):
  from safetensors.numpy import save_file

  save_file(tensors, path)
  return path


def check_backbone(weights, params, layers=(*CONVOLUTIONS, 'fc6', 'fc7'), tolerance=0.0):
  for layer in layers:
    for kind in ('kernel', 'bias'):
      found = weights.tensors[f'trunk/{layer}/{kind}'].value
      assert found.dtype == np.float32
      np.testing.assert_allclose(found, params['trunk'][layer][kind], rtol=0, atol=tolerance)
  if 'fc6' not in layers:
    assert not any(name.startswith('trunk/fc') for name in weights.tensors)


@pytest.mark.parametrize('options', [{}, {'old': True}, {'double': True}])
def test_vgg16_of_caffe(tmp_path, params, options):
  path = tmp_path / 'VGG_ILSVRC_16_layers.caffemodel'
  path.write_bytes(weight_formats.caffemodel(weight_formats.vgg_blobs(params), **options))
  weights = formats.read(path)
  check_backbone(weights, params)
  assert set(weights.others) == {'fc8', 'fc8[1]'}
  assert weights.mean == (122.67892, 116.66877, 104.00699) and weights.std == (1, 1, 1)
  assert weights.tensors['trunk/fc6/kernel'].change == 'reshaped from [16, 1568]'
  assert weights.tensors['trunk/conv1_1/kernel'].change == 'BGR reversed to RGB'


@pytest.mark.parametrize('options', [{}, {'old': True}])
def test_fcn8s_at_once_of_the_authors(tmp_path, params, options):
  path = tmp_path / 'fcn.caffemodel'
  path.write_bytes(weight_formats.caffemodel(weight_formats.caffe_blobs(params, 8, at_once=True), **options))
  weights = formats.read(path)
  check_backbone(weights, params)
  for name in ('score_fr', 'score_pool4', 'score_pool3'):
    for kind in ('kernel', 'bias'):
      assert np.array_equal(weights.tensors[f'{name}/{kind}'].value, params[name][kind])
  for name, factor in (('upsample_to_16', 2), ('upsample_to_8', 2), ('upsample_to_1', 8)):
    kernel = weights.tensors[f'{name}/kernel'].value
    assert kernel.shape == (2 * factor, 2 * factor, 21)
    np.testing.assert_allclose(kernel, np.repeat(weight_formats.bilinear(factor)[..., None], 21, -1), atol=1e-6)
  assert weights.factors == {'pool4': pytest.approx(0.01), 'pool3': pytest.approx(0.0001)}
  assert not weights.others


@pytest.mark.parametrize('timm', [False, True])
def test_torchvision_and_timm(tmp_path, params, timm):
  weights = formats.read(save(tmp_path / 'vgg16.safetensors', weight_formats.torchvision(params, timm=timm)))
  check_backbone(weights, params)
  assert len(weights.others) == 2  # the classifier
  assert weights.mean == pytest.approx((123.675, 116.28, 103.53)) and weights.std == pytest.approx(
    (58.395, 57.12, 57.375)
  )


def test_batch_norm_is_folded_in(tmp_path, params):
  norms = weight_formats.random_batch_norm(params)
  weights = formats.read(save(tmp_path / 'vgg16_bn.safetensors', weight_formats.torchvision(params, batch_norm=norms)))
  for name, norm in norms.items():
    kernel, bias = (weights.tensors[f'trunk/{name}/{kind}'].value for kind in ('kernel', 'bias'))
    x = np.random.default_rng(1).normal(size=(5, np.prod(kernel.shape[:-1])))
    flat = params['trunk'][name]['kernel'].reshape(-1, kernel.shape[-1])
    before = x @ flat + params['trunk'][name]['bias']
    after = (before - norm['running_mean']) / np.sqrt(norm['running_var'] + 1e-5) * norm['weight'] + norm['bias']
    np.testing.assert_allclose(x @ kernel.reshape(flat.shape) + bias, after, atol=1e-4)
  assert len(weights.others) == 2


@pytest.mark.parametrize('nested', [False, True])
@pytest.mark.parametrize('top', [False, True])
def test_keras(tmp_path, params, top, nested):
  weight_formats.write_keras(tmp_path / 'vgg16.h5', params, top=top, nested=nested)
  weights = formats.read(tmp_path / 'vgg16.h5')
  check_backbone(weights, params, (*CONVOLUTIONS, 'fc6', 'fc7') if top else CONVOLUTIONS)
  assert weights.mean == (123.68, 116.779, 103.939) and weights.std == (1, 1, 1)
  assert len(weights.others) == (2 if top else 0)


def test_npz_round_trip(tmp_path, params):
  path = weight_formats.write_caffemodel(tmp_path / 'fcn.caffemodel', params, 8, at_once=True)
  first = formats.read(path)
  formats.write(tmp_path / 'out' / 'fcn.npz', first)
  second = formats.read(tmp_path / 'out' / 'fcn.npz')
  assert second.tensors.keys() == first.tensors.keys()
  assert all(np.array_equal(second.tensors[name].value, x.value) for name, x in first.tensors.items())
  assert (second.mean, second.std, second.factors) == (first.mean, first.std, first.factors)
  assert [p.name for p in (tmp_path / 'out').iterdir()] == ['fcn.npz']


def test_a_pickle_is_refused_with_instructions_for_converting_it(tmp_path):
  with pytest.raises(UserError, match=r'is a pickle.*weights_only=True.*vgg16\.safetensors'):
    formats.read(tmp_path / 'vgg16.pth')


def damaged(folder, params):
  """Damaged and wrong files, each with a part of its error message."""
  import h5py

  def file(name, content):
    (folder / name).write_bytes(content)
    return folder / name

  blobs = weight_formats.caffe_blobs(params, 8)
  whole = weight_formats.caffemodel(blobs)
  yield folder / 'none.npz', 'there is no weights file'
  yield file('x.tar', b''), r"has the suffix '\.tar'; expected one of \.caffemodel, \.safetensors, \.h5, \.npz"
  yield file('short.caffemodel', whole[:-100]), 'not a complete Caffe network'
  yield file('empty.caffemodel', b''), 'no layers named like those of VGG-16'
  yield (
    file('googlenet.caffemodel', weight_formats.caffemodel({'conv1/7x7_s2': [np.ones((4, 3, 7, 7))]})),
    'no layers named',
  )
  yield (
    file('part.caffemodel', weight_formats.caffemodel({k: x for k, x in blobs.items() if k != 'conv3_2'})),
    r'part\.caffemodel: no conv3_2; expected all 13 convolutions',
  )
  mixed = blobs | {'upscore2': [np.ones((21, 21, 4, 4))]}
  yield file('mixed.caffemodel', weight_formats.caffemodel(mixed)), 'upscore2 mixes classes'
  unequal = blobs | {'scale_pool4': [np.arange(1.0, 5)]}
  yield (
    file('unequal.caffemodel', weight_formats.caffemodel(unequal)),
    'scale_pool4 ranges from 1 to 4; expected the same',
  )
  odd = blobs | {'fc6': [np.ones((16, 50)), np.zeros(16)]}
  yield file('odd.caffemodel', weight_formats.caffemodel(odd)), 'fc6 has shape .16, 50.; expected a multiple of 49'
  nan = blobs | {'fc7': [np.full((16, 16, 1, 1), np.nan), np.zeros(16)]}
  yield file('nan.caffemodel', weight_formats.caffemodel(nan)), 'fc7, for trunk/fc7/kernel, has values that are not'
  state = weight_formats.torchvision(params)
  del state['features.28.weight']
  yield save(folder / 'vgg13.safetensors', state), '12 convolutions named features.N.weight; expected the 13'
  yield file('short.safetensors', (folder / 'vgg13.safetensors').read_bytes()[:-9]), 'cannot be read as .safetensors'
  yield file('text.h5', b'hello'), 'cannot be read as .h5'
  with h5py.File(folder / 'other.h5', 'w') as other:
    other['conv2d/kernel'] = np.zeros((3, 3, 3, 4))
  yield folder / 'other.h5', 'no layers named block1_conv1'
  yield file('text.npz', b'hello'), 'cannot be read as .npz'
  np.savez(folder / 'foreign.npz', x=np.zeros(3))
  yield folder / 'foreign.npz', "no array 'preprocessing/mean'; expected a file written by python -m fcn_jax.weights"
  np.savez(folder / 'pickled.npz', x=np.array([{}], object))
  yield folder / 'pickled.npz', 'cannot be read as .npz: Object arrays cannot be loaded'


def test_error_messages(tmp_path, params):
  for path, message in damaged(tmp_path, params):
    with pytest.raises(UserError, match=message) as caught:
      formats.read(path)
    assert str(path) in str(caught.value)
