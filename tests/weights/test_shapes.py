"""Files with the wrong layers, shapes and types are refused with the reason; half precision is read as it is."""

import numpy as np
import pytest
import weight_formats
from weight_formats import CONVOLUTIONS, config_for, network

from fcn_jax.errors import UserError
from fcn_jax.weights import formats, tensors


@pytest.fixture(scope='module')
def params():
  return network(config_for(stride=8))[1]


def changed(path, change):
  """Rewrites an .npz file after `change(arrays)`."""
  with np.load(path) as file:
    arrays = dict(file)
  change(arrays)
  np.savez(path, **arrays)
  return path


def save(path, state):
  from safetensors.numpy import save_file

  save_file({name: np.ascontiguousarray(x) for name, x in state.items()}, path)
  return path


def refused(path, message):
  with pytest.raises(UserError, match=message) as caught:
    formats.read(path)
  assert str(caught.value).startswith(str(path)) and '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('name', 'value', 'words'),
  [
    ('preprocessing/mean', np.array(['a', 'b', 'c']), "preprocessing/mean is .'a', 'b', 'c'.; expected a list of"),
    ('preprocessing/mean', np.array([1.0, np.nan, 2.0]), 'expected a list of finite numbers'),
    ('preprocessing/mean', np.array(120.0), 'preprocessing/mean is 120.; expected a list of finite numbers'),
    ('preprocessing/std', np.array([1.0, 0.0, 1.0]), 'preprocessing/std is .*; expected numbers above 0, as many'),
    ('preprocessing/std', np.array([1.0, -1.0, 1.0]), 'expected numbers above 0'),
    ('preprocessing/std', np.array([1.0, 1.0]), 'as many as in preprocessing/mean, '),
    ('preprocessing/std', np.array([1.0, np.inf, 1.0]), 'preprocessing/std is .*; expected a list of finite numbers'),
    ('factor/pool4', np.array([0.1, 0.2]), 'factor/pool4 is .*; expected one finite number'),
    ('factor/pool4', np.array('x'), 'factor/pool4 is .*; expected one finite number'),
  ],
)
def test_the_preprocessing_and_factors_of_a_file_are_checked(tmp_path, name, value, words):
  values = {'trunk/other': tensors.Tensor(np.zeros(3, np.float32), '')}
  formats.write(tmp_path / 'a.npz', tensors.Weights(values, {}, (1.0, 2.0, 3.0), factors={'pool4': 0.01}))
  assert formats.read(tmp_path / 'a.npz').factors == {'pool4': 0.01}
  refused(changed(tmp_path / 'a.npz', lambda arrays: arrays.update({name: value})), words)


def test_the_ending_may_have_any_case(tmp_path):
  values = {'trunk/other': tensors.Tensor(np.zeros(3, np.float32), '')}
  formats.write(tmp_path / 'a.NPZ', tensors.Weights(values, {}, (1.0, 2.0, 3.0)))
  assert formats.read(tmp_path / 'a.NPZ').mean == (1.0, 2.0, 3.0)
  (tmp_path / 'b.PTH').touch()
  refused(tmp_path / 'b.PTH', 'is a pickle')


def test_an_array_in_place_of_the_layers_of_keras_is_named(tmp_path):
  h5py = pytest.importorskip('h5py')
  with h5py.File(tmp_path / 'a.h5', 'w') as file:
    file['model_weights'] = np.zeros(3)
  refused(tmp_path / 'a.h5', 'model_weights is an array; expected a group with the layers')


# Where Keras 2 and 3 put the state of the optimizer, by layer.
OPTIMIZERS = (
  'optimizer_weights/Adam/m/{}/kernel:0',
  'optimizer_weights/Adam/{}/kernel/m:0',
  'optimizer_weights/adam/{}_kernel_momentum',
  'optimizer_weights/training/SGD/{}/kernel/momentum:0',
)


