"""Damaged files of a run: each reader names the file, what is wrong and what to do, before a start writes anything."""

import os
import pathlib
import shutil

import made
import pytest
from ordinary_user import without_root

from fcn_jax import config as config_lib
from fcn_jax.errors import UserError
from fcn_jax.run import directory, saved
from fcn_jax.run.directory import RunDirectory

READ_AT_A_START = ('config.json', 'status.json', 'env.json', 'metrics.jsonl', 'timing.jsonl')


@pytest.fixture
def run(tmp_path):
  """The path of a run that is done."""
  return made.run(tmp_path, seed=0)


def empty(path):
  path.write_text('')


def cut(path):
  content = path.read_text().rstrip()
  path.write_text(content[: len(content) - 5])


def folder(path):
  path.unlink()
  path.mkdir()


def other_json(path):
  path.write_text('"text"\n')


def start(run):
  """What the command that trains a run does first."""
  directory.begin(RunDirectory(run), config_lib.default('scenes'))


def contents(run) -> dict:
  return {path: path.is_file() and path.read_bytes() for path in pathlib.Path(run).rglob('*')}


@pytest.mark.parametrize('damage', [empty, cut, folder, other_json])
@pytest.mark.parametrize('name', READ_AT_A_START)
def test_a_start_names_a_damaged_file_and_changes_nothing(run, name, damage):
  damage(run / name)
  before = contents(run)
  if name.endswith('.jsonl') and damage is empty:
    start(run)  # a run that has not logged anything yet
  else:
    with pytest.raises(UserError) as caught:
      start(run)
    assert str(run / name) in str(caught.value)
    assert any(words in str(caught.value) for words in ('delete', 'expected a file'))
  assert contents(run) == before


@pytest.mark.parametrize('damage', [empty, cut, folder])
@pytest.mark.parametrize(
  ('name', 'read'),
  [
    ('data.json', saved.read_data),
    ('eval/validation.json', lambda run: saved.read_scores(run, 'validation')),
    ('eval/network.json', saved.read_network),
    ('eval/validation.npz', lambda run: saved.read_arrays(run / 'eval' / 'validation.npz')),
  ],
)
def test_a_reader_names_a_damaged_file(run, name, read, damage):
  assert read(run)
  if name.endswith('.npz') and damage is cut:
    (run / name).write_bytes((run / name).read_bytes()[:-30])
  else:
    damage(run / name)
  with pytest.raises(UserError) as caught:
    read(run)
  assert str(run / name) in str(caught.value)


def test_half_a_last_line_is_named_as_one(run):
  with (run / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 30, "tra')
  with pytest.raises(UserError, match=r'jsonl is damaged: the last line is .*; .* delete this line, or restore'):
    saved.read_rows(run / 'metrics.jsonl')


def test_a_run_without_its_config_is_not_taken_for_a_new_one(run):
  (run / 'config.json').unlink()
  assert saved.is_run(run)
  for use in (lambda: start(run), lambda: saved.read_config(run)):
    with pytest.raises(UserError, match=r'config\.json is missing, although there is a run in .*env\.json.*; restore'):
      use()


def test_a_folder_with_files_of_a_user_can_hold_a_new_run(tmp_path):
  (tmp_path / 'log.txt').write_text('output of a sweep')
  (tmp_path / 'eval').mkdir()
  assert not saved.is_run(RunDirectory(tmp_path).path)
  start(tmp_path)


def test_a_run_that_may_not_be_read_is_not_a_folder_without_a_run(run):
  os.chmod(run / 'config.json', 0)
  with without_root(), pytest.raises(UserError, match=r'cannot read .*config\.json: Permission denied'):
    saved.read_config(run)
  os.chmod(run, 0)
  with without_root():
    for use in (lambda: start(run), lambda: saved.read_config(run), lambda: saved.is_run(run)):
      with pytest.raises(UserError, match=r'cannot read .*: Permission denied'):
        use()
  os.chmod(run, 0o700)


def test_a_directory_that_is_deleted_while_it_is_used_is_reported_as_gone(tmp_path):
  used = RunDirectory(tmp_path / 'run')
  directory.begin(used, config_lib.default('scenes'))
  shutil.rmtree(used.path)
  for write in (lambda: used.write('eval/a.png', b''), lambda: used.status(9).write('running', 1)):
    with pytest.raises(UserError, match='run is gone: another program has deleted or moved this directory'):
      write()
  assert not used.path.exists()


@pytest.mark.parametrize('content', ['', '[]', '{"time": "x"}', '{"pid": "x"}'])
def test_a_damaged_attempt_is_named(run, content):
  (run / 'attempt.json').write_text(content)
  with pytest.raises(UserError, match=r'attempt\.json (is|has|holds) .*: delete it'):
    saved.read_attempt(run)
