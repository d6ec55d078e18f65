"""Rows reach the disk soon after they were measured."""

import json

import pytest

from fcn_jax.run import log, saved
from fcn_jax.run.directory import RunDirectory


@pytest.mark.parametrize('seconds', [0.5, 7, 11, 16, 29, 31, 100])
def test_a_row_is_on_disk_30_seconds_after_it_was_measured(tmp_path, monkeypatch, seconds):
  """However long the steps are."""
  now, directory = 1000.0, RunDirectory(tmp_path)
  monkeypatch.setattr(log.time, 'monotonic', lambda: now)
  written, write = [], directory.write
  monkeypatch.setattr(directory, 'write', lambda *arguments: (written.append(now), write(*arguments)))
  rows = log.Log(directory, steps=100, lock=None)
  rows.read(0)
  measured = {}
  for step in range(1, 100):
    now += seconds
    rows.metrics.add(step, {'train/loss': 1.0})
    measured[step] = now
    rows.write_in_time(step)
    late = [s for s in measured if now + seconds > measured[s] + 30]  # by the time of the next call
    assert {row['step'] for row in saved.read_rows(tmp_path / 'metrics.jsonl')} >= set(late)
  if late:
    assert json.loads((tmp_path / 'status.json').read_text())['state'] == 'running'
  assert len(set(written)) <= 99 * max(1 / 2, seconds / 15), 'rarely'


def test_the_rows_before_the_first_read_stay(tmp_path):
  """If a start fails before it has restored a checkpoint."""
  (tmp_path / 'metrics.jsonl').write_text('{"step": 3}\n')
  log.Log(RunDirectory(tmp_path), steps=9, lock=None).write('failed', 0, error='no')
  assert (tmp_path / 'metrics.jsonl').read_text() == '{"step": 3}\n'
  assert saved.read_status(tmp_path)['error'] == 'no'
