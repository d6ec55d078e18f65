"""dataset.toml and the tables of other programs: each wrong value is one sentence that names the file."""

import folders
import pytest
from folders import ids, load, pairs, save

from fcn_jax.data.folder import description
from fcn_jax.errors import UserError

ABC = 'classes = ["a", "b", "c"]\n'
COLORS = 'colors = [[0, 0, 0], [1, 1, 1], [2, 2, 2]]\n'
WRONG = {
  'classes = [': 'is not valid TOML',
  'clases = ["a"]': "has 'clases' (did you mean classes?); expected one of classes, colors, ignore, exclude",
  'classes = "a"': "classes is 'a'; expected a list",
  'classes = ["a", 1]': "classes is ['a', 1]; expected a list of texts",
  'classes = ["a", ""]': 'expected a list of texts',
  'classes = ["a", "b", "a"]': "has the class 'a' twice; expected 1 to 255 unique names",
  f'classes = {[str(i) for i in range(256)]}': 'has 256 classes; expected 1 to 255',
  COLORS: 'has colors, but no classes; add classes = [...]',
  f'{ABC}colors = [[0, 0, 0]]': 'has 3 classes and 1 colors; expected one per class',
  f'{ABC}colors = [[0, 0, 0], [1, 1], [2, 2, 2]]': 'colors has [1, 1]; expected [red, green, blue], each 0 to 255',
  f'{ABC}colors = [[0, 0, 256], [1, 1, 1], [2, 2, 2]]': 'colors has [0, 0, 256]',
  f'{ABC}colors = [[0, 0, 0.5], [1, 1, 1], [2, 2, 2]]': 'colors has [0, 0, 0.5]',
  f'{ABC}colors = ["red", "green", "blue"]': "colors has 'red'",
  'ignore = 255': 'ignore is 255; expected a list',
  'ignore = ["void"]': "ignore has 'void'; expected whole numbers, the labels in the masks",
  'ignore = [true]': 'ignore has True',
  'exclude = "*.png"': "exclude is '*.png'; expected a list",
  'exclude = [1]': 'exclude is [1]; expected a list of texts',
  'range = 255': 'range is 255; expected a list',
  'range = [255, 0]': 'range has [255, 0]; expected [low, high] for all channels, or a list of one per channel',
  'range = [0, "x"]': "range has [0, 'x']",
  'range = [[0, 1], [2]]': 'range has [2]',
  'range = [0, nan]': 'range has [0, nan]',
  'range = [0, inf]': 'range has [0, inf]',
  'map = ["a"]': "map is ['a']; expected a table",
  '[map]\n7 = "a"': 'has map, but no classes',
  f'{ABC}[map]\n7 = "x"': "map gives the label 7 the class 'x'; expected one of a, b, c",
  f'{ABC}[map]\n7 = 1': 'map gives the label 7 the class 1',
  f'{ABC}[map]\n7 = ["a"]': "map gives the label 7 the class ['a']",
  f'{ABC}[map]\nx = "a"': 'map has \'x\'; expected LABEL = "CLASS"',
  f'{ABC}[map]\n-1 = "a"': "map has '-1'",
  f'{ABC}[map]\n70000 = "a"': 'map has \'70000\'; expected LABEL = "CLASS", for example 7 = "road", with 0 to 65535',
  f'{ABC}ignore = [7]\n[map]\n7 = "a"': 'the label 7 is in ignore and in map; expected one of them',
  'splits = ["a"]': "splits is ['a']; expected a table",
  '[splits]\nval = "x.txt"': "splits has 'val'; expected one of train, validation, test",
  '[splits]\ntrain = 5': 'splits.train is 5; expected a list of texts',
  '[splits]\ntrain = ["a", 5]': "splits.train is ['a', 5]; expected a list of texts",
  '[splits]\ntrain = "gone.txt"': 'gone.txt: No such file',
  '[splits]\ntrain = "images/x*"': "'images/x*', which dataset.toml has in splits.train",
}


def message_of(root) -> str:
  with pytest.raises(UserError) as caught:
    load(root)
  message = str(caught.value)
  assert '\n' not in message and 'Error' not in message and str(root) in message, message
  return message


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return pairs(tmp_path_factory.mktemp('description') / 'd')


