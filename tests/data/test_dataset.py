"""A data set is complete, its examples are checked, and any importable module with `load(data)` is a data set."""

import importlib
import itertools
import sys

import numpy as np
import pytest
from noise import Source, blank, make_split, record

from fcn_jax import config as config_lib
from fcn_jax.data import dataset, pipeline, shares
from fcn_jax.data.dataset import IGNORE, Classes, Data, problems
from fcn_jax.errors import UserError

COLORS = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
HEADS = {'semantic': Classes(('a', 'b', 'c'), COLORS), 'edges': Classes(('no', 'yes'), COLORS[:2])}
INPUTS = {'rgb': 3, 'depth': 1}

MODULE = """
import numpy as np
from fcn_jax.data import Classes, Data

SETTINGS = {'count': 6, 'shift': 0.5, 'train_size': (16, 16), 'eval.canvases': 1}
RECIPE = 'scratch_small'
COLORS = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
HEADS = {'semantic': Classes(('a', 'b', 'c'), COLORS), 'edges': Classes(('no', 'yes'), COLORS[:2])}


class Split:
  def __init__(self, seed, count):
    self._seed, self._count = seed, count

  def __len__(self):
    return self._count

  def __getitem__(self, index):
    rng = np.random.default_rng([self._seed, index])
    label = rng.integers(0, 3, (12, 14), np.uint8)
    rgb = np.repeat(60 * label[..., None], 3, -1)
    inputs = {'rgb': rgb, 'depth': 100 + 50 * label[..., None]}
    return {'inputs': inputs, 'labels': {'semantic': label, 'edges': label // 2}, 'id': self.ids()[index]}

  def sizes(self):
    return np.array([(12, 14)] * self._count)

  def ids(self):
    return [f'{self._seed}_{i}' for i in range(self._count)]


def load(data):
  splits = {'train': Split(0, data.count), 'test': Split(1, 3)}
  return Data(inputs={'rgb': 3, 'depth': 1}, heads=HEADS, splits=splits, fingerprint=f'my data {data.count}')
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
  """Writes modules of the package `my_package`, which Python can import: package(my_data='...')."""
  monkeypatch.syspath_prepend(tmp_path)
  folder = tmp_path / 'my_package'
  folder.mkdir()
  (folder / '__init__.py').touch()

  def write(**modules):
    for name, text in modules.items():
      (folder / f'{name}.py').write_text(text)
    importlib.invalidate_caches()

  yield write
  for name in [name for name in sys.modules if name.partition('.')[0] == 'my_package']:
    del sys.modules[name]


def test_a_module_outside_the_package_is_loaded_by_its_name(package):
  package(my_data=MODULE)
  data = dataset.load(config_lib.default('my_package.my_data').data)
  assert (data.inputs, data.heads) == (INPUTS, HEADS)
  assert {name: len(split) for name, split in data.splits.items()} == {'train': 6, 'test': 3}
  assert data.held_out == data.watched == 'test'
  assert data.split('test').ids() == ['1_0', '1_1', '1_2']
  assert data.fingerprint == 'my data 6'


def test_batches_of_a_module_outside_the_package_have_its_streams_and_heads(package):
  package(my_data=MODULE)
  config = config_lib.default('my_package.my_data')
  data = dataset.load(config.data)
  train = itertools.islice(pipeline.train_batches(data.split('train'), config.data, batch_size=4, seed=0), 3)
  test = pipeline.eval_batches(data.split('test'), batch_size=4, canvases=1, threads=2)
  for batch in [*train, *test]:
    assert {name: x.shape for name, x in batch['inputs'].items()} == {'rgb': (4, 16, 16, 3), 'depth': (4, 16, 16, 1)}
    assert {name: x.shape for name, x in batch['labels'].items()} == dict.fromkeys(HEADS, (4, 16, 16))
    semantic, edges = batch['labels']['semantic'], batch['labels']['edges']
    assert np.array_equal(edges, np.where(semantic == IGNORE, IGNORE, semantic // 2))


def test_a_module_sets_its_recipe_and_adds_settings(package):
  package(my_data=MODULE)
  config = config_lib.default('my_package.my_data')
  assert (config.data.count, config.data.shift, config.data.train_size) == (6, 0.5, (16, 16))
  assert (config.recipe, config.eval.canvases) == ('scratch_small', 1)
  config.update_from_flattened_dict({'data.count': 9, 'data.shift': 2})
  config_lib.validate(config)
  assert len(dataset.load(config.data).split('train')) == 9


@pytest.mark.parametrize(
  ('setting', 'message'),
  [
    ({'data.count': 'many'}, "data.count is 'many'; expected int, like 6"),
    ({'data.counts': 9}, r'there is no setting data.counts \(did you mean data.count\?\)'),
  ],
)
def test_settings_of_a_module_are_checked(package, setting, message):
  package(my_data=MODULE)
  config = config_lib.default('my_package.my_data')
  with config.ignore_type(), config.unlocked():
    (field, value) = next(iter(setting.items()))
    config.data[field.removeprefix('data.')] = value
  with pytest.raises(UserError, match=message):
    config_lib.validate(config)


def test_describe_loads_only_modules_that_do_not_describe_themselves(package):
  package(
    my_data=MODULE,
    described='def load(data):\n  raise AssertionError\n\ndef describe(data):\n  return {"gray": 1}, {}\n',
  )
  assert dataset.describe(config_lib.default('my_package.my_data').data) == (INPUTS, HEADS)
  assert dataset.describe(config_lib.default('my_package.described').data) == ({'gray': 1}, {})


@pytest.mark.parametrize('name', ['scenes', 'stanford_background', 'voc2011', 'voc2012', 'sbd', 'voc2011_sbd'])
def test_a_built_in_data_set_is_described_without_preparing_it(name, tmp_path):
  config = config_lib.default(name)
  config.data.dir = str(tmp_path)
  inputs, heads = dataset.describe(config.data)
  assert inputs == {'rgb': 3} and len(heads['semantic']) == (8 if name in ('scenes', 'stanford_background') else 21)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('scene', r"there is no data set 'scene' \(did you mean scenes\?\); expected one of scenes, .* importable module"),
    ('my_package.mine', "there is no data set 'my_package.mine'"),
    ('not_there.data', "there is no data set 'not_there.data'"),
    ('my_package.empty', r'the data set module my_package.empty has no load\(data\); expected a function that returns'),
    ('my_package.broken', 'my_package.broken does not import: No module named .no_such_library'),
    ('my_package.invalid', 'my_package.invalid does not import: SyntaxError'),
    ('my_package.failing', 'my_package.failing does not import: KeyError: .HOME_OF_DATA'),
  ],
)
def test_a_name_that_is_no_data_set_is_an_error_that_gives_the_reason(package, name, message):
  package(
    empty='',
    broken='import no_such_library\n',
    invalid='def load(data:\n',
    failing='import os\nos.environ["HOME_OF_DATA"]\n',
  )
  with pytest.raises(UserError, match=message):
    config_lib.default(name)


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    ("'test': Split", "'tset': Split", "has the splits train, tset, but neither validation nor test; hold back some"),
    ("'train': Split", "'training': Split", 'has the splits training, test, but no train split; expected load'),
    ("splits=splits", 'splits={}', 'has the splits none, but no train split'),
    ('Split(1, 3)', 'Split(1, 0)', 'the split test of my_package.my_data is empty'),
    ('Split(1, 3)', '[1, 2]', 'the split test of my_package.my_data has no sizes, ids'),
    ('  def ids', '  full_labels = None\n\n  def ids', 'split train of my_package.my_data has no full_sizes; expected'),
    ("inputs={'rgb': 3, 'depth': 1}", 'inputs={}', 'has the input streams none; expected at least one input stream'),
    ('heads=HEADS', 'heads={}', 'has the heads none; expected at least one head'),
    ("'edges': Classes", "'best': Classes", 'has the head best; expected no head called best'),
    ("'train': Split", "'network': Split(2, 1), 'train': Split", 'has the split network; expected no'),
    ("'train': Split", "'test.best': Split(2, 1), 'train': Split", 'has the split test.best; expected no head'),
    ("'edges': Classes", "'the/edges': Classes", 'has the heads semantic, the/edges; expected .* letters'),
    ('return Data(', 'return dict(', r'load\(data\) of my_package.my_data returned dict; expected fcn_jax.data.Data'),
    ("('no', 'yes')", "('no',)", 'there are 1 classes and 2 colors; expected a color per class'),
    ("('no', 'yes')", "('no', 'no')", 'the classes are no, no; expected 1 to 255 unique names'),
    ("('no', 'yes'), COLORS[:2]", "('no', 'yes'), COLORS[:2], 0", 'the label to ignore is 0; expected 255'),
  ],
)  # fmt: skip
def test_a_data_set_that_is_not_whole_is_an_error_that_says_what_to_do(package, old, new, message):
  assert MODULE.count(old) == 1
  package(my_data=MODULE.replace(old, new))
  with pytest.raises(UserError, match=message):
    dataset.load(config_lib.default('my_package.my_data').data)


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    ("'labels': {'semantic'", "'label': {'semantic'", 'train image 0_0: it is inputs, label, id; expected a dict of'),
    ("'edges': label // 2}", '}', 'train image 0_0: its labels are semantic; expected semantic, edges'),
    ("100 + 50 * label[..., None]", 'label', r'the input depth is uint8 \[12, 14\]; expected uint8 \[12, 14, 1\]'),
    ("'rgb': rgb", "'rgb': rgb / 255", r'the input rgb is float64 \[12, 14, 3\]; expected uint8'),
    ('label // 2', 'label[:5]', r'the label edges is uint8 \[5, 14\]; expected uint8 \[12, 14\]'),
    ('label // 2', 'label', '[0-9]+ pixels of the label edges are 2; expected classes 0 to 1, or 255 for pixels to'),
    ('[(12, 14)]', '[(14, 12)]', r'the input rgb is uint8 \[12, 14, 3\]; expected uint8 \[14, 12, 3\]'),
    ('np.array([(12, 14)] * self._count)', '[12, 14]', r'sizes\(\) of the split train has the shape \[2\]; expected'),
    ("f'{self._seed}_{i}'", "'same'", 'the split train has 1 ids for 6 images; expected one per image'),
  ],
)  # fmt: skip
def test_an_example_of_the_wrong_form_is_an_error_that_names_it(package, old, new, message):
  assert MODULE.count(old) == 1
  package(my_data=MODULE.replace(old, new))
  train = dataset.load(config_lib.default('my_package.my_data').data).split('train')
  with pytest.raises(UserError, match=message):
    (train.sizes(), train.ids(), train[0])


def test_an_example_is_checked_only_once(monkeypatch):
  checked = []
  monkeypatch.setattr(dataset, 'problems', lambda *args: checked.append(args) or [])
  split = make_split(blank(3))
  for index in (0, 1, 0, np.int64(1), 2):
    split[index]
  assert len(checked) == 3


def test_problems_lists_every_problem():
  example = {
    'inputs': {'rgb': np.zeros((4, 5, 3), np.uint8), 'depth': np.zeros((4, 5, 2), np.uint8)},
    'labels': {'semantic': np.full((4, 5), 3, np.uint8), 'edges': np.full((5, 4), 2, np.uint8)},
    'id': 'a',
  }
  assert len(problems(example, INPUTS, HEADS)) == 4
  example['inputs']['depth'] = np.zeros((4, 5, 1), np.uint8)
  example['labels'] = {'semantic': np.full((4, 5), 2, np.uint8), 'edges': np.full((4, 5), IGNORE, np.uint8)}
  assert problems(example, INPUTS, HEADS) == []


def test_results_are_on_test_and_training_is_watched_on_validation():
  splits = {'train': [], 'validation': [], 'test': []}
  assert (Data({}, {}, splits, '').watched, Data({}, {}, splits, '').held_out) == ('validation', 'test')
  with pytest.raises(UserError, match="there is no split 'val'; expected one of train, validation, test"):
    Data({}, {}, splits, '').split('val')


def test_class_shares_leave_out_ignored_pixels():
  label = np.array([[0, 0, 0, 1], [IGNORE] * 4], np.uint8)
  split = make_split(Source([record(0, np.zeros((2, 4, 3), np.uint8), label), *blank(1)]))
  assert shares.class_counts(split, 'semantic', 3, most=2).tolist() == [[3, 1, 0], [100, 0, 0]]
  assert shares.class_shares(split, 'semantic', 3)[0] == (3 + 100) / 104


def test_importing_the_package_imports_no_heavy_library():
  """Configs are checked before jax and TFDS are imported, which takes seconds."""
  import tiny

  code = (
    'import sys, fcn_jax.data; print([m for m in ("jax", "grain", "tensorflow_datasets", "PIL") if m in sys.modules])'
  )
  done = tiny.run([sys.executable, '-c', code])
  assert done.stdout == '[]\n', done.stderr
