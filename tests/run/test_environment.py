"""`env.json` has one entry per start, and all starts have the same data."""

import pytest

from fcn_jax.errors import UserError
from fcn_jax.run import environment
from fcn_jax.run.directory import RunDirectory


@pytest.fixture
def directory(tmp_path):
  return RunDirectory(tmp_path)


def test_each_start_adds_an_entry(directory, monkeypatch):
  monkeypatch.setattr(environment.sys, 'argv', ['main.py', '--config=x.py'])
  environment.add_environment(directory, ['cpu'], 'scenes 1')
  environment.add_environment(directory, ['gpu', 'gpu'], 'scenes 1')
  first, second = directory.read_json('env.json', None)
  assert (first['devices'], first['data']) == (['cpu'], 'scenes 1')
  assert (second['devices'], second['data']) == (['gpu', 'gpu'], 'scenes 1')
  assert second['command'][1:] == ['main.py', '--config=x.py']
  assert {'time', 'commit', 'dirty', 'python'} <= set(second)
  assert all(second['versions'][name] for name in ('jax', 'flax', 'grain', 'orbax-checkpoint'))


def test_data_that_changed_since_the_last_start_are_refused(directory):
  environment.add_environment(directory, ['cpu'], 'scenes 1')
  with pytest.raises(UserError, match=r"fingerprint is 'scenes 2'; expected 'scenes 1'\. Restore the data, ") as caught:
    environment.check_fingerprint(directory, 'scenes 2')
  assert '--workdir' in str(caught.value)
  assert len(directory.read_json('env.json', None)) == 1
  environment.add_environment(directory, ['cpu'], 'scenes 1')


def test_a_machine_without_git_has_no_commit(directory, monkeypatch):
  monkeypatch.setenv('PATH', '')
  environment.add_environment(directory, ['cpu'], 'scenes 1')
  assert directory.read_json('env.json', None)[0]['commit'] is None
