"""Every Python block of docs/api.md runs, from top to bottom in one namespace."""

import pytest
import untrained
from markdown_blocks import python_blocks
from photos import drawing, save

PAGE = 'docs/api.md'


@pytest.mark.slow
def test_the_blocks_run_in_a_folder_with_a_run_and_an_image(tmp_path, monkeypatch):
  untrained.write(tmp_path / 'runs' / 'fcn16s-scenes', model__stride=16)
  save(tmp_path / 'photo.jpg', drawing(120, 90))
  monkeypatch.chdir(tmp_path)
  blocks, namespace = python_blocks(PAGE), {}
  assert len(blocks) >= 8
  for number, block in enumerate(blocks, 1):
    exec(compile(block, f'{PAGE}, block {number}', 'exec'), namespace)
  # The blocks print little; these are the results that a reader would look at.
  assert namespace['labels'].shape == (120, 90)
  assert namespace['probabilities'].shape == (120, 90, len(namespace['run'].classes))
  assert namespace['padded'].shape == (1, 64, 96, 21)
  assert namespace['loss'].shape == () and namespace['loss'] > 0
  assert namespace['matrices'].sum() == 32 * 96 and namespace['found']['iou']['class 3'] is not None
