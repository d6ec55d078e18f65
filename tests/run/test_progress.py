"""Progress is a bar on a terminal and a line now and then elsewhere; the last table has every metric."""

import io
import types

import pytest
from etils import epath
from rich.console import Console

from fcn_jax.run import directory, progress


@pytest.fixture
def screen(monkeypatch):
  """What is printed where there is no terminal."""
  output = io.StringIO()
  monkeypatch.setattr(progress, '_console', Console(file=output, width=100))
  return output


@pytest.fixture
def clock(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(progress.time, 'time', lambda: now[0])
  return now


def test_what_is_said_is_printed_as_it_is(screen):
  progress.say('[red]10 %[/red] of [H, W] /tmp/x')
  assert screen.getvalue() == '[red]10 %[/red] of [H, W] /tmp/x\n'


def test_without_a_terminal_there_is_a_line_every_ten_seconds_and_at_the_end(screen, clock):
  bar = progress.Bar(0, 100, 8)
  for step in range(1, 101):
    clock[0] += 0.5
    bar.update(step, 2.0, 16.0)
  bar.close()
  lines = screen.getvalue().splitlines()
  assert [line.split()[1] for line in lines] == ['21/100', '42/100', '63/100', '84/100', '100/100']
  assert lines[0] == 'step 21/100  loss 2.0000  16.0 images/s  40 s left'  # (100 - 21) * 8 / 16


def test_a_speed_that_is_not_known_is_not_said(screen, clock):
  progress.Bar(0, 1, 8).update(1, 2.0, 0.0)
  assert screen.getvalue() == 'step 1/1  loss 2.0000\n'


def test_on_a_terminal_there_is_a_bar(monkeypatch):
  output = io.StringIO()
  monkeypatch.setattr(progress, '_console', Console(file=output, width=100, force_terminal=True))
  bar = progress.Bar(10, 20, 8)
  bar.update(15, 0.25, 4.0)
  bar.close()
  assert 'step 15/20' in output.getvalue() and 'loss 0.2500' in output.getvalue()
  assert '10 s left' in output.getvalue()


def test_the_table_has_every_metric_and_says_what_is_absent(screen, tmp_path):
  scores = {
    'step': 5,
    'train/loss': 1.0,
    'eval/pixel_accuracy': 0.5,
    'eval/mean_iou': 0.25,
    'eval/fw_iou': 0.75,
    'eval/iou/sky': 0.125,
    'eval/iou/water': None,
  }
  folder = epath.Path(tmp_path)
  log, timing = directory.Rows(folder / 'metrics.jsonl', 0), directory.Rows(folder / 'timing.jsonl', 0)
  log.add(4, {'eval/mean_iou': 0.125})
  log.rows.append(scores)
  for rate, memory in ((1.0, 1.25), (12.34, 1.5), (99.0, 1.5)):  # the median of the speeds, the last of the memories
    timing.add(5, {'images_per_second': rate, 'peak_memory_gib': memory})
  log.flush()
  timing.flush()
  progress.results(folder, types.SimpleNamespace(step=5, wall_seconds=61.7))
  rows = [[cell.strip() for cell in line.split('│')[1:-1]] for line in screen.getvalue().splitlines() if '│' in line]
  assert rows == [
    ['pixel accuracy', '50.00 %'],
    ['mean IoU', '25.00 %'],
    ['fw IoU', '75.00 %'],
    ['IoU sky', '12.50 %'],
    ['IoU water', 'absent'],
    ['time', '62 s'],
    ['training', '12.3 images/s'],
    ['peak memory', '1.50 GiB'],
  ]
