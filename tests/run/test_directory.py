"""Files of a run are written whole or not at all, and a run goes on only with its own config."""

import errno
import json
import os
import pathlib

import pytest
from etils import epath

from fcn_jax import config as config_lib
from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import directory, environment


@pytest.fixture
def folder(tmp_path):
  """A path of the kind that the run directory is, which may also lie in a bucket."""
  return epath.Path(tmp_path)


def names(folder):
  return sorted(os.listdir(folder))


@pytest.mark.parametrize('content', ['täglich\n', b'\x00\xff'])
def test_write_makes_folders_and_leaves_nothing_else(folder, content):
  files.write(folder / 'a' / 'b' / 'file', content)
  assert (folder / 'a' / 'b' / 'file').read_bytes() == (content if isinstance(content, bytes) else content.encode())
  assert names(folder / 'a' / 'b') == ['file']


@pytest.mark.parametrize('method', ['write_bytes', 'replace'])
def test_a_full_disk_leaves_the_old_file_and_no_other(folder, monkeypatch, method):
  files.write(folder / 'file', 'old')

  def full(path, content):
    if method == 'write_bytes':
      pathlib.Path(path).write_bytes(content[:2])  # some of it still found room
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(type(folder), method, full)
  with pytest.raises(
    UserError, match=r'cannot write .*/file: No space left on device; what was written before is intact'
  ):
    files.write(folder / 'file', 'the new one')
  assert names(folder) == ['file'] and (folder / 'file').read_text() == 'old'


def test_readers_never_meet_half_a_file(folder, monkeypatch):
  """The file changes in one act, by a name in the same folder: a rename across file systems would be a copy."""
  files.write(folder / 'file', 'old')
  replace, seen = type(folder).replace, []

  def watched(source, target):
    seen.append((source.parent == target.parent, target.read_text(), source.read_text()))
    return replace(source, target)

  monkeypatch.setattr(type(folder), 'replace', watched)
  files.write(folder / 'file', 'new')
  assert seen == [(True, 'old', 'new')] and (folder / 'file').read_text() == 'new'


@pytest.mark.parametrize('place', ['file/run', 'file'])
def test_a_folder_that_is_a_file_is_a_sentence(folder, place):
  (folder / 'file').write_text('not a folder')
  with pytest.raises(UserError, match=r'cannot write .*/status\.json: '):
    files.write(folder / place / 'status.json', '{}')
  assert (folder / 'file').read_text() == 'not a folder'


def test_a_place_where_nothing_can_be_made_is_a_sentence():
  with pytest.raises(UserError, match=r'cannot write /proc/run/status\.json: '):
    files.write(epath.Path('/proc/run/status.json'), '{}')


def test_read_json_gives_the_default_only_where_there_is_no_file(folder):
  assert files.read_json(folder / 'none.json', {'a': 1}) == {'a': 1}
  files.write_json(folder / 'some.json', [1, None, 'x'])
  assert files.read_json(folder / 'some.json', {}) == [1, None, 'x']


def filled(folder, steps):
  rows = directory.Rows(folder / 'rows.jsonl', 0)
  for step in steps:
    rows.add(step, {'loss': step / 3})
  rows.flush()
  return (folder / 'rows.jsonl').read_text()


def test_rows_are_cut_after_the_step_that_a_run_goes_on_from(folder):
  whole = filled(folder, [2, 4, 4, 6, 8])
  resumed = directory.Rows(folder / 'rows.jsonl', 4)
  assert [row['step'] for row in resumed.rows] == [2, 4, 4]
  assert (folder / 'rows.jsonl').read_text() == whole, 'nothing is lost before the first flush'
  for step in (6, 8):
    resumed.add(step, {'loss': step / 3})
  resumed.flush()
  assert (folder / 'rows.jsonl').read_text() == whole


def test_rows_are_kept_to_the_last_digit(folder):
  filled(folder, [1, 2, 3])
  assert [row['loss'] for row in directory.Rows(folder / 'rows.jsonl', 9).rows] == [1 / 3, 2 / 3, 1.0]


def test_rows_are_found_by_step_and_by_field(folder):
  rows = directory.Rows(folder / 'rows.jsonl', 0)
  assert rows.rows == []
  rows.add(2, {'a': 1})
  rows.add(2, {'b': None})
  rows.add(3, {'a': 3})
  assert rows.at(2) == [{'step': 2, 'a': 1}, {'step': 2, 'b': None}] and rows.at(1) == []
  assert rows.with_field('b') == [{'step': 2, 'b': None}] and len(rows.with_field('a')) == 2


