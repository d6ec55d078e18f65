"""The example of docs/own_data.md, from start to finish: every command, with the trainings cut to a few steps."""

import json
import re
import shlex
import sys

import pytest
import tiny
from markdown_blocks import python_blocks

PAGE = 'docs/own_data.md'
SHORT = ['--config.train.steps=4', '--config.optim.warmup=1', '--config.eval.every=0', '--config.checkpoint.every=2']


def commands() -> list[list[str]]:
  """The lines after $ in the blocks of commands with their output."""
  blocks = re.findall(r'```console\n(.*?)```', (tiny.ROOT / PAGE).read_text(), re.DOTALL)
  return [shlex.split(line[2:]) for block in blocks for line in block.splitlines() if line.startswith('$ ')]


@pytest.mark.slow
def test_the_example_runs(tmp_path):
  (tmp_path / 'experiments').symlink_to(tiny.ROOT / 'experiments')
  environment = {'TFDS_DATA_DIR': tiny.prepare(tmp_path / 'prepared')} | tiny.QUICK
  exported = tiny.run([sys.executable, '-c', python_blocks(PAGE)[0]], cwd=tmp_path, env=environment)
  assert exported.returncode == 0, exported.stderr
  names = re.search(r'^classes = \["sky".*"foreground"\]$', (tiny.ROOT / PAGE).read_text(), re.MULTILINE)[0]
  (tmp_path / 'street/dataset.toml').write_text(names)
  found = commands()
  assert len(found) == 6 and all(command[0] == 'python' for command in found)
  for command in found:
    options = SHORT if command[2] in ('fcn_jax.main', 'fcn_jax.sweep') else []
    options = [*options, '--only=train_fraction=0.25,seed=0'] if command[2] == 'fcn_jax.sweep' else options
    done = tiny.run([sys.executable, *command[1:], *options], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
  scores = json.loads((tmp_path / 'runs/street/eval/validation.json').read_text())
  assert scores['images'] == 8 and 'mountain' in scores['iou']
  assert len(list((tmp_path / 'predictions').glob('*.overlay.png'))) == 8
  assert (tmp_path / 'runs/more/report/index.html').exists()


@pytest.mark.parametrize('library', ['pycocotools', 'labelme'])
def test_blocks_for_other_programs_are_python(library):
  (block,) = [block for block in python_blocks(PAGE) if f'{library}.' in block]
  compile(block, PAGE, 'exec')
