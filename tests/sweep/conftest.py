"""A sweep with two runs that are done, and the messages of the sweep."""

import logging

import pytest
import small_sweep
from etils import epath
from small_sweep import begin

from fcn_jax.sweep import points


@pytest.fixture
def runs(tmp_path):
  """A sweep of three runs, of which the first two are done, in a directory `sweep`; the third starts from the first."""
  (tmp_path / 'experiment.py').write_text(
    small_sweep.HEAD + small_sweep.CONFIG + small_sweep.returning('[{"seed": 0}, {"seed": 1}, {"init.run": "seed=0"}]')
  )
  path, folder = str(tmp_path / 'experiment.py'), epath.Path(tmp_path / 'sweep')
  base = points.load(path, '')[1]
  found = points.runs(path, base, folder)
  points.write_sweep(folder, 'experiment.py', base, found)
  for run in found[:2]:
    begin(run)
  return found


@pytest.fixture
def messages(monkeypatch):
  """What the sweep logs."""
  found = []
  for level in ('info', 'warning'):
    monkeypatch.setattr(logging.Logger, level, lambda _, text, *values: found.append(text % values))
  return found
