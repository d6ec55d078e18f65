"""Any picture that people have is segmented as they see it, exactly, and a bad one does not stop the others."""

import dataclasses
import io
import sys
import warnings

import jax
import numpy as np
import pytest
import tiny
from absl.testing import flagsaver
from cheap import quick_jit, random_params
from etils import epath
from PIL import Image
from rich.console import Console

from fcn_jax import config as configs
from fcn_jax import predict
from fcn_jax.data.builders import scenes
from fcn_jax.errors import UserError
from fcn_jax.models import fcn
from fcn_jax.run import checkpoint, directory, progress

CLASSES, PALETTE = scenes.Scenes.CLASSES, scenes.Scenes.PALETTE


@dataclasses.dataclass(frozen=True)
class Run:
  """A run that never trained: random parameters tell as much about predictions."""

  workdir: str
  probabilities: object  # a function of one picture [H, W, 3]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  config = configs.default('scenes')
  config.model.update(width=1 / 16, fc_channels=256, norm='none', stride=8)
  config.data.update(std=(64.0, 64.0, 64.0), dir=str(tmp_path_factory.mktemp('no_data')))
  config.eval.canvases = 1  # one compilation
  workdir = epath.Path(tmp_path_factory.mktemp('predict') / 'run')
  directory.write_config(workdir, config)
  model = fcn.from_config(config, len(CLASSES))
  params = random_params(model, np.zeros((1, 1, 1, 3), np.uint8))
  checkpoints = checkpoint.Checkpoints(workdir, keep=1)
  checkpoints.save(7, {'params': params})
  checkpoints.close()
  alone = quick_jit(lambda image: jax.nn.softmax(model.apply({'params': params}, image[None]))[0])
  return Run(str(workdir), lambda image: np.asarray(alone(image)))


def call(*arguments, **options) -> int:
  """The command in this process; its exit code."""
  with flagsaver.flagsaver(**options), pytest.raises(SystemExit) as caught:
    predict.main([str(argument) for argument in arguments])
  return caught.value.code


