"""A finished run keeps the predictions of the same images as every other run; the images themselves are stored once."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from fcn_jax.data.dataset import Classes, Data
from fcn_jax.run import kept
from fcn_jax.run.directory import RunDirectory

HEADS = {'semantic': Classes(('sky', 'road'), ((0, 0, 9), (9, 0, 0))), 'other': Classes(('a',), ((0, 0, 0),))}
SIZE = (300, 400)
PATHS = ('validation/{}.image.jpg', 'validation/{}.label.png', 'validation.other/{}.label.png')


class Split:
  """Six images; counts how often each is read."""

  def __init__(self):
    self.reads = []

  def __len__(self):
    return 6

  def __getitem__(self, index):
    self.reads.append(index)
    rgb = np.full((*SIZE, 3), 40 * index, np.uint8)
    labels = {'semantic': np.full(SIZE, index % 2, np.uint8), 'other': np.full(SIZE, 255, np.uint8)}
    return {'inputs': {'rgb': rgb}, 'labels': labels, 'id': self.ids()[index]}

  def ids(self):
    return [f'folder/{letter}' for letter in 'abcdef']


def keep(folder, most=3) -> tuple[list[str], Split]:
  """Keeps predictions of a run in the folder; returns the ids, and the split that was read."""
  split = Split()
  data = Data({'rgb': 3}, HEADS, {'validation': split}, 'made 1.0.0')
  predictions = kept.Kept(RunDirectory(folder), data, most)
  for index in range(len(split)):
    found = {head: np.full((600, 800), index, np.uint8) for head in HEADS}  # images were resized when they were read
    predictions.add({'index': index, 'inputs': {'rgb': np.zeros((*SIZE, 3), np.uint8)}, 'predictions': found})
  predictions.write()
  return [split.ids()[index] for index in sorted(predictions.indices)], split


def images_folder(run) -> pathlib.Path:
  return pathlib.Path(kept.images_folder(RunDirectory(run).path, 'made 1.0.0'))


def relative(folder) -> set[str]:
  return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


def test_the_images_depend_on_the_ids_alone_and_fewer_are_some_of_them():
  ids = [f'image {number}' for number in range(1000)]
  found = kept.chosen(ids, 200)
  assert len(set(found)) == 200 and found == sorted(found)
  assert {ids[i] for i in found} == {ids[::-1][i] for i in kept.chosen(ids[::-1], 200)}
  assert set(kept.chosen(ids, 20)) < set(found)
  assert max(np.diff(found)) < 50 and kept.chosen(ids[:5], 200) == [0, 1, 2, 3, 4]  # spread over the split
  assert kept.chosen(ids, 0) == []


def test_predictions_are_exact_and_images_are_thumbnails(tmp_path):
  ids, _ = keep(tmp_path / 'run')
  assert len(ids) == 3
  images = images_folder(tmp_path / 'run')
  assert images.parent == tmp_path / 'run' / 'images'
  assert relative(images) == {path.format(name) for name in ids for path in PATHS}
  assert relative(tmp_path / 'run' / 'eval') == {
    f'{stem}/{name}.prediction.png' for name in ids for stem in ('validation', 'validation.other')
  }
  for name in ids:
    index = Split().ids().index(name)
    for path, value in (
      (tmp_path / 'run' / 'eval' / 'validation' / f'{name}.prediction.png', index),
      (images / 'validation' / f'{name}.label.png', index % 2),
      (images / 'validation.other' / f'{name}.label.png', 255),
    ):
      with Image.open(path) as image:
        assert image.mode == 'P' and np.array_equal(np.asarray(image), np.full(SIZE, value))
    with Image.open(images / 'validation' / f'{name}.image.jpg') as image:
      assert image.size == (320, 240) and abs(np.asarray(image).mean() - 40 * index) < 2


def test_the_runs_of_a_sweep_share_images_and_add_only_what_is_missing(tmp_path):
  (tmp_path / 'sweep.json').write_text('{}')
  ids, split = keep(tmp_path / 'seed=0')
  images = images_folder(tmp_path / 'seed=1')
  assert images.parent == tmp_path / 'images' and len(relative(images)) == len(ids) * len(PATHS)
  assert split.reads
  missing = images / PATHS[1].format(ids[0])
  missing.unlink()
  again, split = keep(tmp_path / 'seed=1')
  assert again == ids and len(split.reads) == 1 and missing.exists()
  assert relative(tmp_path / 'seed=0') == relative(tmp_path / 'seed=1')
  assert kept.images_folder(RunDirectory(tmp_path / 'seed=0').path, 'other data') != images_folder(tmp_path / 'seed=0')


@pytest.mark.parametrize('most, writes', [(0, True), (3, False)])
def test_nothing_is_kept_before_the_end_or_by_another_host(tmp_path, most, writes):
  data = Data({'rgb': 3}, HEADS, {'validation': Split()}, 'made 1.0.0')
  predictions = kept.Kept(RunDirectory(tmp_path / 'run', writes=writes), data, most)
  assert not predictions.indices
  predictions.add({'index': 0})  # without predictions, which nobody asked for
  predictions.write()
  assert not (tmp_path / 'run').exists()
