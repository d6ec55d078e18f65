"""Update rules against those of the papers, the ends of schedules, and which parameters decay."""

import jax
import numpy as np
import optax
import pytest
from cheap import network, quick_jit, shapes_of, vgg

from fcn_jax import config as configs
from fcn_jax import models, optim

STEPS = 20


def settings(**changes):
  """The section `optim` of a config: plain SGD, plus changes."""
  section = configs.default('scenes').optim
  section.update(
    name='sgd', lr=0.1, momentum=0.9, weight_decay=0.0, bias_lr=1.0, schedule='constant', power=0.9, warmup=0, clip=0.0
  )
  section.update(changes)
  return section


def random_tree(seed):
  """Parameters, or gradients, of each kind that a network has."""
  rng = np.random.default_rng(seed)
  shapes = {
    'trunk': {
      'conv1_1': {'kernel': (3, 3, 2, 4), 'bias': (4,)},
      'norm1_1': {'scale': (4,), 'bias': (4,)},
    },
    'score_fr': {'kernel': (1, 1, 4, 3), 'bias': (3,)},
    'upsample_to_1': {'kernel': (4, 4, 3)},
  }
  return jax.tree.map(
    lambda shape: rng.normal(size=shape).astype(np.float32), shapes, is_leaf=lambda x: isinstance(x, tuple)
  )


def train(section, params, gradients):
  """The parameters after each of the gradients."""
  optimizer = optim.make(section, STEPS)

  @quick_jit
  def step(params, state, gradient):
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  state, after = optimizer.init(params), []
  for gradient in gradients:
    params, state = step(params, state, gradient)
    after.append(params)
  return after


def norm_of(tree):
  return float(np.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(tree))))


def kinds(tree):
  """Leaves by how the optimizer treats them: kernel, bias of a convolution, anything else."""

  def kind(path, _):
    owner, name = path[-2].key, path[-1].key
    if owner.startswith(('norm', 'upsample')):
      return 'other'
    return name

  return jax.tree_util.tree_map_with_path(kind, tree)


@pytest.mark.parametrize(
  ('count', 'changes'),
  [
    (10, {'weight_decay': 0.02, 'schedule': 'polynomial', 'warmup': 3, 'momentum': 0.8}),
    (50, {'weight_decay': 5e-4, 'lr': 1e-3, 'momentum': 0.99}),  # the authors', except for the learning rate of a mean
  ],
)
def test_sgd_is_caffes_rule(count, changes):
  section = settings(bias_lr=2.0, **changes)
  rate, momentum = optim.schedule(section, STEPS), section.momentum
  gradients = [random_tree(seed) for seed in range(1, count + 1)]
  params = random_tree(0)
  after = train(section, params, gradients)

  def expected(kind, w, *gradients):
    w, v, results = w.astype(np.float64), 0.0, []
    for step, gradient in enumerate(gradients):
      decay = section.weight_decay if kind == 'kernel' else 0.0
      lr = float(rate(step)) * (2 if kind == 'bias' else 1)
      v = momentum * v + lr * (gradient + decay * w)
      w = w - v
      results.append(w)
    return np.stack(results)

  wanted = jax.tree.map(expected, kinds(params), params, *gradients)
  mine = jax.tree.map(lambda *steps: np.stack(steps), *after)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), mine, wanted)
  assert len({float(rate(step)) for step in range(10)}) == (10 if 'schedule' in changes else 1)


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
def test_a_frozen_backbone_stays_and_the_rest_is_trained_as_without(name):
  params, gradients = random_tree(0), [random_tree(1), random_tree(2)]
  free, frozen = (
    train(settings(name=name, weight_decay=0.1, freeze_backbone=x), params, gradients)[-1] for x in (False, True)
  )
  jax.tree.map(np.testing.assert_array_equal, frozen['trunk'], params['trunk'])
  for layer in ('score_fr', 'upsample_to_1'):
    jax.tree.map(np.testing.assert_array_equal, frozen[layer], free[layer])
    assert not np.array_equal(frozen[layer]['kernel'], params[layer]['kernel'])


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
def test_each_part_is_trained_as_with_its_learning_rate_alone(name):
  params, gradients = random_tree(0), [random_tree(seed) for seed in (1, 2, 3)]
  common = {'name': name, 'weight_decay': 0.01, 'schedule': 'cosine', 'warmup': 2}
  both = train(settings(lr=0.1, lr_backbone=0.02, **common), params, gradients)[-1]
  fast, slow = (train(settings(lr=rate, **common), params, gradients)[-1] for rate in (0.1, 0.02))
  for part, expected in (('trunk', slow), ('score_fr', fast), ('upsample_to_1', fast)):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6), both[part], expected[part])


def test_adamw_decays_kernels_only():
  """Without a gradient, only weight decay changes a parameter."""
  params = random_tree(0)
  zero = jax.tree.map(np.zeros_like, params)
  (after,) = train(settings(name='adamw', lr=0.1, weight_decay=0.5), params, [zero])

  def check(kind, before, after):
    np.testing.assert_allclose(after, before * (0.95 if kind == 'kernel' else 1), rtol=1e-5)

  jax.tree.map(check, kinds(params), params, after)


