"""`predict` does what can be done: no image ends the others, outputs that exist are kept, nothing else is left."""

import logging
import os
import pathlib
import sys

import numpy as np
import pytest
import tiny
import untrained
from command_line import call, flags_of
from etils import epath
from image_contents import SAVED, encoded
from ordinary_user import without_root
from photos import drawing, rotated, save
from PIL import Image

from fcn_jax import api, image_files, machine, predict, predict_files, predict_jobs, predict_outputs
from fcn_jax.errors import UserError


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return untrained.write(tmp_path_factory.mktemp('predict') / 'run', model__std=(64.0, 64.0, 64.0))


@pytest.fixture(scope='module', autouse=True)
def flags():
  with flags_of(predict):
    yield


@pytest.fixture(autouse=True)
def same_network(run, monkeypatch, request):
  """The tests share a network, so that each canvas is compiled once."""
  if not hasattr(request.module, 'predictor'):
    request.module.predictor = api.load_run(run.workdir)
  monkeypatch.setattr(api, 'load_run', lambda *_, **__: request.module.predictor)


@pytest.fixture
def here(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.fixture
def outcome(run, here, caplog, capsys):
  """A function that runs the command in an empty folder: exit code, faults, and messages but for what was written."""

  def result(*arguments, **options) -> tuple[int, list[str], list[str]]:
    caplog.clear()
    with caplog.at_level(logging.INFO, 'fcn_jax'):
      code = call(predict, *arguments, **{'workdir': run.workdir, 'out': 'out'} | options)
    messages = [message for message in caplog.messages if not message.startswith('wrote ')]
    return code, capsys.readouterr().err.splitlines(), messages

  return result


def written(folder='out') -> list[str]:
  return sorted(str(path.relative_to(folder)) for path in pathlib.Path(folder).rglob('*') if path.is_file())


def broken_files(folder) -> list[str]:
  """Writes files that are broken in several ways; returns their names."""
  whole = encoded(drawing(150, 70), 'PNG')
  jpeg = encoded(drawing(16, 16), 'JPEG')
  frame = jpeg.index(b'\xff\xc0') + 5
  contents = {
    'empty.png': b'',
    'text.jpg': b'no image',
    'header.png': whole[:20],
    'cut.png': whole[: len(whole) // 2],
    'flipped.png': whole[:60] + bytes(255 - x for x in whole[60:80]) + whole[80:],
    'huge.jpg': jpeg[:frame] + (9000).to_bytes(2) * 2 + jpeg[frame + 4 :],
  }
  folder.mkdir()
  for name, content in contents.items():
    (folder / name).write_bytes(content)
  os.mkfifo(folder / 'pipe.png')
  (folder / 'link.png').symlink_to('nothing')
  return sorted([*contents, 'pipe.png', 'link.png'])


def test_no_image_or_argument_ends_the_others(outcome, run, here):
  """The headers of some files are broken; others break when the batch with a good one is read."""
  names = broken_files(here / 'in')
  save(here / 'in' / 'good.png', drawing(150, 70))
  save(here / 'in' / 'turned.tif', drawing(70, 150), exif=rotated(6))
  save(here / 'in' / 'secret.png', drawing(5, 5)).chmod(0)
  (here / 'void').mkdir()
  with without_root():
    code, faults, messages = outcome('no.jpg', 'void', 'in', 'in/pipe.png')
  assert code == 1 and messages == [f'2 done, 0 skipped, {len(names) + 3} failed']
  for name in ('no.jpg', 'void', 'in/secret.png', *(f'in/{name}' for name in names)):
    assert sum(name in fault and len(fault) > len(f'failed: {name}') + 5 for fault in faults) == 1, name
  assert len(faults) == len(names) + 3 and all(fault.startswith('failed: ') for fault in faults)
  assert written() == ['good.overlay.png', 'good.png', 'turned.overlay.png', 'turned.png']
  with Image.open('out/good.png') as opened:
    assert np.array_equal(np.asarray(opened), run.alone({'rgb': drawing(150, 70)}).argmax(-1))


def test_every_format_and_a_long_name_are_segmented(outcome, here):
  for number, form in enumerate([*SAVED, 'JPEG', 'GIF']):
    ending = {'JPEG2000': 'jp2', 'PPM': 'ppm'}.get(form, form.split(',')[0].lower())
    (here / 'in').mkdir(exist_ok=True)
    (here / 'in' / f'{number}.{ending}').write_bytes(encoded(drawing(20, 30, number), form, **SAVED.get(form, {})))
  save(here / 'in' / ('\u56fe' * 80 + '.png'), drawing(20, 30))
  code, faults, messages = outcome('in')
  count = len(SAVED) + 3
  assert (code, faults, messages) == (0, [], [f'{count} done, 0 skipped, 0 failed'])
  assert len(written()) == 2 * count


def test_no_network_is_loaded_if_nothing_can_be_read(outcome, here, monkeypatch):
  (here / 'a.jpg').write_text('no image')
  monkeypatch.setattr(predict, 'load_predictor', lambda given: 1 / 0)
  code, faults, messages = outcome('a.jpg')
  assert code == 1 and 'a.jpg' in faults[0] and messages == ['0 done, 0 skipped, 1 failed'] and not written()


def test_what_is_left_out_is_counted_and_no_fault(outcome, here):
  save(here / 'in' / 'a.png', drawing(20, 30))
  save(here / 'in' / '.cache' / 'thumb.png', drawing(20, 30))
  for name in ('._photo.jpg', 'notes.txt', 'more.txt'):
    (here / 'in' / name).write_text('no image')
  code, faults, messages = outcome('in')
  assert (code, faults) == (0, [])
  assert messages == ['left out: .txt (2), hidden files and folders (2)', '1 done, 0 skipped, 0 failed']


def test_outputs_that_exist_are_kept_unless_they_are_overwritten(outcome, here):
  for seed, name in enumerate('ab'):
    save(here / 'in' / f'{name}.png', drawing(20, 30, seed))
  pathlib.Path('out').mkdir()
  pathlib.Path('out/a.sky.png').write_text('mine')
  assert outcome('in', heatmaps=True)[2] == [
    '2 done, 0 skipped, 0 failed; kept 1 outputs that exist, perhaps of another image or network '
    '(--overwrite makes them again)'
  ]
  before = {name: os.stat(f'out/{name}').st_mtime_ns for name in written()}
  assert len(before) == 2 * (2 + 9) and pathlib.Path('out/a.sky.png').read_text() == 'mine'
  pathlib.Path('out/b.png').unlink()
  code, _, messages = outcome('in', heatmaps=True)
  assert code == 0 and messages[0].startswith('1 done, 1 skipped, 0 failed; kept 21 outputs')
  after = {name: os.stat(f'out/{name}').st_mtime_ns for name in written()}
  assert {name for name in after if before[name] != after[name]} == {'b.png'}
  assert outcome('in', heatmaps=True, overwrite=True)[2] == ['2 done, 0 skipped, 0 failed']
  assert not {name for name in written() if after[name] == os.stat(f'out/{name}').st_mtime_ns}


def test_images_whose_outputs_exist_are_not_computed_again(outcome, here, monkeypatch):
  save(here / 'a.png', drawing(20, 30))
  assert outcome('a.png')[0] == 0
  monkeypatch.setattr(predict, 'load_predictor', lambda given: pytest.fail('loads a network'))
  assert outcome('a.png')[2][0].startswith('0 done, 1 skipped, 0 failed; kept 2 outputs')


@pytest.mark.parametrize('overwrite', [False, True])
def test_an_output_never_replaces_an_input(outcome, here, overwrite):
  """Nor another output; and a second run takes the images again, not the predictions of the first."""
  images = {
    name: save(here / 'in' / name, drawing(20, 30, seed)) for seed, name in enumerate(('a.png', 'a.sky.png', 'b.jpg'))
  }
  before = {name: path.read_bytes() for name, path in images.items()}
  expected = ['3 done, 0 skipped, 0 failed']
  for _ in range(2):
    code, faults, messages = outcome('in', out='in', heatmaps=True, overwrite=overwrite)
    assert (code, faults, messages[-1:]) == (0, [], expected) or not overwrite
    assert all(images[name].read_bytes() == content for name, content in before.items())
    assert len(written('in')) == 3 + 3 * (2 + 9)
  assert overwrite or messages[-1].startswith('0 done, 3 skipped, 0 failed')


def test_an_image_that_does_not_fit_the_memory_is_refused_before_it_is_decoded(outcome, here, monkeypatch):
  """Of 101 megapixels, which is no attack: with sufficient memory it would be read."""
  Image.new('1', (10100, 10000)).save('large.png')
  save(here / 'small.png', drawing(20, 30))
  read = image_files.read
  monkeypatch.setattr(image_files, 'read', lambda path: read(path) if path.name == 'small.png' else 1 / 0)
  monkeypatch.setattr(machine, 'available_memory', lambda: 3 * 2**30)
  code, (fault,), messages = outcome('large.png', 'small.png')
  assert code == 1 and messages == ['1 done, 0 skipped, 1 failed']
  required = float(fault.split(' require ')[1].split(' GiB')[0])
  assert 5 < required < 12 and '3.0 GiB are available' in fault and 'large.png: its 10100x10000 pixels' in fault
  assert 'smaller copy' in fault and 'more memory' in fault
  assert written() == ['small.overlay.png', 'small.png']
  monkeypatch.setattr(machine, 'available_memory', lambda: 100 * 2**30)
  with pytest.raises(ZeroDivisionError):
    outcome('large.png')


def test_an_accelerator_names_the_memory_of_the_machine_as_a_way_out(outcome, here, monkeypatch):
  save(here / 'large.png', drawing(1030, 1040))
  monkeypatch.setattr(predict_jobs, '_is_on_cpu', lambda: False)
  monkeypatch.setattr(api.Predictor, 'available_memory', lambda _: 2**20)
  code, (fault,), _ = outcome('large.png')
  assert code == 1 and 'JAX_PLATFORMS=cpu' in fault and '0.0 GiB are available' in fault


def test_memory_that_is_not_sufficient_after_all_is_a_fault_of_the_image(outcome, here, monkeypatch):
  save(here / 'a.png', drawing(20, 30))
  save(here / 'b.png', drawing(200, 300))
  compute = api.Predictor.scores

  def scores(self, images, canvas, count):
    if canvas[0] > 100:
      raise MemoryError
    return compute(self, images, canvas, count)

  monkeypatch.setattr(api.Predictor, 'scores', scores)
  monkeypatch.setattr(api, 'COMPILE_FLOPS', 0.0)
  code, (fault,), messages = outcome('a.png', 'b.png')
  assert code == 1 and fault.startswith('failed: b.png: ') and messages == ['1 done, 0 skipped, 1 failed']


@pytest.mark.parametrize('place', ['file', 'file/out', '/proc/out', 'locked'])
def test_a_folder_that_cannot_be_written_is_an_error(outcome, here, place):
  (here / 'file').write_text('mine')
  (here / 'locked').mkdir(0o500)
  save(here / 'a.png', drawing(150, 70))
  with without_root(), pytest.raises(UserError, match=f'cannot write {place}'):
    outcome('a.png', out=place)
  assert sorted(path.name for path in here.iterdir()) == ['a.png', 'file', 'locked']
  assert (here / 'file').read_text() == 'mine'


@pytest.mark.parametrize('place', ['', 'eval', 'eval/validation', 'checkpoints/7', '../link'])
def test_no_output_is_a_file_of_the_run(outcome, run, here, place):
  (here / 'link').symlink_to(pathlib.Path(run.workdir) / 'best')
  save(here / 'examples.jpg', drawing(20, 30))
  with pytest.raises(UserError, match=f'has files of a run; .* for example {run.workdir}/predictions'):
    outcome('examples.jpg', out='link' if place == '../link' else f'{run.workdir}/{place}', overwrite=True)
  for workdir in (epath.Path(run.workdir), None):
    predict_files.check_out(epath.Path(run.workdir) / 'predictions', workdir)
    with pytest.raises(UserError, match='has files of a run'):
      predict_files.check_out(epath.Path(run.workdir) / 'eval', workdir)


def test_a_file_as_output_folder_is_named_before_the_network_is_loaded(outcome, here, monkeypatch):
  monkeypatch.setattr(predict, 'load_predictor', lambda given: pytest.fail('loads a network'))
  (here / 'file').write_text('mine')
  save(here / 'a.png', drawing(20, 30))
  for out in ('file', 'file/out'):
    with pytest.raises(UserError, match=f'cannot write {out}: {here}/file is a file; expected a folder'):
      outcome('a.png', out=out)


def test_a_full_disk_ends_the_command_after_its_counts(outcome, here, monkeypatch, caplog):
  for seed, name in enumerate('abc'):
    save(here / f'{name}.png', drawing(20, 30, seed))
  write = predict_outputs.write

  def full(stem, *arguments):
    if stem.name != 'a':
      raise UserError('cannot write') from OSError(28, 'No space left on device')
    yield from write(stem, *arguments)

  monkeypatch.setattr(predict_outputs, 'write', full)
  with pytest.raises(UserError, match='cannot write'):
    outcome('a.png', 'b.png', 'no.png', 'c.png')
  assert caplog.messages[-1] == '1 done, 0 skipped, 3 failed'


def test_an_output_that_cannot_be_written_is_a_fault_of_its_image(outcome, here):
  for name in ('a/x.png', 'b/x.png'):
    save(here / 'in' / name, drawing(20, 30))
  pathlib.Path('out').mkdir()
  pathlib.Path('out/a').write_text('mine')
  code, (fault,), messages = outcome('in')
  assert code == 1 and 'cannot write out/a/x.png' in fault and messages == ['1 done, 0 skipped, 1 failed']


# A process starts with the peak of the process that it is forked from. This program is small, these tests are not.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def peak(*arguments) -> int:
  """The largest memory of a command, in bytes."""
  done = tiny.run([sys.executable, '-c', PEAK, sys.executable, '-m', 'fcn_jax.predict', *map(str, arguments)])
  assert done.returncode == 0, done.stderr
  return int(done.stdout)


@pytest.mark.slow
def test_the_estimate_of_the_memory_is_what_the_command_takes(run, here, request):
  height, width = 2000, 3008
  smooth = np.linspace(0, 255, height).astype(np.uint8)[:, None, None]
  save(here / 'large.png', np.ascontiguousarray(np.broadcast_to(smooth, (height, width, 3))))
  save(here / 'small.png', drawing(512, 512))
  for out in ('warm', 'out'):  # the first commands also compile, which takes memory
    large, small = (peak(f'{x}.png', f'--workdir={run.workdir}', f'--out={out}') for x in ('large', 'small'))
  estimate = request.module.predictor.memory((height, width)) + predict_jobs.IMAGE_BYTES * height * width
  assert 0.7 * estimate < large - small + 40 * 512**2 < 1.1 * estimate