def test_status_adds_up_seconds_and_counts_restarts(folder, monkeypatch):
  now = [1000.0]
  monkeypatch.setattr(directory.time, 'time', lambda: now[0])

  def start(seconds, state, step):
    status = directory.Status(folder, 12)
    before = status.state, status.step
    status.write('running', step)
    now[0] += seconds
    status.write(state, step)
    now[0] += 100  # until somebody starts it again
    return before

  def read():
    return json.loads((folder / 'status.json').read_text())

  assert start(5, 'preempted', 3) == (None, 0)
  assert read() == {'state': 'preempted', 'step': 3, 'steps': 12, 'wall_seconds': 5.0, 'restarts': 0}
  assert start(7, 'failed', 6) == ('preempted', 3)
  assert read() == {'state': 'failed', 'step': 6, 'steps': 12, 'wall_seconds': 12.0, 'restarts': 1}
  assert start(1, 'done', 12) == ('failed', 6)
  assert read() == {'state': 'done', 'step': 12, 'steps': 12, 'wall_seconds': 13.0, 'restarts': 2}


def test_status_says_why_and_forgets_it_when_all_is_well_again(folder):
  status = directory.Status(folder, 12)
  status.write('failed', 3, error='no room')
  assert files.read_json(folder / 'status.json', None)['error'] == 'no room'
  status.write('running', 4)
  assert 'error' not in files.read_json(folder / 'status.json', None)


def begin(folder, config):
  """As a start does, the data between the two."""
  directory.begin(folder, config)
  directory.write_config(folder, config)


def test_the_config_is_written_once_and_the_same_is_accepted(folder):
  config = config_lib.default()
  begin(folder / 'run', config)
  written = (folder / 'run' / 'config.json').read_text()
  assert json.loads(written)['data']['train_size'] == list(config.data.train_size)  # JSON has no tuples
  begin(folder / 'run', config_lib.default())
  assert (folder / 'run' / 'config.json').read_text() == written


def test_another_config_is_refused_with_all_that_differs(folder):
  mine, other = config_lib.default(), config_lib.default()
  mine.optim.lr, mine.data.scale, mine.seed = 0.002, (0.8, 1.25), 0
  other.optim.lr, other.data.scale, other.seed = 0.5, (0.5, 2.0), 3
  begin(folder / 'run', mine)
  with pytest.raises(UserError) as caught:
    begin(folder / 'run', other)
  message = str(caught.value)
  assert str(folder / 'run') in message
  for words in (
    'optim.lr is 0.002 there, 0.5 here',
    'seed is 0 there, 3 here',
    'data.scale is [0.8, 1.25] there, [0.5, 2.0] here',
    '--workdir',
  ):
    assert words in message
  assert 'optim.momentum' not in message
  begin(folder / 'run', mine)  # the run there is as it was


@pytest.mark.parametrize('there', [True, False])
def test_a_field_that_only_one_of_the_two_has_differs(folder, there):
  """The run of another version of the code."""
  with_it = config_lib.default()
  with with_it.unlocked():
    with_it.optim.nesterov = True
  begin(folder, with_it if there else config_lib.default())
  with pytest.raises(UserError, match=r'optim\.nesterov is (True there, None|None there, True) here'):
    begin(folder, config_lib.default() if there else with_it)


def test_each_start_adds_what_it_runs_on(folder, monkeypatch):
  monkeypatch.setattr(directory.sys, 'argv', ['main.py', '--config=x.py'])
  environment.add_environment(folder, ['cpu'], 'scenes 1')
  environment.add_environment(folder, ['gpu', 'gpu'], 'scenes 2')
  first, second = files.read_json(folder / 'env.json', None)
  assert (first['devices'], first['data']) == (['cpu'], 'scenes 1')
  assert (second['devices'], second['data']) == (['gpu', 'gpu'], 'scenes 2')
  assert second['command'][1:] == ['main.py', '--config=x.py']
  assert {'time', 'commit', 'dirty', 'python'} <= set(second)
  assert all(second['versions'][name] for name in ('jax', 'flax', 'grain', 'orbax-checkpoint'))


def test_a_machine_without_git_has_no_commit(folder, monkeypatch):
  monkeypatch.setenv('PATH', '')
  environment.add_environment(folder, ['cpu'], 'scenes 1')
  assert files.read_json(folder / 'env.json', None)[0]['commit'] is None


def test_the_config_of_a_run_comes_back_with_its_tuples(folder):
  config = config_lib.default('stanford_background')
  config.data.train_size, config.optim.lr = (64, 96), 0.5
  directory.write_config(folder, config)
  assert config_lib.flatten(directory.read_config(folder)) == config_lib.flatten(config)


def test_a_setting_that_came_after_the_run_has_its_default(folder):
  directory.write_config(folder, config_lib.default())
  saved = json.loads((folder / 'config.json').read_text())
  del saved['model']['shrink']
  files.write_json(folder / 'config.json', saved)
  assert directory.read_config(folder).model.shrink == 1


def test_a_config_that_is_damaged_or_missing_is_a_sentence(folder):
  with pytest.raises(UserError, match=r'holds no run: there is no config\.json in it'):
    directory.read_config(folder)
  (folder / 'config.json').write_text('{"model": {"stri')
  with pytest.raises(UserError, match=r'config\.json is damaged'):
    directory.read_config(folder)
