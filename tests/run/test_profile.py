"""Traces of training steps, as a profiler reads them."""

import types

import jax
import jax.numpy as jnp
import pytest

from fcn_jax import files
from fcn_jax.errors import UserError
from fcn_jax.run import directory, profile

# From jaxlib 0.11 on, `event.stats` warns in C++, where a warning that is an error aborts the process.
pytestmark = pytest.mark.filterwarnings('ignore:builtin type event_stats has no __module__')


@jax.jit
def train_step(x):
  return x + 1


def train(folder, steps, profile_steps, start=0, **options) -> None:
  """Trains the steps after `start`."""
  run = types.SimpleNamespace(step=start, state=jnp.zeros(()))
  with profile.Profiler(directory.RunDirectory(folder, **options), profile_steps) as profiler:
    for _ in range(steps):
      with profiler.step(run):
        run.state = train_step(run.state)
        run.step += 1
      if run.step == 9:
        raise ZeroDivisionError


def traced(folder) -> list[int]:
  """The steps in the trace."""
  (file,) = folder.glob('profile/plugins/profile/*/*.xplane.pb')
  planes = jax.profiler.ProfileData.from_file(str(file)).planes
  events = [event for plane in planes for line in plane.lines for event in line.events]
  assert any('train_step' in event.name for event in events)
  return sorted(dict(event.stats)['step_num'] for event in events if event.name == 'train')


@pytest.mark.parametrize(
  ('profile_steps', 'start', 'expected'),
  [((2, 3), 0, [2, 3]), ((2, 4), 2, [3, 4]), ((4, 20), 0, [4, 5])],
  ids=['all', 'after the first', 'before the last'],
)
def test_a_trace_has_its_steps_and_a_line_that_says_how_to_open_it(tmp_path, caplog, profile_steps, start, expected):
  with caplog.at_level('INFO', logger='fcn_jax'):
    train(tmp_path, 5 - start, profile_steps, start)
  assert traced(tmp_path) == expected
  assert caplog.text.count('\n') == 1 and f'pip install xprof; xprof --logdir={tmp_path}/profile' in caplog.text


def test_a_run_that_fails_leaves_a_trace(tmp_path):
  with pytest.raises(ZeroDivisionError):
    train(tmp_path, 12, (8, 12))
  assert traced(tmp_path) == [8, 9]


@pytest.mark.parametrize(('profile_steps', 'options'), [(None, {}), ((2, 3), {'writes': False}), ((20, 21), {})])
def test_no_trace_is_written_without_its_steps_or_by_another_host(tmp_path, caplog, profile_steps, options):
  train(tmp_path, 5, profile_steps, **options)
  assert not list(tmp_path.iterdir())
  assert ('this start trained none of these steps' in caplog.text) == (profile_steps == (20, 21))


def test_a_trace_is_not_written_to_a_bucket(tmp_path, monkeypatch):
  monkeypatch.setattr(files, 'is_remote', lambda path: True)
  with pytest.raises(UserError, match=r'--profile is given, but --workdir is .*; expected a folder on a disk'):
    train(tmp_path, 5, (1, 2))
  train(tmp_path, 5, None)