@pytest.mark.parametrize('inside', ['{0}/{0}', 'vgg16/{0}'])
@pytest.mark.parametrize('state', OPTIMIZERS)
def test_a_keras_model_is_read_without_the_state_of_its_optimizer(tmp_path, params, inside, state):
  path = tmp_path / 'model.h5'
  weight_formats.write_keras_model(path, params, inside=inside, state=state)
  weights = formats.read(path)
  for layer in CONVOLUTIONS:
    for kind in ('kernel', 'bias'):
      assert np.array_equal(weights.tensors[f'trunk/{layer}/{kind}'].value, params['trunk'][layer][kind])
  assert not weights.others


def test_keras_kernels_in_the_order_of_theano_are_refused(tmp_path, params):
  import h5py

  path = tmp_path / 'th.h5'
  weight_formats.write_keras(path, params, top=False)
  with h5py.File(path, 'r+') as file:
    for name in CONVOLUTIONS:
      layer = f'block{name[4]}_conv{name[6]}'
      kernel = file[f'{layer}/{layer}_W_1:0'][()]
      del file[f'{layer}/{layer}_W_1:0']
      file[f'{layer}/{layer}_W_1:0'] = kernel.transpose(3, 2, 0, 1)
  refused(path, r"block1_conv1 has shape \[4, 3, 3, 3\], which is Theano's order .*channels_last")


def test_keras_files_without_the_usual_names_list_what_there_is(tmp_path):
  import h5py

  with h5py.File(tmp_path / 'x.weights.h5', 'w') as file:
    file['layers/conv2d/vars/0'], file['layers/conv2d/vars/1'] = np.zeros((3, 3, 3, 4)), np.zeros(4)
  refused(tmp_path / 'x.weights.h5', r'no layers named block1_conv1 to block5_conv3 \(there are conv2d, conv2d\[1\]\)')
  with h5py.File(tmp_path / 'y.h5', 'w') as file:
    file['block1_conv1/kernel'] = np.zeros((3, 3, 3, 4))
  refused(tmp_path / 'y.h5', r'block1_conv1 has 1 arrays .*; expected 2: a kernel and a bias')


def test_half_precision_is_read(tmp_path, params):
  state = weight_formats.torchvision(params)
  half = {name: x.astype(np.float16) for name, x in state.items()}
  weights = formats.read(save(tmp_path / 'half.safetensors', half))
  for layer in (*CONVOLUTIONS, 'fc6', 'fc7'):
    found = weights.tensors[f'trunk/{layer}/kernel'].value
    assert found.dtype == np.float32
    assert np.array_equal(found, params['trunk'][layer]['kernel'].astype(np.float16).astype(np.float32))

  path = tmp_path / 'bfloat16.safetensors'
  path.write_bytes(weight_formats.bfloat16_safetensors(state))
  for name, tensor in formats.read(path).tensors.items():
    assert tensor.value.dtype == np.float32
    np.testing.assert_allclose(tensor.value, dict(weights.tensors)[name].value, rtol=2**-7, atol=1e-6)

  formats.write(tmp_path / 'x.npz', weights)
  changed(tmp_path / 'x.npz', lambda x: x.update({n: a.astype(np.float16) for n, a in x.items() if 'trunk' in n}))
  assert {tensor.value.dtype for tensor in formats.read(tmp_path / 'x.npz').tensors.values()} == {np.dtype('float32')}


def test_batch_norm_in_half_precision_is_folded_in_single_precision(tmp_path, params):
  norms = weight_formats.random_batch_norm(params)
  norms['conv1_1']['running_var'] *= 1e-7  # in float16, 1e-5 + 1e-7 would lose half of its digits
  state = weight_formats.torchvision(params, batch_norm=norms)
  whole = formats.read(save(tmp_path / 'x.safetensors', state))
  half = {name: x.astype(np.float16) if x.dtype == np.float32 else x for name, x in state.items()}
  again = {name: x.astype(np.float32) if x.dtype == np.float16 else x for name, x in half.items()}
  expected = formats.read(save(tmp_path / 'again.safetensors', again))
  found = formats.read(save(tmp_path / 'half.safetensors', half))
  for name, tensor in expected.tensors.items():
    np.testing.assert_allclose(found.tensors[name].value, tensor.value, rtol=1e-6, atol=1e-7)
  assert whole.tensors.keys() == found.tensors.keys()


