"""Runs that end early: another start takes over, or a number is not finite."""

import json
import signal

import numpy as np
import pytest
import tiny


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return tiny.prepare(tmp_path_factory.mktemp('small') / 'data')


def status(workdir) -> dict:
  return json.loads((workdir / 'status.json').read_text())


def rows(workdir) -> list[dict]:
  path = workdir / 'metrics.jsonl'
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_take_over_ends_the_previous_start_which_then_writes_nothing(data, tmp_path):
  """For example, if a machine counts as lost but is still alive."""
  workdir = tmp_path / 'run'
  command = tiny.command(data, workdir, train__steps=100_000, eval__every=0, checkpoint__every=20)
  first = tiny.start(command)
  try:
    # The second start can resume only from a checkpoint; one that is being written has a longer name.
    tiny.until(lambda: any(path.name.isdigit() for path in workdir.glob('checkpoints/*')), first)
    refused = tiny.run(command)
    assert refused.returncode == 1 and 'another process is training in' in refused.stderr
    second = tiny.start([*command, '--take_over'])
    try:
      output, errors = first.communicate(timeout=100)
      assert first.returncode == 75, output + errors
      assert 'another process took over' in output and 'saved at step' not in output
      assert json.loads((workdir / 'attempt.json').read_text())['pid'] == second.pid
      left = status(workdir)['step']
      tiny.until(lambda: status(workdir)['step'] > left, second)
      second.send_signal(signal.SIGTERM)
      output, errors = second.communicate(timeout=100)
    finally:
      second.kill()
  finally:
    first.kill()
  assert second.returncode == 75 and 'resuming from step' in output, output + errors
  assert status(workdir)['state'] == 'preempted'


@pytest.mark.slow
@pytest.mark.parametrize(
  ('lr', 'steps', 'step'),
  # The second shows only in the norms: the loss of a step belongs to the parameters before the step.
  [(1e15, 12, 2), (1e38, 1, 1)],
)
def test_a_run_that_diverges_ends_with_the_step_at_which_it_did(data, tmp_path, lr, steps, step):
  settings = {
    'optim__lr': lr,
    'optim__warmup': 0,
    'optim__schedule': 'constant',
    'train__steps': steps,
    'train__log_every': 1,
  }
  done = tiny.run(tiny.command(data, tmp_path / 'run', **settings))
  assert done.returncode == 1
  assert 'Traceback' not in done.stderr
  ended = status(tmp_path / 'run')
  assert ended['state'] == 'diverged' and f'step {step} ' in ended['error'] + ' '
  assert f'step {step} ' in done.stdout and 'diverged' in done.stdout and 'optim.lr' in done.stdout
  assert [row['step'] for row in rows(tmp_path / 'run') if 'train/loss' in row] == list(range(1, step))
  assert not any(np.isnan(x) for row in rows(tmp_path / 'run') for x in row.values() if x is not None)
