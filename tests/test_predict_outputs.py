"""`predict --save` writes what it is asked for, under the names of its rule, and says what it wrote."""

import functools
import logging

import numpy as np
import pytest
import untrained
from command_line import call, flags_of
from etils import epath
from photos import drawing, save
from PIL import Image
from scipy.special import softmax

from fcn_jax import api, images, predict, predict_outputs
from fcn_jax.data.builders.scenes import CLASSES
from fcn_jax.data.dataset import Classes
from fcn_jax.errors import UserError

FILES = {
  'labels': ['png'],
  'gray': ['gray.png'],
  'probabilities': ['npz'],
  'scores': ['scores.npz'],
  'overlay': ['overlay.png'],
  'heatmaps': ['sky.png', 'road.png'],
}


@pytest.mark.parametrize('kind', predict_outputs.KINDS)
@pytest.mark.parametrize('channels', [3, 5])
def test_each_kind_has_its_files_and_contents(tmp_path, kind, channels):
  classes = Classes(('sky', 'road'), ((0, 0, 255), (9, 9, 9)))
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (4, 6, channels), np.uint8)
  scores = rng.normal(size=(4, 6, 2)).astype(np.float32)
  endings = predict_outputs.endings(classes.names)[kind]
  shown, stem = images.viewable({'': image}), epath.Path(tmp_path) / 'a'
  assert list(predict_outputs.write(stem, endings, shown, scores, classes)) == list(endings) == FILES[kind]
  assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f'a.{ending}' for ending in FILES[kind])
  numbers, probabilities = scores.argmax(-1), softmax(scores, axis=-1)
  if kind in ('probabilities', 'scores'):
    with np.load(tmp_path / f'a.{FILES[kind][0]}') as file:
      np.testing.assert_allclose(file[kind], probabilities if kind == 'probabilities' else scores, atol=1e-6)
    return
  modes, found = [], []
  for ending in FILES[kind]:
    with Image.open(tmp_path / f'a.{ending}') as opened:
      modes.append(opened.mode)
      found.append(np.asarray(opened))
  if kind in ('labels', 'gray'):
    assert modes == ['P' if kind == 'labels' else 'L'] and np.array_equal(found[0], numbers)
  elif kind == 'overlay':
    colors = np.array(classes.palette)[numbers]
    assert np.array_equal(found[0][:4, :6], (shown.astype(int) + colors) // 2)
  else:
    assert modes == ['L', 'L'] and np.abs(np.stack(found, -1) / 255 - probabilities).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
  ('save', 'flags', 'expected'),
  [
    (None, {}, ['labels', 'overlay']),
    (['gray'], {}, ['gray']),
    (None, {'scores': True}, ['labels', 'scores', 'overlay']),
    (['gray'], {'heatmaps': True}, ['gray', 'probabilities', 'heatmaps']),
    (['scores', 'labels', 'scores'], {'scores': True}, ['labels', 'scores']),
  ],
)
def test_flags_ask_for_kinds(save, flags, expected):
  assert predict_outputs.kinds(save, **{'heatmaps': False, 'scores': False} | flags) == expected


@pytest.mark.parametrize(
  ('save', 'words'), [(['grey'], r"no output 'grey' \(did you mean gray\?\); expected one of labels"), ([], 'is empty')]
)
def test_a_wrong_kind_is_answered_with_the_closest_and_all(save, words):
  with pytest.raises(UserError, match=words):
    predict_outputs.kinds(save, heatmaps=False, scores=False)


def test_outputs_of_heads_have_different_names():
  colors = ((0, 0, 0), (9, 9, 9))
  classes, other = Classes(('sky', 'ground'), colors), Classes(('no', 'yes'), colors)
  heads = {'semantic': classes, 'other': other, 'ground': other, 'overlay': other, 'scores': other}
  suffixes = predict_outputs.suffixes(heads)
  assert suffixes['semantic'] == '' and suffixes['other'] == '.other' and suffixes['ground'] == '.ground.1'
  every = [
    f'{suffix}.{ending}'
    for head, suffix in suffixes.items()
    for kind in predict_outputs.endings(heads[head].names).values()
    for ending in kind
  ]
  assert len(set(every)) == len(every) == 7 * len(heads)


def test_outputs_are_kept_by_kind_and_every_head_has_them(tmp_path, monkeypatch, caplog):
  """Of a network with two heads."""
  heads = {'semantic': CLASSES, 'ground': Classes(('no', 'yes'), ((0, 0, 0), (9, 9, 9)))}
  run = untrained.write(tmp_path / 'run', heads=heads, model__std=(64.0, 64.0, 64.0))
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(api, 'load_run', functools.cache(api.load_run))  # compiles once
  image = save(tmp_path / 'a.png', drawing(20, 30))

  def messages(**options) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, 'fcn_jax'), flags_of(predict):
      assert call(predict, image, workdir=run.workdir, out='out', **options) == 0
    return caplog.messages

  assert messages(save=['gray', 'probabilities']) == [
    'wrote 4 files to out: NAME.gray.png (1), NAME.npz (1), NAME.ground.gray.png (1), NAME.ground.npz (1)',
    '1 done, 0 skipped, 0 failed',
  ]
  for stem, classes in (('a', heads['semantic']), ('a.ground', heads['ground'])):
    with np.load(f'out/{stem}.npz') as file, Image.open(f'out/{stem}.gray.png') as gray:
      assert tuple(file['classes']) == classes.names
      assert file['probabilities'].shape == (20, 30, len(classes))
      assert np.array_equal(np.asarray(gray), file['probabilities'].argmax(-1))
  (tmp_path / 'out' / 'a.gray.png').write_text('mine')
  wrote, counted = messages(save=['gray', 'heatmaps', 'labels'])
  assert wrote == (
    f'wrote {4 + len(CLASSES)} files to out: NAME.png (1), NAME.CLASS.png ({len(CLASSES)}), NAME.ground.png (1), '
    'NAME.ground.CLASS.png (2)'
  )
  assert counted.startswith('1 done, 0 skipped, 0 failed; kept 2 outputs that exist')
  assert (tmp_path / 'out' / 'a.gray.png').read_text() == 'mine'
  messages(save=['gray'], overwrite=True)
  with Image.open('out/a.gray.png') as gray:
    assert gray.mode == 'L'
