"""Progress is a bar on a terminal and a line every ten seconds elsewhere; the last table has every metric."""

import io
import types

import numpy as np
import pytest
from rich.console import Console

from fcn_jax import metrics
from fcn_jax.run import progress
from fcn_jax.run.directory import RunDirectory


@pytest.fixture
def screen(monkeypatch):
  """The output if there is no terminal."""
  output = io.StringIO()
  monkeypatch.setattr(progress, 'console', Console(file=output, width=100))
  return output


@pytest.fixture
def clock(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(progress.time, 'time', lambda: now[0])
  return now


def test_without_a_terminal_there_is_a_line_every_ten_seconds_and_at_the_end(screen, clock):
  bar = progress.Bar(0, 100, 8)
  for step in range(1, 101):
    clock[0] += 0.5
    bar.update(step, 2.0, 16.0)
  bar.close()
  lines = screen.getvalue().splitlines()
  assert [line.split()[1] for line in lines] == ['21/100', '42/100', '63/100', '84/100', '100/100']
  assert lines[0] == 'step 21/100  loss 2.0000  16.0 images/s  40 s left'  # (100 - 21) * 8 / 16


def test_a_speed_that_is_not_measured_yet_is_not_shown(screen, clock):
  progress.Bar(0, 1, 8).update(1, 2.0, 0.0)
  assert screen.getvalue() == 'step 1/1  loss 2.0000\n'


def test_a_quiet_bar_shows_nothing(screen, clock):
  bar = progress.Bar(0, 1, 8, quiet=True)
  clock[0] += 60
  bar.update(1, 2.0, 16.0)
  bar.close()
  assert screen.getvalue() == ''


def test_on_a_terminal_there_is_a_bar(monkeypatch):
  output = io.StringIO()
  monkeypatch.setattr(progress, 'console', Console(file=output, width=100, force_terminal=True))
  bar = progress.Bar(10, 20, 8)
  bar.update(15, 0.25, 4.0)
  bar.close()
  assert 'step 15/20' in output.getvalue() and 'loss 0.2500' in output.getvalue()
  assert '10 s left' in output.getvalue()


def show_results(directory, row, heads=('semantic',)):
  """Shows the results of a run whose last evaluation is `row`."""
  classes = {'names': ['sky'], 'palette': [[0, 0, 0]], 'ignore': 255}
  directory.write_json('data.json', {'inputs': {'rgb': 3}, 'heads': dict.fromkeys(heads, classes)})
  log, timing = directory.rows('metrics.jsonl'), directory.rows('timing.jsonl')
  log.add(4, {'eval/mean_iou': 0.125})
  log.add(5, row)
  for rate, memory in ((1.0, 1.25), (12.34, 1.5), (99.0, 1.5)):  # the median of the speeds, the last of the memories
    timing.add(5, {'images_per_second': rate, 'peak_memory_gib': memory})
  log.flush()
  timing.flush()
  progress.show_results(directory, types.SimpleNamespace(step=5, wall_seconds=61.7))


def cells(screen):
  return [[cell.strip() for cell in line.split('│')[1:-1]] for line in screen.getvalue().splitlines() if '│' in line]


def test_the_table_has_every_metric_and_marks_absent_classes(screen, tmp_path):
  scores = {
    'train/loss': 1.0,
    'eval/pixel_accuracy': 0.5,
    'eval/mean_iou': 0.25,
    'eval/fw_iou': 0.75,
    'eval/iou/sky': 0.125,
    'eval/iou/water': None,
  }
  show_results(RunDirectory(tmp_path), scores)
  assert cells(screen) == [
    ['pixel accuracy', '50.00 %'],
    ['mean IoU', '25.00 %'],
    ['fw IoU', '75.00 %'],
    ['IoU sky', '12.50 %'],
    ['IoU water', 'absent'],
    ['time', '62 s'],
    ['training', '12.3 images/s'],
    ['peak memory', '1.50 GiB'],
  ]


def test_the_metrics_of_several_heads_are_shown_under_their_names(screen, tmp_path):
  directory = RunDirectory(tmp_path)
  first = {'eval/mean_iou': 0.25, 'eval/iou/sky': 0.125}
  show_results(
    directory, first | {'eval/geometry/mean_iou': 0.5, 'eval/geometry/iou/flat': None}, ('semantic', 'geometry')
  )
  assert cells(screen)[:6] == [
    ['head semantic', ''],
    ['mean IoU', '25.00 %'],
    ['IoU sky', '12.50 %'],
    ['head geometry', ''],
    ['mean IoU', '50.00 %'],
    ['IoU flat', 'absent'],
  ]


def test_the_scores_of_a_split_include_those_near_boundaries(screen):
  values = metrics.summarize(np.array([[3, 1], [0, 0]]), ('sky', 'tree'))
  progress.show_scores(values | {'boundary_iou': {'2': 0.125, '8': None}})
  assert cells(screen)[-5:] == [
    ['mean F1', '42.86 %'],
    ['mean IoU within 2 px of a boundary', '12.50 %'],
    ['mean IoU within 8 px of a boundary', 'absent'],
    ['sky', '100.00 %', '75.00 %', '100.00 %', '75.00 %', '85.71 %'],
    ['tree', '0.00 %', '0.00 %', '0.00 %', 'absent', '0.00 %'],
  ]