def drawing(height, width, seed=0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path, picture, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
  return path


def rotated(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  return exif


# What a person sees in a file, and the file.


def test_a_picture_is_read_as_it_is(tmp_path):
  picture = drawing(11, 17)
  for name, options in (('a.png', {}), ('a.webp', {'lossless': True})):
    assert np.array_equal(predict.read(save(tmp_path / name, picture, **options)), picture)
  smooth = np.broadcast_to(np.linspace(0, 255, 40).astype(np.uint8)[:, None, None], (40, 60, 3))
  for name in ('a.jpg', 'b.JPEG'):
    found = predict.read(save(tmp_path / name, smooth, quality=95))
    assert np.abs(found.astype(int) - smooth).max() < 8


def test_grey_of_8_and_16_bits_and_of_one_bit(tmp_path):
  grey = np.arange(256, dtype=np.uint8).reshape(8, 32)
  expected = np.broadcast_to(grey[..., None], (8, 32, 3))
  assert np.array_equal(predict.read(save(tmp_path / 'grey.png', grey)), expected)
  deep = save(tmp_path / 'deep.png', grey.astype(np.uint16) * 256 + 255 - grey)
  with Image.open(deep) as image:
    assert image.mode.startswith('I')
  assert np.array_equal(predict.read(deep), expected)
  bits = save(tmp_path / 'bits.png', Image.fromarray(grey > 100))
  assert np.array_equal(predict.read(bits), np.where(expected > 100, 255, 0))


def test_what_is_transparent_shows_white(tmp_path):
  picture, alpha = drawing(6, 9), np.zeros((6, 9), np.uint8)
  alpha[:, 3:6], alpha[:, 6:] = 128, 255
  share = alpha[..., None] / 255
  expected = picture * share + 255 * (1 - share)
  rgba = save(tmp_path / 'rgba.png', np.dstack([picture, alpha]))
  assert np.abs(predict.read(rgba) - expected).max() <= 1
  webp = save(tmp_path / 'rgba.webp', np.dstack([picture, alpha]), lossless=True, exact=True)
  assert np.abs(predict.read(webp) - expected).max() <= 1
  grey = picture[..., :1]
  la = save(tmp_path / 'la.png', Image.fromarray(np.dstack([grey, alpha]), 'LA'))
  assert np.abs(predict.read(la) - (grey * share + 255 * (1 - share))).max() <= 1


@pytest.mark.parametrize('transparent', [None, 7, b'\xff' * 7 + b'\0'], ids=['opaque', 'a number', 'a share for each'])
def test_a_palette_is_its_colours(tmp_path, transparent):
  numbers, colours = np.arange(60, dtype=np.uint8).reshape(6, 10), drawing(256, 1)[:, 0]
  image = Image.fromarray(numbers)
  image.putpalette(colours.tobytes())
  path = save(tmp_path / 'p.png', image, **({'transparency': transparent} if transparent else {}))
  with Image.open(path) as opened:
    assert opened.mode == 'P'
  expected = colours[numbers]
  if transparent:
    expected[numbers == 7] = 255
  assert np.array_equal(predict.read(path), expected)


def test_cmyk_looks_as_its_colours(tmp_path):
  ink = np.zeros((16, 16, 4), np.uint8)
  ink[:, 8:, 1:3] = 255  # white paper, and magenta and yellow: red
  path = save(tmp_path / 'cmyk.jpg', Image.fromarray(ink, 'CMYK'), quality=95)
  found = predict.read(path).astype(int)
  assert np.abs(found[:, :6] - 255).max() < 10 and np.abs(found[:, 10:] - [255, 0, 0]).max() < 10


@pytest.mark.parametrize('orientation', [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_a_turned_picture_stands_upright_and_its_size_is_known(tmp_path, orientation):
  """0 and 9 are no orientations; pictures with them stay as they are."""
  picture = drawing(5, 8)
  turn = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
  }.get(orientation, lambda x: x)
  for name, options in (('a.png', {}), ('a.webp', {'lossless': True})):
    path = save(tmp_path / name, picture, exif=rotated(orientation), **options)
    found = predict.read(path)
    assert np.array_equal(found, turn(picture))
    assert predict.size_of(path) == found.shape[:2]


# Which files, and what is written for them.


@pytest.fixture
def files(tmp_path):
  for name in ('a.jpg', 'b.c.PNG', 'sub/a.webp', 'sub/deep/x.jpeg', 'note.txt', 'a.png.txt'):
    path = tmp_path / 'photos' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  (tmp_path / 'photos' / 'folder.jpg').mkdir()
  return tmp_path / 'photos'


def test_pictures_below_a_folder_keep_their_place(files):
  expected = {'a.jpg': 'a', 'b.c.PNG': 'b.c', 'sub/a.webp': 'sub/a', 'sub/deep/x.jpeg': 'sub/deep/x'}
  expected = {files / path: name for path, name in expected.items()}
  assert predict.names([str(files)], files.parent / 'out') == expected
  (files / 'out').mkdir()
  (files / 'out' / 'a.png').touch()  # of an earlier prediction
  assert predict.names([str(files)], files / 'out') == expected


def test_files_are_named_by_themselves(files):
  arguments = [str(files / 'sub' / 'a.webp'), str(files / 'sub' / 'deep'), str(files / 'note.txt')]
  assert list(predict.names(arguments, files.parent / 'out').values()) == ['a', 'x', 'note']
  twice = [str(files / 'a.jpg')] * 2
  assert list(predict.names(twice, files.parent / 'out').values()) == ['a']


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['photos/a.jpg', 'photos/sub/a.webp'], ['photos/a.jpg and photos/sub/a.webp would both be written as a.png']),
    (['photos', 'photos/sub/deep/x.jpeg', 'photos/sub/a.webp'], ['would both be written as a.png']),
    (['photos/a.jpg', 'more/a.overlay.jpg'], ['would both be written as a.overlay.png']),
    (['more', '--out=more'], ['more/b.png would be overwritten']),
    (['more/b.png', '--out=more/.'], ['more/b.png would be overwritten']),
    (['photos/nothing.jpg'], ['there is no file or folder photos/nothing.jpg']),
    (['empty'], ['there is no picture in empty', '.webp']),
    ([], ['no pictures', 'photo.jpg folder/']),
  ],
  ids=str,
)
def test_names_that_cannot_be_are_a_sentence(files, monkeypatch, arguments, words):
  monkeypatch.chdir(files.parent)
  save(files.parent / 'more' / 'b.png', drawing(2, 2))
  save(files.parent / 'more' / 'a.overlay.jpg', drawing(2, 2))
  (files.parent / 'empty').mkdir()
  before = sorted(files.parent.rglob('*'))
  out = [argument.removeprefix('--out=') for argument in arguments if argument.startswith('--out=')]
  given = [argument for argument in arguments if not argument.startswith('--out=')]
  with flagsaver.flagsaver(workdir='run', out=(out or ['out'])[0]), pytest.raises(UserError) as caught:
    predict.main(given)
  assert all(word in str(caught.value) for word in words), caught.value
  assert sorted(files.parent.rglob('*')) == before


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['nothing to predict with', '--workdir=RUN', '--weights=FILE']),
    (['--workdir=run'], ['no pictures']),
    (['--workdir=run', 'x.jpg'], ['there is no file or folder x.jpg']),
    (['--workdir=run', 'there.png'], ['run holds no run', 'config.json']),
    (['--workdir=run', 'there.png', '--checkpoint=first'], ['checkpoint', 'first', 'last', 'best']),
    (['--workdir=run', 'there.png', '--palette=x'], ['palette', '--help']),
  ],
  ids=str,
)
def test_an_error_in_the_command_line_is_a_sentence_before_jax_is_imported(tmp_path, arguments, words):
  for name in ('jax', 'flax', 'grain', 'orbax', 'tensorflow_datasets'):
    (tmp_path / 'stubs' / name).mkdir(parents=True)
    (tmp_path / 'stubs' / name / '__init__.py').write_text(f'raise SystemExit("{name} was imported")')
  save(tmp_path / 'here' / 'there.png', drawing(2, 2))
  path = f'{tmp_path}/stubs:{tiny.ROOT}'
  command = [sys.executable, '-m', 'fcn_jax.predict', *arguments]
  done = tiny.run(command, env={'PYTHONPATH': path}, cwd=tmp_path / 'here')
  assert done.returncode == 1 and done.stdout == ''
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
  assert all(word in done.stderr for word in words), done.stderr
  assert [entry.name for entry in (tmp_path / 'here').iterdir()] == ['there.png']


