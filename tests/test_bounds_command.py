"""`python -m fcn_jax.bounds` scores masks or the labels of a data set; `test_cli.py` has its errors."""

import json
import sys

import pytest
import tiny
from absl.testing import flagsaver
from command_line import flags_of
from PIL import Image

from fcn_jax import bounds, images
from fcn_jax import config as config_lib
from fcn_jax.data import dataset
from fcn_jax.data.builders import scenes
from fcn_jax.errors import UserError


def run(*arguments, cwd):
  done = tiny.run([sys.executable, '-m', 'fcn_jax.bounds', *arguments], cwd=cwd)
  assert (done.returncode, done.stderr) == (0, ''), done.stderr
  return done.stdout


def expected(labels):
  return {str(stride): score for stride, score in bounds.upper_bounds(labels, len(scenes.CLASSES)).items()}


def test_masks_with_and_without_a_palette(tmp_path):
  labels = [scenes.image('validation', index)['label'][:100, :120] for index in range(2)]
  (tmp_path / 'masks').mkdir()
  Image.fromarray(labels[0]).save(tmp_path / 'masks' / 'a.png')
  (tmp_path / 'masks' / 'b.png').write_bytes(images.indexed(labels[1], scenes.CLASSES.palette))
  output = run('--masks=masks', '--classes=8', '--out=made/bounds.json', cwd=tmp_path)
  scores = json.loads((tmp_path / 'made' / 'bounds.json').read_text())
  assert scores == expected(labels) and output.endswith('made/bounds.json is written\n')
  rows = [line.split('│')[1:-1] for line in output.splitlines() if '│' in line]
  rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}
  assert {stride: cells[:2] for stride, cells in rows.items()} == {
    stride: [f'{100 * x[name]:.2f} %' for name in ('mean_iou', 'pixel_accuracy')] for stride, x in scores.items()
  }
  assert (rows['128'][2], rows['4'][2], rows['2'][2]) == ('50.9 %', '98.5 %', '')  # the paper's


def test_a_file_that_exists_is_kept_unless_overwrite_is_given(tmp_path):
  (tmp_path / 'masks').mkdir()
  Image.fromarray(scenes.image('validation', 0)['label'][:100, :120]).save(tmp_path / 'masks' / 'a.png')
  before = (tmp_path / 'masks' / 'a.png').read_bytes()
  out = tmp_path / 'bounds.json'
  out.write_text("a user's")

  def call(**options):
    given = {'masks': str(tmp_path / 'masks'), 'classes': 8, 'out': str(out)}
    with flags_of(bounds), flagsaver.flagsaver(**given | options):
      bounds.main([])

  call()
  assert out.read_text() == "a user's"
  call(overwrite=True)
  assert json.loads(out.read_text()).keys() == {str(stride) for stride in bounds.STRIDES}
  with pytest.raises(UserError, match=r'masks/a\.png is an input of this command'):
    call(out=str(tmp_path / 'masks' / '..' / 'masks' / 'a.png'), overwrite=True)
  assert (tmp_path / 'masks' / 'a.png').read_bytes() == before


@pytest.mark.parametrize('field', ['archive', 'sbd_archive'])
def test_an_archive_of_the_config_is_never_replaced(tmp_path, monkeypatch, field):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'voc.tar').write_text('mine')
  (tmp_path / 'link.json').symlink_to('voc.tar')
  config = config_lib.default('voc2011_sbd')
  config.data[field] = str(tmp_path / 'voc.tar')
  monkeypatch.setattr(bounds.cli, 'config', lambda: config)
  monkeypatch.setattr(bounds.cli, 'config_path', lambda: 'fcn8s.py')
  with flags_of(bounds):
    for out in ('voc.tar', './voc.tar', 'link.json'):
      with flagsaver.flagsaver(out=out, overwrite=True), pytest.raises(UserError, match='is an input of this command'):
        bounds._output(bounds.flags.FLAGS)
    with flagsaver.flagsaver(out='scores.json', overwrite=True):
      assert str(bounds._output(bounds.flags.FLAGS)) == 'scores.json'


def test_a_folder_as_output_is_refused_before_anything_is_computed(tmp_path):
  for overwrite in (False, True):
    given = {'masks': 'none', 'classes': 8, 'out': str(tmp_path), 'overwrite': overwrite}
    with flags_of(bounds), flagsaver.flagsaver(**given), pytest.raises(UserError) as caught:
      bounds.main([])
    assert f'--out={tmp_path} is a folder; expected a JSON file' in str(caught.value)


def test_the_labels_of_a_data_set(tmp_path):
  data = config_lib.default('scenes').data
  data.dir = tiny.prepare(tmp_path / 'data')
  run(f'--config={tiny.ROOT}/experiments/fcn16s.py', f'--config.data.dir={data.dir}', '--split=train', cwd=tmp_path)
  train = dataset.load(data).splits['train']
  labels = [train[i]['labels']['semantic'] for i in range(len(train))]
  assert json.loads((tmp_path / 'upper_bounds.json').read_text()) == expected(labels)
