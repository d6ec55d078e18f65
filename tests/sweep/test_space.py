"""The functions that build a sweep."""

import pytest

from fcn_jax.sweep import axis, chain, name, product, zipped
from fcn_jax.sweep.space import selects, settings


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
  assert name({}) == 'unchanged'


@pytest.mark.parametrize('letter', ['x', '字', '🂡'])
def test_a_name_of_more_than_200_bytes_ends_in_a_hash_of_the_whole_point(letter):
  point = {f'data.setting_{number}': letter * 9 for number in range(20)}
  names = {name(point | {'data.setting_19': value}) for value in (1, 2, 'a/b', 'a,b')}
  assert len(names) == 4
  for shortened in names:
    assert 180 <= len(shortened.encode()) <= 200 and shortened.startswith('setting_0=' + letter * 9 + ',')
  assert name(point | {'data.setting_19': (0.5, 2)}) == name(point | {'data.setting_19': [0.5, 2]})  # as JSON has it


@pytest.mark.parametrize(
  'value', ['a\nb', '.a', '..', '../a', 'a\0b', '\x1b[31m', '\udcff', '\u202ea', '[/x]', ' ', '', "a'b%"]
)
def test_a_name_is_always_one_valid_folder_name(value, tmp_path):
  for point in ({'init.run': value}, {'init.run': value, 'data.archive': 'x' * 200}):
    (tmp_path / name(point)).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name(point)] and name(point).isprintable()
    (tmp_path / name(point)).rmdir()


POINT = {'model.stride': 8, 'data.scale': (0.5, 2.0), 'init.run': 'runs/a,b=1', 'model.skips': 'pool4+pool3', 'seed': 0}


@pytest.mark.parametrize(
  'wanted',
  [
    'stride=8',
    'model.stride=8',
    'seed=0,model.stride=8',
    'seed=0, stride=8',
    'scale=0.5+2.0',
    'scale=0.5,2.0,seed=0',
    'data.scale=0.5,2.0',
    'run=runs+a+b=1',
    'run=runs/a,b=1,stride=8',
    'skips=pool4+pool3',
    settings(POINT),
  ],
)
def test_a_point_is_selected_by_its_settings_as_names_or_commands_show_them(wanted):
  assert selects(wanted, POINT)


@pytest.mark.parametrize(
  'wanted', ['stride=80', 'stride=', 'tride=8', 'seed=0,stride=16', 'scale=0.5', 'b=1', 'seed=00']
)
def test_only_whole_settings_select_a_point(wanted):
  assert not selects(wanted, POINT)


def test_both_settings_of_one_short_name_are_selected_by_their_dotted_names():
  point = {'eval.every': 1, 'checkpoint.every': 2}
  assert selects('eval.every=1,checkpoint.every=2', point) and not selects('eval.every=2', point)