# Predictions.


@pytest.fixture(scope='module')
def predicted(run, tmp_path_factory):
  """A folder of all kinds of pictures, what is to be seen in each by name, and the folder of predictions."""
  folder = tmp_path_factory.mktemp('pictures')
  save(folder / 'in' / 'one.png', drawing(1, 1))
  save(folder / 'in' / 'large.png', drawing(150, 70, 1))  # beyond the canvases of the run's own pictures
  save(folder / 'in' / 'sub' / 'photo.jpg', drawing(33, 50, 2), exif=rotated(6))
  save(folder / 'in' / 'sub' / 'glass.webp', np.dstack([drawing(20, 30, 3), drawing(20, 30, 4)[..., :1]]))
  out = folder / 'out'
  assert call(folder / 'in', workdir=run.workdir, out=str(out), heatmaps=True) == 0
  names = ('one.png', 'large.png', 'sub/photo.jpg', 'sub/glass.webp')
  return {name.split('.')[0]: predict.read(folder / 'in' / name) for name in names}, out


def test_a_prediction_is_that_of_the_network_on_the_picture_alone(run, predicted):
  """All four share a canvas."""
  pictures, out = predicted
  assert pictures['sub/photo'].shape == (50, 33, 3)
  seen = set()
  for name, picture in pictures.items():
    expected = run.probabilities(picture)
    with np.load(out / f'{name}.npz') as file:
      assert set(file) == {'probabilities', 'classes'}
      assert tuple(file['classes']) == CLASSES
      found = file['probabilities']
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    with Image.open(out / f'{name}.png') as image:
      assert image.mode == 'P' and image.format == 'PNG'
      numbers, colours = np.asarray(image), np.array(image.getpalette()).reshape(-1, 3)
    assert np.array_equal(numbers, found.argmax(-1))
    assert colours[: len(PALETTE)].tolist() == [list(colour) for colour in PALETTE]
    seen |= set(np.unique(numbers))
  assert len(seen) > 3, 'the network prefers one class everywhere: another seed would test more'


