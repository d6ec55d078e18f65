"""Several heads are separate networks over one backbone; several streams give the mean of their networks' scores."""

import jax
import numpy as np
import pytest
from cheap import network, quick_jit, random_params, shapes_of, vgg
from toy_backbone import Toy, toy

HEADS, STREAMS = {'semantic': 5, 'geometric': 3}, {'rgb': 3, 'depth': 1}
SIZES = np.array([[48, 41], [30, 60]], np.int32)
LAYERS = ('score_fr', 'score_stage2', 'score_stage1')
STEPS = ('upsample_to_16', 'upsample_to_8', 'upsample_to_1')


@pytest.fixture(scope='module')
def inputs():
  rng = np.random.default_rng(0)
  return {stream: rng.integers(0, 256, (2, 48, 64, channels), np.uint8) for stream, channels in STREAMS.items()}


def constants(value, streams):
  return {stream: (value,) * STREAMS[stream] for stream in streams}


def net_of(streams=('rgb',), heads=('semantic',), **fields):
  """FCN-8s over a backbone per stream."""
  backbones = {s: Toy(name='trunk' if len(streams) == 1 else f'trunk_{s}') for s in streams}
  defaults = {'mean': constants(120.0, streams), 'std': constants(64.0, streams)}
  chosen = {'backbones': backbones, 'heads': {head: HEADS[head] for head in heads}}
  return network(toy(), **chosen | defaults | fields)


def of_one(params, stream='', head=''):
  """The parameters of the network of one stream and one head within those of a larger one."""
  backbone = f'trunk_{stream}' if stream else 'trunk'
  suffix = (f'_{stream}' if stream else '') + (f'_{head}' if head else '')
  scores = {name: params[name + suffix] for name in LAYERS}
  steps = {name: params[name + (f'_{head}' if head else '')] for name in STEPS}
  return {'trunk': params[backbone]} | scores | steps


def close(mine, expected):
  assert mine.shape == expected.shape and np.abs(expected).max() > 0.1
  np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_each_head_is_the_network_with_that_head_alone(inputs):
  net = net_of(heads=tuple(HEADS))
  params, images = random_params(net), {'rgb': inputs['rgb']}
  assert set(params) == {'trunk'} | {f'{name}_{head}' for name in LAYERS + STEPS for head in HEADS}

  @quick_jit
  def together_and_alone():
    alone = {head: net_of(heads=(head,)).apply({'params': of_one(params, head=head)}, images, SIZES) for head in HEADS}
    return net.apply({'params': params}, images, SIZES), alone

  together, alone = together_and_alone()
  assert list(net.heads) == list(HEADS) and set(together) == set(HEADS)  # jit sorts the keys of dicts
  for head, classes in HEADS.items():
    assert together[head].shape[-1] == classes
    close(together[head], alone[head][head])


def test_the_scores_of_streams_are_averaged(inputs):
  """Upsampling is linear, so it makes no difference whether scores are averaged before or after."""
  net = net_of(streams=tuple(STREAMS))
  params = random_params(net)
  scores = {f'{name}_{stream}' for name in LAYERS for stream in STREAMS}
  assert set(params) == {'trunk_rgb', 'trunk_depth', *STEPS} | scores
  assert {s: params[f'trunk_{s}']['conv']['kernel'].shape[2] for s in STREAMS} == STREAMS

  @quick_jit
  def together_and_alone():
    alone = [
      net_of(streams=(s,)).apply({'params': of_one(params, stream=s)}, {s: inputs[s]}, SIZES)['semantic']
      for s in STREAMS
    ]
    return net.apply({'params': params}, inputs, SIZES)['semantic'], alone

  together, (rgb, depth) = together_and_alone()
  close(together, (rgb + depth) / 2)
  assert np.abs(rgb - depth).max() > 0.1


def test_streams_and_heads_together(inputs):
  """Names have the stream, then the head; coarse scores are given for every head."""
  net = net_of(streams=tuple(STREAMS), heads=tuple(HEADS))
  params = random_params(net)
  expected = {f'{name}_{stream}_{head}' for name in LAYERS for stream in STREAMS for head in HEADS}
  expected |= {f'{name}_{head}' for name in STEPS for head in HEADS}
  assert set(params) == {'trunk_rgb', 'trunk_depth'} | expected
  head = net_of(streams=tuple(STREAMS), heads=('geometric',))

  @quick_jit
  def found():
    one = {name.removesuffix('_geometric'): layer for name, layer in params.items() if not name.endswith('_semantic')}
    coarse = [n.coarse_scores(p, inputs, SIZES, 16) for n, p in ((net, params), (head, one))]
    return net.apply({'params': params}, inputs, SIZES), head.apply({'params': one}, inputs, SIZES), *coarse

  both, one, coarse, coarse_of_one = found()
  close(both['geometric'], one['geometric'])
  close(coarse['geometric'], coarse_of_one['geometric'])
  assert coarse['semantic'].shape == (2, 3, 4, 5)


def test_a_frozen_network_has_no_gradient_in_any_backbone(inputs):
  net = net_of(streams=tuple(STREAMS), freeze_backbone=True)
  params = random_params(net)
  gradients = quick_jit(jax.grad(lambda p: net.apply({'params': p}, inputs)['semantic'].sum()))(params)
  for stream in STREAMS:
    assert not any(x.any() for x in jax.tree.leaves(gradients[f'trunk_{stream}']))
    assert gradients[f'score_fr_{stream}']['kernel'].any()


@pytest.mark.parametrize(
  'other',
  [
    vgg(geometry='caffe', name='trunk_depth'),  # the same taps on other grids
    Toy(name='trunk_depth'),  # other taps
  ],
)
def test_streams_whose_backbones_differ_at_the_taps_are_an_error(other):
  backbones = {'rgb': vgg(name='trunk_rgb'), 'depth': other}
  mean, std = (constants(value, STREAMS) for value in (120.0, 64.0))
  net = network(vgg(), backbones=backbones, mean=mean, std=std)
  with pytest.raises(ValueError, match=r'the backbones of the streams differ at the tap fc7: Grid.*expected equal'):
    shapes_of(net)


def test_backbones_may_differ_elsewhere():
  """Only what scores are read from must agree: here the widths differ."""
  backbones = {'rgb': Toy(name='trunk_rgb'), 'depth': Toy(channels=4, name='trunk_depth')}
  params = shapes_of(net_of(streams=tuple(STREAMS), backbones=backbones))
  assert params['score_fr_rgb']['kernel'].shape == (1, 1, 8, 5)
  assert params['score_fr_depth']['kernel'].shape == (1, 1, 4, 5)
