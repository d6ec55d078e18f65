"""Drawn images depend only on split and index, have balanced classes and thin structures, and are stored correctly."""

import numpy as np
import pytest

from fcn_jax.data.builders import scenes, scenes_drawing
from fcn_jax.data.dataset import IGNORE


@pytest.fixture(scope='module')
def images():
  return [scenes.image('train', index) for index in range(60)]


def test_an_image_depends_only_on_its_split_and_index(images):
  again = scenes.image('train', 3)
  assert all(np.array_equal(again[key], images[3][key]) for key in ('image', 'label'))
  for other in (images[4], scenes.image('validation', 3)):
    assert not np.array_equal(other['image'], images[3]['image'])


def test_sizes_types_and_values(images):
  for drawn in images:
    image, label = drawn['image'], drawn['label']
    assert image.dtype == label.dtype == np.uint8
    assert image.shape == (*label.shape, 3)
    assert label.shape[0] <= 128 and label.shape[1] <= 160  # one canvas for all
    assert set(np.unique(label)) <= {*range(len(scenes_drawing.CLASSES)), IGNORE}
  sizes = {drawn['label'].shape for drawn in images}
  assert any(height % 2 for height, _ in sizes) and any(width % 2 for _, width in sizes)
  assert any(height > width for height, width in sizes)


def test_no_class_is_rare_and_none_dominates(images):
  counts = np.array([np.bincount(drawn['label'].ravel(), minlength=256) for drawn in images])
  labeled = counts[:, : len(scenes_drawing.CLASSES)]
  shares = labeled.sum(0) / labeled.sum()
  assert np.all(shares > 0.03) and np.all(shares < 0.35), shares
  assert np.all((labeled > 20).mean(0) > 0.4)
  assert 0.005 < counts[:, IGNORE].sum() / counts.sum() < 0.015


def near_a_border(label: np.ndarray, distance: int) -> np.ndarray:
  """bool [H, W]: whether there is another class within `distance` pixels to the left, right, top or bottom."""
  near = np.zeros(label.shape, bool)
  for shift in range(1, distance + 1):
    across, down = label[:, shift:] != label[:, :-shift], label[shift:] != label[:-shift]
    near[:, shift:] |= across
    near[:, :-shift] |= across
    near[shift:] |= down
    near[:-shift] |= down
  return near


def test_many_pixels_belong_to_thin_structures(images):
  """With fewer, strides 32, 16 and 8 differ less: see the counts and widths in `scenes_drawing.py`."""
  shares = [near_a_border(drawn['label'], 3)[drawn['label'] != IGNORE].mean() for drawn in images]
  assert np.mean(shares) > 0.2


def test_there_are_eight_classes_of_different_colors():
  assert len(scenes.CLASSES) == 8
  assert len(set(scenes.CLASSES.palette)) == 8


def test_the_prepared_data_set_reads_back(tmp_path, monkeypatch):
  monkeypatch.setattr(scenes, 'SPLITS', {'train': 5, 'validation': 2})
  builder = scenes.Scenes(data_dir=tmp_path, file_format='array_record')
  builder.download_and_prepare()
  for split, count in scenes.SPLITS.items():
    source = builder.as_data_source(split)
    assert len(source) == count
    examples = [source[i] for i in range(count)]
    names = [e['id'].decode() for e in examples]  # TFDS gives Text as bytes
    assert set(names) == {f'{split}_{i:05d}' for i in range(count)}
    for name, example in zip(names, examples, strict=True):
      drawn = scenes.image(split, int(name[-5:]))
      assert np.array_equal(example['label'][..., 0], drawn['label'])
      error = np.abs(example['image'].astype(int) - drawn['image'])
      assert error.mean() < 6, 'JPEG at quality 92 changes pixels by a few gray levels only'
