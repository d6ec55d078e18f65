"""Progress is a bar on a terminal and a line every ten seconds elsewhere; the last table has every metric."""

import io
import shlex
import time
import types

import numpy as np
import pytest
from rich.console import Console

from fcn_jax import config as config_lib
from fcn_jax import metrics
from fcn_jax.run import messages, progress
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


def make(steps, *, every=0, start=0, **more):
  """The bar of a run with batch size 8, whose evaluations have 4 images."""
  config = config_lib.default()
  config.train.steps, config.train.batch_size, config.eval.every = steps, 8, every
  return progress.Bar(start, config, 4, **more)


def test_without_a_terminal_there_is_a_line_every_ten_seconds_and_at_the_end(screen, clock):
  bar = make(100)
  for step in range(1, 101):
    clock[0] += 0.5
    bar.update(step, 2.0, 16.0)
  bar.close()
  first, *lines = screen.getvalue().splitlines()
  assert first == 'step 0/100  compiling'
  assert [line.split()[1] for line in lines] == ['21/100', '42/100', '63/100', '84/100', '100/100']
  assert lines[0] == 'step 21/100  loss 2.0000  16.0 images/s  over 40 s left'  # (100 - 21) * 8 / 16
  assert lines[-1] == 'step 100/100  loss 2.0000  evaluating 0/4'


def test_the_time_left_includes_the_evaluations_once_one_is_timed(screen, clock, monkeypatch):
  monkeypatch.setattr(progress, '_EVERY', -1)  # every call is shown
  bar = make(5, every=2)
  for step in range(1, 6):
    bar.update(step, 2.0, 8.0)  # a step takes a second
    for _ in range(4 if step in (2, 4, 5) else 0):
      clock[0] += 20
      bar.evaluated()
  bar.saving()
  texts = [line.split('  loss 2.0000  ')[1] for line in screen.getvalue().splitlines()[1:]]
  assert texts[:3] == ['8.0 images/s  over 4 s left', 'evaluating 0/4  over 3 s left', 'evaluating 1/4  over 3 s left']
  assert texts[6] == '8.0 images/s  2 min left'  # two steps, and two evaluations of 80 s
  assert texts[7:9] == ['evaluating 0/4  2 min left', 'evaluating 1/4  2 min left']
  assert texts[-6:] == [f'evaluating {n}/4  {80 - 20 * n} s left' for n in range(4)] + ['saving'] * 2


def test_a_speed_that_is_not_measured_yet_is_not_shown(screen, clock):
  bar = make(2)
  bar.update(1, 2.0, 0.0)
  bar.update(2, 2.0, 0.0)
  assert screen.getvalue() == 'step 0/2  compiling\nstep 2/2  loss 2.0000  evaluating 0/4\n'


def test_a_quiet_bar_shows_nothing(screen, clock):
  bar = make(1, quiet=True)
  clock[0] += 60
  bar.update(1, 2.0, 16.0)
  bar.close()
  assert screen.getvalue() == ''


def test_on_a_terminal_there_is_a_bar_in_any_encoding(monkeypatch):
  output = io.TextIOWrapper(io.BytesIO(), encoding='ascii', newline='')
  monkeypatch.setattr(progress, 'console', Console(file=output, width=80, force_terminal=True, soft_wrap=True))
  bar = make(20, start=10)
  bar.update(15, 0.25, 4.0)
  bar.close()
  for seconds in (60, 0):  # a bar that does not appear, and one that does
    monkeypatch.setattr(progress, '_AFTER', seconds)
    with progress.Counter(2 + seconds) as counter:
      counter.advance()
      while not seconds and not counter._line:
        time.sleep(0.01)
  output.seek(0)
  text = output.read()
  assert 'step 15/20' in text and 'image 1/2' in text and 'image 1/62' not in text
  assert text.rpartition('step')[2].count('loss 0.2500') == 1


def test_images_are_counted_in_lines_where_there_is_no_terminal(screen, clock):
  with progress.Counter(4) as counter:
    for _ in range(4):
      clock[0] += 6
      counter.advance()
  assert screen.getvalue() == 'image 2/4  12 s left\nimage 4/4\n'


def test_the_next_commands_can_be_pasted(screen):
  progress.show_next(('predict', '--workdir=a b', "it's.jpg"), ('report', 'runs'))
  _, first, second = screen.getvalue().splitlines()
  assert shlex.split(first) == ['python', '-m', 'fcn_jax.predict', '--workdir=a b', "it's.jpg"]
  assert second == '  python -m fcn_jax.report runs'


@pytest.mark.parametrize(('width', 'term'), [(40, 'xterm'), (60, 'xterm'), (80, 'xterm'), (120, 'xterm'), (60, 'dumb')])
def test_a_message_is_divided_between_words_on_a_terminal_only(monkeypatch, width, term):
  monkeypatch.setenv('COLUMNS', str(width))  # of `shutil`
  screen = {'xterm': {'width': width}, 'dumb': {'force_terminal': True, '_environ': {'TERM': 'dumb'}}}[term]
  monkeypatch.setattr(progress, 'console', Console(**screen))
  command, path = 'python -m fcn_jax.evaluate --workdir="runs/a b" --split=train', '/a/long/path' * 12
  text = f'never learned: {"a class, " * 9}see {path}; run {command}, or stop\nclasses  {"sky 22.1 %, " * 12}tree'
  assert messages.wrapped(text, terminal=False) == text
  lines = messages.wrapped(text, terminal=True).split('\n')
  assert all(len(line) <= width or line.split(' ', 2)[2] in (f'{path};', f'{command},') for line in lines)
  assert '\n'.join(lines).split() == text.split() and sum(command in line for line in lines) == 1
  first = next(n for n, line in enumerate(lines) if line.startswith('classes'))
  assert all(line[:2] == '  ' and line[2] != ' ' for line in lines[1:first])
  assert all(line[:9] == ' ' * 9 and line[9] != ' ' for line in lines[first + 1 :]) and first > 1
  assert messages.wrapped('', terminal=True) == ''
  monkeypatch.setattr(progress, 'console', Console(width=0))  # COLUMNS=0
  assert messages.wrapped('a b', terminal=True) == 'a b'


def test_an_image_to_try_is_one_that_the_run_keeps_if_it_is_rgb(tmp_path):
  directory = RunDirectory(tmp_path)
  for channels, kept in ((3, False), (3, True), (4, True)):
    directory.write_json('data.json', {'inputs': {'rgb': channels}, 'heads': {}})
    if kept:
      directory.write('eval/validation/b.image.jpg', b'')
      directory.write('eval/validation/a.image.jpg', b'')
    is_named = kept and channels == 3
    expected = f'{tmp_path}/eval/validation/a.image.jpg' if is_named else 'photo.jpg'
    assert progress.kept_image(directory.path) == expected
  directory.write('data.json', b'damaged')
  assert progress.kept_image(directory.path) == 'photo.jpg'


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
    'eval/iou/salt_water': None,
  }
  show_results(RunDirectory(tmp_path), scores)
  assert cells(screen) == [
    ['pixel accuracy', '50.00 %'],
    ['mean IoU', '25.00 %'],
    ['fw IoU', '75.00 %'],
    ['IoU sky', '12.50 %'],
    ['IoU salt_water', 'absent'],
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
