"""Which files `predict` takes, and the names of its outputs: all different, none of them an input."""

import io
import os

import numpy as np
import pytest
from etils import epath
from ordinary_user import without_root
from photos import drawing, save
from PIL import Image

from fcn_jax import predict_files, predict_outputs
from fcn_jax.data.dataset import Classes

ENDINGS = ('png', 'overlay.png', 'sky.png', 'npz')


def touch(folder, *names):
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


@pytest.fixture
def here(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  return tmp_path


def names(*arguments, out='out', endings=ENDINGS) -> dict[str, str]:
  """The names of the outputs, by the path of the image relative to the current folder."""
  found = predict_files.find(arguments, epath.Path(out))
  assert not found.faults
  chosen = predict_files.Names(found.sources, epath.Path(out), endings).choose()
  outputs = [os.path.abspath(f'{out}/{name}.{ending}') for name in chosen.values() for ending in endings]
  assert len(set(outputs)) == len(outputs) and not set(outputs) & set(found.sources)
  return {os.path.relpath(path): name for path, name in chosen.items()}


# Finding.


def test_images_below_a_folder_keep_their_relative_paths(here):
  touch(here, 'in/a.jpg', 'in/b.c.PNG', 'in/sub/a.webp', 'in/sub/deep/x.jpeg', 'in/note.txt', 'in/a.png.txt')
  (here / 'in' / 'folder.jpg').mkdir()
  expected = {'in/a.jpg': 'a', 'in/b.c.PNG': 'b.c', 'in/sub/a.webp': 'sub/a', 'in/sub/deep/x.jpeg': 'sub/deep/x'}
  assert names('in') == expected
  assert list(names('in')) == sorted(expected)
  touch(here, 'in/out/a.png')  # of an earlier prediction
  assert names('in', out='in/out') == expected
  assert names('in/sub/a.webp', 'in/sub/deep', 'in/note.txt') == {
    'in/sub/a.webp': 'a',
    'in/sub/deep/x.jpeg': 'x',
    'in/note.txt': 'note',
  }
  assert names('in/a.jpg', './in/a.jpg', str(here / 'in' / 'sub' / '..' / 'a.jpg')) == {'in/a.jpg': 'a'}


def test_every_format_is_found_and_what_is_left_out_is_counted(here):
  endings = ['jpg', 'jpeg', 'JPG', 'png', 'webp', 'tif', 'TIFF', 'bmp', 'gif', 'jp2', 'ppm', 'pgm']
  touch(here, *(f'in/{number}.{ending}' for number, ending in enumerate(endings)))
  touch(here, 'in/._photo.jpg', 'in/.cache/thumb.png', 'in/__MACOSX/b.jpg', 'in/a.txt', 'in/b.TXT', 'in/README')
  found = predict_files.find(['in'], epath.Path('out'))
  assert len(found.sources) == len(endings) and not found.faults
  assert found.left_out == {'hidden files and folders': 3, '.txt': 2, 'no ending': 1}
  named = predict_files.find(['in/._photo.jpg', 'in/.cache'], epath.Path('out'))
  assert len(named.sources) == 2, 'what a person names is not left out'


def test_a_fault_of_one_argument_does_not_end_the_others(here):
  touch(here, 'in/a.jpg', 'notes/a.txt', 'in/secret/b.jpg')
  (here / 'empty').mkdir()
  (here / 'in' / 'secret').chmod(0)
  with without_root():
    found = predict_files.find(
      ['no.jpg', 'empty', 'in', 'notes', 's3://bucket/a.jpg', 'in/secret/b.jpg'], epath.Path('out')
    )
  (here / 'in' / 'secret').chmod(0o700)
  assert [source.path.name for source in found.sources.values()] == ['a.jpg']
  starts = ['no file or folder no.jpg', 'no image in empty', 'cannot read in/secret: Permission denied']
  starts += ['no image in notes', 's3://bucket/a.jpg', 'cannot read in/secret/b.jpg: Permission denied']
  assert all(start in fault for start, fault in zip(starts, found.faults, strict=True)), found.faults


def test_links_to_folders_are_followed_without_end(here):
  touch(here, 'in/a.jpg', 'elsewhere/b.jpg')
  (here / 'in' / 'again').symlink_to(here / 'in')
  (here / 'in' / 'other').symlink_to(here / 'elsewhere')
  found = predict_files.find(['in'], epath.Path('out'))
  assert list(found.sources) == [str(here / 'in' / 'a.jpg'), str(here / 'in' / 'other' / 'b.jpg')]
  assert found.left_out == {'links to a folder above': 1}


def test_earlier_predictions_in_a_folder_are_left_out(here):
  image, classes = save(here / 'in' / 'a.png', drawing(3, 4)), Classes(('sky', 'road'), ((0, 0, 255), (9, 9, 9)))
  scores = np.zeros((3, 4, 2), np.float32)
  endings = ['png', 'gray.png', 'overlay.png', 'sky.png', 'npz']
  assert list(predict_outputs.write(epath.Path('in') / 'b', endings, drawing(3, 4), scores, classes)) == endings
  assert len(list((here / 'in').iterdir())) == 6
  found = predict_files.find(['in'], epath.Path('in'))
  assert list(found.sources) == [str(image)] and found.left_out == {'earlier predictions': 4, '.npz': 1}
  with Image.open('in/b.png') as opened:
    opened.load()
    assert opened.info['Software'] == 'fcn_jax.predict'


# Names.


def test_the_folder_tells_equal_names_apart(here):
  touch(here, 'day1/a.jpg', 'day2/a.jpg', 'day2/b.jpg', 'x/day1/a.jpg')
  assert names('day1', 'day2') == {'day1/a.jpg': 'day1/a', 'day2/a.jpg': 'day2/a', 'day2/b.jpg': 'b'}
  three = names('day1/a.jpg', 'day2/a.jpg', 'x/day1/a.jpg')
  assert three == {'day1/a.jpg': f'{here.name}/day1/a', 'day2/a.jpg': 'day2/a', 'x/day1/a.jpg': 'x/day1/a'}


def test_the_ending_tells_equal_stems_apart(here):
  touch(here, 'in/0001.jpg', 'in/0001.png', 'in/2.jpg')
  assert names('in') == {'in/0001.jpg': '0001.jpg', 'in/0001.png': '0001.png', 'in/2.jpg': '2'}
  assert names('in/2.jpg', 'in/0001.png') == {'in/2.jpg': '2', 'in/0001.png': '0001'}


@pytest.mark.parametrize('other', ['a.sky.png', 'a.overlay.jpg', 'a.npz', 'a.jpg.jpg', 'a.jpg.sky.png'])
def test_no_output_is_an_output_of_another_image(here, other):
  touch(here, 'in/a.jpg', 'in/a.png', f'in/{other}')
  assert len(names('in', f'in/{other}')) == 3


@pytest.mark.parametrize('out', ['in', '.', 'link'])
def test_no_output_is_an_input(here, out):
  touch(here, 'in/a.png', 'in/a.sky.png', 'in/in/a.png', 'in/b.jpg')
  (here / 'link').symlink_to('in')
  chosen = names('in', 'in/in/a.png', out=out)
  assert chosen['in/b.jpg'] == 'b'
  (here / 'real').mkdir()
  touch(here, 'real/c.png')
  (here / 'in' / 'c.png').symlink_to(here / 'real' / 'c.png')
  assert names('in/c.png', out='real') == {'in/c.png': 'c.png'}


def test_no_output_is_another_file_that_the_command_reads(here):
  touch(here, 'w.npz', 'w.jpg', 'v.jpg')
  found = predict_files.find(['w.jpg', 'v.jpg'], epath.Path('.'))
  for _ in range(2):
    chosen = predict_files.Names(found.sources, epath.Path('.'), ENDINGS, ['w.npz']).choose()
    assert list(chosen.values()) == ['w.jpg', 'v']
    touch(here, 'w.jpg.npz', 'v.npz')


def test_names_do_not_exceed_255_bytes(here):
  long = '\u56fe' * 80  # 240 bytes
  touch(here, f'in/{long}.png', f'in/{long[:79]}ab.png', 'in/short.png', f'in/{"x" * 251}.png')
  endings = ['png', 'overlay.png', *predict_outputs.heatmap_endings(('y' * 300, 'sky'))]
  chosen = names('in', endings=endings)
  assert chosen['in/short.png'] == 'short'
  assert all(len(os.fsencode(f'{name}.{ending}')) <= 255 for name in chosen.values() for ending in endings)
  assert chosen == names('in', endings=endings)


def test_endings_of_heatmaps_are_possible_and_different():
  endings = predict_outputs.heatmap_endings(('sky', 'a/b', 'a_b', 'overlay', 'gray', 'z' * 300, 'z' * 301))
  assert endings[:5] == ['sky.png', 'a_b.png', 'a_b.2.png', 'overlay.3.png', 'gray.4.png']
  assert len(set(endings)) == 7 and all(len(ending) <= 110 for ending in endings)


def test_thousands_of_equal_names_are_told_apart_quickly(here):
  """In seconds if each pair was compared."""
  arguments = [f'{number}/image.png' for number in range(3000)]
  touch(here, *arguments)
  assert names(*arguments) == {f'{number}/image.png': f'{number}/image' for number in range(3000)}


def test_a_prediction_is_a_whole_png_with_the_mark():
  buffer = io.BytesIO()
  Image.fromarray(drawing(5, 4)).save(buffer, 'PNG')
  with Image.open(io.BytesIO(predict_outputs.marked(buffer.getvalue()))) as image:
    image.verify()
  with Image.open(io.BytesIO(predict_outputs.marked(buffer.getvalue()))) as image:
    assert np.array_equal(np.asarray(image), drawing(5, 4))