def test_the_overlay_is_the_picture_under_its_classes_and_a_legend(predicted):
  pictures, out = predicted
  for name, picture in pictures.items():
    with Image.open(out / f'{name}.png') as image:
      colours = np.array(PALETTE)[np.asarray(image)]
    with Image.open(out / f'{name}.overlay.png') as image:
      overlay = np.asarray(image)
    height, width = picture.shape[:2]
    assert np.array_equal(overlay[:height, :width], (picture.astype(int) + colours) // 2)
    for colour in PALETTE:
      assert (overlay[height:] == colour).all(-1).sum() >= 50, 'a swatch in the legend'


def test_heatmaps_show_the_probability_of_each_class(predicted):
  pictures, out = predicted
  for name in pictures:
    with np.load(out / f'{name}.npz') as file:
      probabilities = file['probabilities']
    for number, label in enumerate(CLASSES):
      with Image.open(out / f'{name}.{label}.png') as image:
        assert image.mode == 'L'
        assert np.abs(np.asarray(image) / 255 - probabilities[..., number]).max() <= 0.5 / 255 + 1e-6


def test_nothing_else_is_written(predicted):
  pictures, out = predicted
  endings = ('png', 'overlay.png', 'npz', *(f'{label}.png' for label in CLASSES))
  expected = {f'{name}.{ending}' for name in pictures for ending in endings}
  assert {str(path.relative_to(out)) for path in out.rglob('*') if path.is_file()} == expected


@pytest.mark.parametrize('pixels', [1, 20000, 10**9])
def test_every_picture_is_in_one_batch_which_fits(monkeypatch, pixels):
  monkeypatch.setattr(predict, 'BATCH_PIXELS', pixels)
  sizes = [(100, 30), (1, 1), (30, 100), (64, 64), (30, 90), (300, 200), (90, 30)]
  given = [predict.Picture(None, str(number), size) for number, size in enumerate(sizes)]
  members = []
  for (height, width), batch in predict.batches(given, 2):
    assert all(picture.size[0] <= height and picture.size[1] <= width for picture in batch)
    assert len(batch) == 1 or len(batch) * height * width <= pixels
    members += batch
  assert sorted(members, key=lambda picture: picture.name) == given


def broken_files(folder):
  """Files that are no pictures, in several ways, by name; beside them one that is."""
  whole = io.BytesIO()
  Image.fromarray(drawing(150, 70)).save(whole, 'PNG')
  png = whole.getvalue()
  contents = {
    'empty.png': b'',
    'text.jpg': b'no picture',
    'header.png': png[:20],
    'cut.png': png[: len(png) // 2],
    'flipped.png': png[:60] + bytes(255 - x for x in png[60:80]) + png[80:],
  }
  for name, content in contents.items():
    (folder / name).write_bytes(content)
  save(folder / 'good.png', drawing(150, 70))
  return sorted(contents)


def test_a_broken_file_is_named_and_skipped_and_the_rest_is_done(run, tmp_path, capsys):
  """Some are found out by their header, some in a batch with the good one."""
  folder = tmp_path / 'in'
  folder.mkdir()
  names = broken_files(folder)
  assert call(folder, workdir=run.workdir, out=str(tmp_path / 'out')) == 1
  lines = capsys.readouterr().err.splitlines()
  assert sorted(line.split(': ')[0] for line in lines) == [f'skipped {folder / name}' for name in names]
  assert all(len(line.split(': ', 1)[1]) > 5 for line in lines), 'the reason'
  assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['good.overlay.png', 'good.png']
  with Image.open(tmp_path / 'out' / 'good.png') as image:
    assert np.array_equal(np.asarray(image), run.probabilities(drawing(150, 70)).argmax(-1))


def test_where_every_file_is_broken_the_network_is_not_even_made(tmp_path, capsys):
  (tmp_path / 'a.jpg').write_text('no picture')
  assert call(tmp_path / 'a.jpg', workdir='no/run', out=str(tmp_path / 'out')) == 1
  assert f'skipped {tmp_path / "a.jpg"}: cannot identify' in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('side', [15, 30])
def test_a_decompression_bomb_is_refused(monkeypatch, tmp_path, capsys, side):
  """Above the limit Pillow warns, above twice the limit it raises."""
  bomb = save(tmp_path / 'bomb.png', drawing(side, side))
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 200)
  warnings.simplefilter('default')  # as it is outside of tests
  assert call(bomb, workdir='no/run', out=str(tmp_path / 'out')) == 1
  error = capsys.readouterr().err
  assert f'skipped {bomb}' in error and f'({side * side} pixels)' in error and 'bomb' in error
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('place', ['file', 'file/out', '/proc/out'])
def test_a_folder_that_cannot_be_written_is_a_sentence(run, tmp_path, place):
  (tmp_path / 'file').write_text('mine')
  picture = save(tmp_path / 'a.png', drawing(150, 70))
  out = str(tmp_path / place)
  with flagsaver.flagsaver(workdir=run.workdir, out=out), pytest.raises(UserError, match=f'cannot write {out}'):
    predict.main([str(picture)])
  assert sorted(path.name for path in tmp_path.iterdir()) == ['a.png', 'file']
  assert (tmp_path / 'file').read_text() == 'mine'


def test_a_run_without_a_checkpoint_is_a_sentence(run, tmp_path):
  picture = save(tmp_path / 'a.png', drawing(3, 3))
  config = epath.Path(run.workdir) / 'config.json'
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'config.json').write_text(config.read_text())
  for which, words in (('last', 'run has no checkpoint'), ('best', 'run has no best checkpoint')):
    with flagsaver.flagsaver(workdir=str(tmp_path / 'run'), checkpoint=which), pytest.raises(UserError, match=words):
      predict.main([str(picture)])


@pytest.mark.parametrize('terminal', [False, True])
def test_there_is_a_bar_on_a_terminal_only(run, tmp_path, monkeypatch, terminal):
  output = io.StringIO()
  monkeypatch.setattr(progress, '_console', Console(file=output, width=100, force_terminal=terminal))
  save(tmp_path / 'in' / 'a.png', drawing(150, 70))
  save(tmp_path / 'in' / 'b.png', drawing(150, 70))
  assert call(tmp_path / 'in', workdir=run.workdir, out=str(tmp_path / 'out')) == 0
  if terminal:
    assert '2/2' in output.getvalue() and 'pictures' in output.getvalue()
  else:
    assert output.getvalue() == ''