def test_the_first_step_of_adamw_is_the_learning_rate_for_every_parameter():
  params, gradient = random_tree(0), random_tree(1)
  (after,) = train(settings(name='adamw', lr=0.01), params, [gradient])

  def check(before, gradient, after):
    np.testing.assert_allclose(after, before - 0.01 * np.sign(gradient), atol=1e-5)

  jax.tree.map(check, params, gradient, after)


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
def test_clipping_bounds_the_norm_and_leaves_small_gradients_alone(name):
  """The norm of all gradients together. Only from its second step on does AdamW depend on their size."""
  section = settings(name=name, momentum=0.0)
  params, first, second = (random_tree(seed) for seed in range(3))
  norm = norm_of(second)
  small = jax.tree.map(lambda x: x / 100, first)

  def clipped(limit):
    section.clip = limit
    return train(section, params, [small, second])[-1]

  def equal(a, b):
    return all(np.allclose(x, y, atol=1e-6) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))

  section.clip = 0.0
  by_hand = train(section, params, [small, jax.tree.map(lambda x: x * (0.5 / norm), second)])[-1]
  assert norm_of(small) < 0.5 < norm
  free, tight = clipped(0.0), clipped(0.5)
  assert equal(tight, by_hand)
  assert not equal(tight, free)
  assert equal(clipped(2 * norm), free)


@pytest.mark.parametrize('warmup', [0, 5])
@pytest.mark.parametrize('name', ['constant', 'polynomial', 'cosine'])
def test_schedules_start_at_the_learning_rate_and_end_at_zero_or_constant(name, warmup):
  rate = optim.schedule(settings(schedule=name, warmup=warmup), STEPS)
  rates = [float(rate(step)) for step in range(STEPS + 1)]
  assert rates[warmup] == max(rates) == pytest.approx(0.1)
  assert rates[-1] == pytest.approx(0.1 if name == 'constant' else 0, abs=1e-8)
  assert min(rates[:-1]) > 0  # each update has an effect
  if warmup:
    assert rates[0] == pytest.approx(0.1 / warmup)
    np.testing.assert_allclose(np.diff(rates[: warmup + 1]), (rates[warmup] - rates[0]) / warmup, rtol=1e-4)
  falling = np.diff(rates[warmup:])
  assert np.all(falling == 0) if name == 'constant' else np.all(falling < 0)


def test_schedules_halfway():
  """In the middle of the steps after the warmup."""
  for name, expected in (('polynomial', 0.1 * 0.5**0.9), ('cosine', 0.05)):
    rate = optim.schedule(settings(schedule=name, warmup=4), STEPS)
    assert float(rate(4 + (STEPS - 4) // 2)) == pytest.approx(expected)


@pytest.mark.parametrize('norm', ['none', 'group'])
def test_kernels_of_a_network_decay_and_its_upsampling_does_not(norm):
  params = shapes_of(network(vgg(norm=norm, group_size=4), upsample='bilinear_learned'))

  def names(mask):
    leaves = jax.tree_util.tree_flatten_with_path(mask)[0]
    return {'/'.join(key.key for key in path) for path, chosen in leaves if chosen}

  convolutions = {
    *(f'trunk/conv{block}_{i}' for block, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, count + 1)),
    'trunk/fc6',
    'trunk/fc7',
  }
  scores = {'score_fr', 'score_pool4', 'score_pool3'}
  assert names(optim.decays(params)) == {f'{layer}/kernel' for layer in convolutions | scores}
  # With a norm, only the scores have biases; the shift of a norm does not count as one.
  assert names(optim.biases(params)) == {
    f'{layer}/bias' for layer in scores | (convolutions if norm == 'none' else set())
  }
  assert {f'upsample_to_{s}/kernel' for s in (16, 8, 1)} <= names(jax.tree.map(lambda _: True, params))


@pytest.mark.parametrize(
  'changes', [{'backbone': 'resnet18', 'norm': 'frozen_batch'}, {'name': 'unet', 'norm': 'group'}]
)
def test_only_convolutions_have_biases_with_another_learning_rate(changes):
  """The shift of a norm is none, whatever the name of the norm."""
  config = configs.default('scenes')
  config.model.update(changes)
  params = shapes_of(models.build(config.model, {'rgb': 3}, {'semantic': 3}))
  chosen = jax.tree.leaves_with_path(optim.biases(params))
  layers = {path[:-1] for path, _ in chosen if path[-1].key == 'kernel'}
  assert {path[:-1] for path, mine in chosen if mine} == {
    path[:-1] for path, _ in chosen if path[-1].key == 'bias' and path[:-1] in layers
  }
  assert any(path[-1].key == 'scale' for path, _ in chosen)


# The state of another run's optimizer.


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
@pytest.mark.parametrize('changes', [{}, {'lr_backbone': 0.01}, {'freeze_backbone': True}, {'warmup': 3, 'clip': 1.0}])
def test_the_moments_of_the_same_parameters_are_restored_wherever_they_are(name, changes):
  def made(params, **more):
    return optim.make(settings(name=name, **more), STEPS).init(params)

  theirs = {**random_tree(0), 'score_pool4': {'bias': np.zeros(7, np.float32)}}
  source = jax.tree.map(lambda x: np.full_like(x, 5), made(theirs))
  params = {**random_tree(1), 'score_fr': {'kernel': np.zeros((1, 1, 4, 9), np.float32)}}  # other classes
  state = made(params, **changes)
  restored, count = optim.restore(state, source)
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  leaves = {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree.leaves_with_path(restored)}
  expected = 0
  for text, x in leaves.items():
    of_parameter = any(field in text for field in ('.mu', '.nu', '.trace')) and 'score_fr' not in text
    adams = text.endswith('.count') and any(other.startswith(f'{text.removesuffix(".count")}.mu') for other in leaves)
    assert (x == (5 if of_parameter or adams else 0)).all(), text
    expected += of_parameter or adams
  assert count == expected > 0


def test_nothing_of_another_optimizer_is_restored():
  sgd, adamw = (optim.make(settings(name=name), STEPS).init(random_tree(0)) for name in ('sgd', 'adamw'))
  assert optim.restore(sgd, adamw)[1] == optim.restore(adamw, sgd)[1] == 0