@pytest.mark.parametrize('content', WRONG, ids=range(len(WRONG)))
def test_a_wrong_value_is_one_sentence(root, content):
  save(root / 'dataset.toml', content)
  message = message_of(root)
  assert WRONG[content] in message and ('dataset.toml' in message or 'gone.txt' in message), message


def test_bytes_that_are_no_text(root):
  save(root / 'dataset.toml', b'classes = ["\xff"]')
  assert 'dataset.toml is not valid TOML' in message_of(root)


TABLES = {
  ('labelmap.txt', 'road:1,2\n'): 'three numbers from 0 to 255',
  ('labelmap.txt', 'road:1,2,300::\n'): 'three numbers from 0 to 255',
  ('labelmap.txt', 'road\n'): 'is not a table of classes',
  ('labelmap.txt', 'road:a,b,c::\n'): 'is not a table of classes',
  ('labelmap.txt', '# nothing\n'): 'is not a table of classes',
  ('labelmap.txt', 'a:1,2,3::\na:4,5,6::\n'): "has the class 'a' twice",
  ('classes.csv', 'class,r,g,b\nroad,1,2,3\n'): 'it has no column blue, green, name, red',
  ('classes.csv', 'name;red;green;blue\nroad;1;2;3\n'): 'it has no column',
  ('classes.csv', 'name,red,green,blue\nroad,1,2\n'): 'is not a table of classes',
  ('classes.csv', ''): 'it has no column',
  ('classes.csv', b'\xff\xfe'): 'is not a table of classes',
  ('dataset.json', '{"labels": {"a": 0, "b": 2}}'): 'no label is 1',
  ('dataset.json', '{"labels": {"a": [1, 2]}}'): 'is not a table of classes',
  ('dataset.json', '[1]'): 'is not a table of classes',
  ('dataset.json', '{'): 'is not a table of classes',
  ('class_names.txt', 'a\nb\na\n'): "has the class 'a' twice",
}


@pytest.mark.parametrize('name, content', TABLES, ids=range(len(TABLES)))
def test_a_wrong_table_is_one_sentence(tmp_path, name, content):
  root = pairs(tmp_path / 'd')
  save(root / name, content)
  message = message_of(root)
  assert TABLES[name, content] in message and name in message
  save(root / 'dataset.toml', ABC)  # wins over the table
  assert load(root).heads['semantic'].names == ('a', 'b', 'c')


def test_two_classes_of_one_color(tmp_path):
  root = pairs(tmp_path / 'd', masks=folders.image())
  save(root / 'labelmap.txt', 'a:1,2,3::\nb:1,2,3::\n')
  assert 'labelmap.txt gives two classes the same color' in message_of(root)


def test_dataset_toml_adds_to_a_table(tmp_path):
  root = pairs(tmp_path / 'd')
  save(root / 'class_names.txt', '__ignore__\n_background_\ncat\n\ndog\n')
  save(root / 'dataset.toml', 'ignore = [2]')
  assert load(root).heads['semantic'].names == ('_background_', 'cat')
  save(root / 'dataset.toml', f'{ABC}exclude = ["**/0.png", "images/1*"]')
  assert load(root).heads['semantic'].names == ('a', 'b', 'c')
  assert sorted(name for names in ids(root).values() for name in names) == ['2', '3']


def test_a_json_file_of_another_program_is_no_table(tmp_path):
  root = pairs(tmp_path / 'd')
  save(root / 'dataset.json', '{"info": {}}')
  assert load(root).heads['semantic'].names == ('class_0', 'class_1', 'class_2')


def test_the_example_of_the_documentation(tmp_path):
  save(
    tmp_path / 'dataset.toml',
    """
classes = ["sky", "building", "road"]             # labels 0, 1, 2 of the masks
colors = [[128, 128, 128], [128, 0, 0], [128, 64, 128]]
ignore = [11, 255]                                # labels of the masks that count nowhere
exclude = ["**/*_broken.png"]                     # optional: files to leave out
[map]                                             # optional: label of the mask -> class
7 = "road"
[splits]                                          # optional: globs or lists, relative to the folder
train = "lists/train.txt"
validation = "images/fold3_*.png"
""",
  )
  found = description.read(tmp_path)
  assert found.classes == ('sky', 'building', 'road') and found.colors[1] == (128, 0, 0)
  assert found.ignore == (11, 255) and found.exclude == ('**/*_broken.png',) and found.map == {7: 'road'}
  assert found.splits == {'train': 'lists/train.txt', 'validation': 'images/fold3_*.png'}
