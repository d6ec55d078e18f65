"""Writing and reading a run directory: files, rows of a log, status."""

import json

import pytest
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax.run import directory as run_directory
from fcn_jax.run import saved
from fcn_jax.run.directory import RunDirectory


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path / 'run')


def test_a_directory_is_a_path_with_names_below_it(tmp_path):
  for given in (tmp_path, str(tmp_path), epath.Path(tmp_path)):
    directory = RunDirectory(given)
    assert directory / 'eval' / 'test.json' == epath.Path(tmp_path) / 'eval' / 'test.json'
    assert str(directory) == str(epath.Path(directory)) == str(tmp_path)


def test_a_directory_reads_what_it_writes(directory):
  directory.write('eval/examples.png', b'png')
  directory.write_json('eval/test.json', {'images': 8})
  assert (directory / 'eval' / 'examples.png').read_bytes() == b'png'
  assert directory.read_json('eval/test.json', None) == {'images': 8}
  assert directory.read_json('none.json', 'default') == 'default'


def test_a_directory_that_does_not_write_leaves_the_disk_as_it_is(directory):
  fill(directory, [2, 4])
  before = {path.name: path.read_text() for path in directory.path.iterdir()}
  other = RunDirectory(directory, writes=False)
  run_directory.begin(other, config_lib.default())
  run_directory.write_config(other, config_lib.default())
  other.write('file', 'x')
  rows = other.rows('rows.jsonl')
  rows.add(6, {'loss': 1.0})
  rows.flush()
  other.status(12).write('running', 6)
  assert {path.name: path.read_text() for path in directory.path.iterdir()} == before
  run_directory.begin(RunDirectory(directory / 'new', writes=False), config_lib.default())
  assert not (directory / 'new').exists()


def fill(directory, steps):
  rows = directory.rows('rows.jsonl', 0)
  for step in steps:
    rows.add(step, {'loss': step / 3})
  rows.flush()
  return (directory / 'rows.jsonl').read_text()


def test_rows_end_at_the_step_that_a_run_resumes_from(directory):
  whole = fill(directory, [2, 4, 4, 6, 8])
  resumed = directory.rows('rows.jsonl', 4)
  assert [row['step'] for row in resumed.rows] == [2, 4, 4]
  assert (directory / 'rows.jsonl').read_text() == whole, 'nothing is lost before the first flush'
  for step in (6, 8):
    resumed.add(step, {'loss': step / 3})
  resumed.flush()
  assert (directory / 'rows.jsonl').read_text() == whole


def test_rows_keep_every_digit(directory):
  fill(directory, [1, 2, 3])
  assert [row['loss'] for row in saved.read_rows(directory / 'rows.jsonl')] == [1 / 3, 2 / 3, 1.0]
  assert [row['step'] for row in saved.read_rows(directory / 'rows.jsonl', 2)] == [1, 2]
  assert saved.read_rows(directory / 'none.jsonl') == []


def test_rows_are_found_by_step_and_by_field(directory):
  rows = directory.rows('rows.jsonl')
  assert rows.rows == []
  rows.add(2, {'a': 1})
  rows.add(2, {'b': None})
  rows.add(3, {'a': 3})
  assert rows.at(2) == [{'step': 2, 'a': 1}, {'step': 2, 'b': None}] and rows.at(1) == []
  assert rows.with_field('b') == [{'step': 2, 'b': None}] and len(rows.with_field('a')) == 2


def test_status_adds_up_seconds_and_counts_restarts(directory, monkeypatch):
  now = [1000.0]
  monkeypatch.setattr(run_directory.time, 'time', lambda: now[0])

  def start(seconds, state, step):
    status = directory.status(12)
    before = status.state, status.step
    status.write('running', step)
    now[0] += seconds
    status.write(state, step)
    now[0] += 100  # until the next start
    return before

  def read():
    return json.loads((directory / 'status.json').read_text())

  assert start(5, 'preempted', 3) == (None, 0)
  assert read() == {'state': 'preempted', 'step': 3, 'steps': 12, 'wall_seconds': 5.0, 'restarts': 0, 'time': 1005.0}
  assert start(7, 'failed', 6) == ('preempted', 3)
  assert read() == {'state': 'failed', 'step': 6, 'steps': 12, 'wall_seconds': 12.0, 'restarts': 1, 'time': 1112.0}
  assert start(1, 'done', 12) == ('failed', 6)
  assert read() == {'state': 'done', 'step': 12, 'steps': 12, 'wall_seconds': 13.0, 'restarts': 2, 'time': 1213.0}


def test_status_gives_the_reason_of_a_failure_until_the_next_write(directory):
  status = directory.status(12)
  status.write('failed', 3, error='no room')
  assert directory.read_json('status.json', None)['error'] == 'no room'
  status.write('running', 4)
  assert 'error' not in directory.read_json('status.json', None)