def test_torchvisions_file_of_the_features_alone_has_no_classifier(tmp_path, params):
  state = {
    n: np.full_like(x, np.nan) if 'classifier' in n else x for n, x in weight_formats.torchvision(params).items()
  }
  weights = formats.read(save(tmp_path / 'features.safetensors', state))
  assert {name.split('/')[1] for name in weights.tensors} == set(CONVOLUTIONS)


def wrong_torchvision(params):
  """Files in torchvision's layout, each with a part of its error message."""
  state = weight_formats.torchvision(params)
  gray = state['features.0.weight'][:, :1]
  yield {'features.0.weight': gray}, r'the first convolution reads 1 channels; expected 3'
  last = state['features.2.weight']
  yield {'features.2.weight': last[:, :3]}, r'features\.2, for trunk/conv1_2/kernel, is \[3, 3, 3, 4\].*\[3, 3, 4, 4\]'
  yield {'features.2.weight': last.transpose(2, 3, 1, 0)}, r'features\.2, for trunk/conv1_2/kernel, is \[4, 4, 3, 3\]'
  yield {'features.2.bias': np.zeros(5, np.float32)}, r'features\.2.* has a bias of \[5\]; expected a bias of \[4\]'
  yield {'features.2.bias': None}, r'features\.2, for trunk/conv1_2/kernel, has no bias'
  yield {'features.5.weight': last, 'features.5.bias': np.zeros(4, np.float32)}, r'conv2_1/kernel, is .*; expected'
  yield {'classifier.0.weight': state['classifier.0.weight'][:, :49]}, r'fc6/kernel, is \[7, 7, 1, 16\]'
  yield {'features.2.weight': last.astype(np.int8)}, r'features\.2 has the type int8; expected float16'


def test_layers_of_torchvision_must_fit_each_other(tmp_path, params):
  for number, (change, message) in enumerate(wrong_torchvision(params)):
    state = {name: x for name, x in (weight_formats.torchvision(params) | change).items() if x is not None}
    refused(save(tmp_path / f'{number}.safetensors', state), message)


def test_an_npz_with_missing_or_wrong_arrays_is_refused(tmp_path, params):
  source = weight_formats.write_caffemodel(tmp_path / 'fcn.caffemodel', params, 8)
  formats.write(tmp_path / 'x.npz', formats.read(source))
  content = (tmp_path / 'x.npz').read_bytes()

  def removed(*names):
    return lambda arrays: [arrays.pop(name) for name in names]

  for change, message in (
    (removed('trunk/conv3_2/kernel', 'trunk/conv3_2/bias'), 'no conv3_2; expected all 13 convolutions'),
    (removed('trunk/conv3_2/bias'), 'trunk/conv3_2/kernel, has no bias'),
    (removed('score_fr/bias'), 'score_fr/kernel, has no bias'),
    (removed('preprocessing/std'), "no array 'preprocessing/std'"),
    (lambda x: x.update({'score_pool4/kernel': x['score_pool3/kernel']}), r'score_pool4/kernel, is .*; expected'),
    (lambda x: x.update({'trunk/fc6/bias': x['trunk/fc6/bias'].astype('U')}), r'trunk/fc6/bias has the type'),
    (lambda x: x.update({f'preprocessing/{y}': np.ones(4) for y in ('mean', 'std')}), r'reads 3 channels; expected 4'),
  ):
    (tmp_path / 'x.npz').write_bytes(content)
    refused(changed(tmp_path / 'x.npz', change), message)
