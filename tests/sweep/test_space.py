"""The functions that build a sweep."""

import pytest

from fcn_jax.sweep import axis, chain, name, product, zipped


def test_a_product_has_every_combination_and_the_last_varies_fastest():
  assert product(axis('model.stride', [32, 16]), axis('seed', [0, 1])) == [
    {'model.stride': 32, 'seed': 0},
    {'model.stride': 32, 'seed': 1},
    {'model.stride': 16, 'seed': 0},
    {'model.stride': 16, 'seed': 1},
  ]


def test_chain_concatenates_and_zipped_pairs():
  assert chain(axis('a', [1]), axis('b', [2, 3])) == [{'a': 1}, {'b': 2}, {'b': 3}]
  assert zipped(axis('a', [1, 2]), axis('b', [3, 4])) == [{'a': 1, 'b': 3}, {'a': 2, 'b': 4}]
  with pytest.raises(ValueError, match='shorter'):
    zipped(axis('a', [1, 2]), axis('b', [3]))


def test_setting_a_field_twice_in_a_point_is_an_error():
  for combine in (product, zipped):
    with pytest.raises(ValueError, match='seed is set twice'):
      combine(axis('seed', [0]), axis('seed', [1]))


def test_a_name_lists_the_settings_of_the_point():
  assert name({'model.stride': 16, 'model.skips': 'pool4+pool3', 'seed': 0}) == 'stride=16,skips=pool4+pool3,seed=0'
  assert name({'eval.every': 1, 'checkpoint.every': 2}) == 'eval.every=1,checkpoint.every=2'
  assert (
    name({'init.run': 'runs/stride=32,seed=0', 'data.scale': (0.5, 2.0)}) == 'run=runs+stride=32+seed=0,scale=0.5+2.0'
  )
