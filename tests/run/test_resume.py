"""However a run ends, the same command resumes it, with the same results as an undisturbed run."""

import json
import os
import random
import shutil
import signal
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return tiny.prepare(tmp_path_factory.mktemp('small') / 'data')


@pytest.fixture(scope='module')
def undisturbed(data, tmp_path_factory):
  """The directory of a run that was not disturbed."""
  workdir = tmp_path_factory.mktemp('undisturbed') / 'run'
  done = tiny.run(tiny.command(data, workdir))
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  return workdir


@pytest.fixture
def again(undisturbed, tmp_path):
  """A copy of the undisturbed run as if it had been killed just before it wrote the state `done`."""
  workdir = tmp_path / 'run'
  shutil.copytree(undisturbed, workdir)
  rewrite_status(workdir, state='running')
  return workdir


def rewrite_status(workdir, **changes):
  path = workdir / 'status.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def status(workdir) -> dict:
  return json.loads((workdir / 'status.json').read_text())


def last_state(workdir) -> tuple[int, dict]:
  """The step of the last checkpoint, and its parameters."""
  path = workdir / 'checkpoints'
  step = max(int(name) for name in os.listdir(path) if name.isdigit())
  with ocp.StandardCheckpointer() as reader:
    (item,) = (entry for entry in (path / str(step)).iterdir() if entry.is_dir())
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), reader.metadata(item).item_metadata.tree
    )
    return step, reader.restore(item, shapes)


def assert_same_run(workdir, other):
  """Bit by bit, for everything that depends only on the config and the data."""
  assert (workdir / 'metrics.jsonl').read_bytes() == (other / 'metrics.jsonl').read_bytes()
  (step, state), (other_step, other_state) = last_state(workdir), last_state(other)
  assert step == other_step == tiny.STEPS
  assert jax.tree.structure(state) == jax.tree.structure(other_state)
  for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other_state), strict=True):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
  names, others = (sorted(p.relative_to(d) for p in (d / 'eval').rglob('*') if p.is_file()) for d in (workdir, other))
  assert names == others and {'eval/examples.png', 'eval/validation.npz', 'eval/network.json'} <= set(map(str, names))
  for mine, theirs in ((workdir / name, other / name) for name in names):
    if mine.suffix == '.npz':
      with np.load(mine) as a, np.load(theirs) as b:
        assert set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)
    else:
      assert mine.read_bytes() == theirs.read_bytes(), mine
  leftover = [path for path in workdir.rglob('*') if 'tmp' in path.name]
  assert not leftover


def finish(data, workdir, **settings):
  """Runs the same command to the end."""
  done = tiny.run(tiny.command(data, workdir, **settings))
  assert done.returncode == 0, done.stderr
  assert 'Traceback' not in done.stderr, done.stderr
  assert status(workdir)['state'] == 'done'
  return done


def rows(workdir) -> list[dict]:
  path = workdir / 'metrics.jsonl'
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def saving(workdir) -> bool:
  """A checkpoint is half written."""
  return any('tmp' in path.name for path in workdir.glob('checkpoints/*'))


def evaluating(step):
  """The log ends with this step, whose evaluation comes next."""

  def condition(workdir):
    written = rows(workdir)
    return bool(written) and written[-1]['step'] == step and 'eval/mean_iou' not in written[-1]

  return condition


def begun(workdir):
  """The next start has added its entry to env.json; the other files may be those of the previous start."""
  path = workdir / 'env.json'
  before = path.stat().st_mtime_ns if path.exists() else None
  return lambda: path.exists() and path.stat().st_mtime_ns != before


def stop_when(process, condition, number) -> int:
  """Sends a signal as soon as a condition holds, and returns the exit code."""
  end = time.time() + 200
  while not condition():
    assert process.poll() is None, process.communicate()
    assert time.time() < end
    time.sleep(0.002)
  process.send_signal(number)
  process.output, process.errors = process.communicate(timeout=200)
  return process.returncode


def test_an_undisturbed_run_writes_the_documented_files(undisturbed):
  assert {path.name for path in undisturbed.iterdir()} == {
    'attempt.json',
    'config.json',
    'data.json',
    'env.json',
    'metrics.jsonl',
    'timing.jsonl',
    'eval',
    'images',
    'status.json',
    'checkpoints',
  }
  assert sorted(os.listdir(undisturbed / 'checkpoints'), key=int) == ['9', '12']
  written = rows(undisturbed)
  assert [row['step'] for row in written if 'train/loss' in row] == [2, 4, 6, 8, 10, 12]
  assert [row['step'] for row in written if 'eval/mean_iou' in row] == [4, 8, 12]
  assert len({row['train/loss'] for row in written if 'train/loss' in row}) == 6, 'the loss changes with each step'
  ended = status(undisturbed)
  assert (ended['state'], ended['step'], ended['steps'], ended['restarts']) == ('done', 12, 12, 0)
  assert ended['warnings'][-1].startswith('never learned: ')  # in so few steps
  assert len(json.loads((undisturbed / 'env.json').read_text())) == 1


def test_a_run_that_is_done_is_not_trained_again(data, undisturbed, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(undisturbed, workdir)
  before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in workdir.rglob('*') if path.is_file()}
  done = finish(data, workdir)
  assert 'done already' in done.stdout and 'mean IoU' in done.stdout and 'network' not in done.stdout
  assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in workdir.rglob('*') if path.is_file()} == before


@pytest.mark.slow
def test_a_run_that_is_killed_several_times_ends_like_the_undisturbed_one(data, undisturbed, tmp_path):
  workdir, seed = tmp_path / 'run', random.randrange(10**6)
  print(f'the random kills have seed {seed}')  # pytest shows it if the test fails
  draw = random.Random(seed)

  def after_a_while():
    """Some seconds after the start has added its entry to env.json: about as long as the training takes."""
    end = []

    def condition(workdir):
      if not end and (workdir / 'env.json').stat().st_size != size:
        end.append(time.time() + draw.uniform(0.5, 6))
      return bool(end) and time.time() > end[0]

    size = (workdir / 'env.json').stat().st_size
    return condition

  kills = starts = 0
  for make in (lambda: saving, lambda: evaluating(4), after_a_while, after_a_while):
    condition, ready = make(), begun(workdir) if make is not after_a_while else lambda: True
    process = tiny.start(tiny.command(data, workdir))
    starts += 1
    try:
      code = stop_when(process, lambda c=condition, r=ready: r() and c(workdir), signal.SIGKILL)
    except AssertionError:
      if status(workdir)['state'] == 'done' and condition is not saving:
        break  # the random moment came after the end
      raise
    finally:
      process.kill()
    assert code == -signal.SIGKILL
    kills += 1
    if status(workdir)['state'] == 'done':
      break  # the random moment came while the process ended; a run that is done has no further start
  else:
    starts += 1  # by the next line
  finish(data, workdir)
  assert kills >= 2
  assert_same_run(workdir, undisturbed)
  assert len(json.loads((workdir / 'env.json').read_text())) == starts
  assert 2 <= status(workdir)['restarts'] < starts  # a start that is killed before its first step does not count


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_last_evaluation_makes_up_for_it(data, undisturbed, again):
  lines = (again / 'metrics.jsonl').read_text().splitlines(keepends=True)
  assert 'eval/mean_iou' in lines[-1]
  (again / 'metrics.jsonl').write_text(''.join(lines[:-1]))
  shutil.rmtree(again / 'eval')
  done = finish(data, again)
  assert 'resuming from step 12' in done.stdout and done.stdout.count('never learned: ') == 1
  assert status(again)['warnings'] == status(undisturbed)['warnings']
  assert_same_run(again, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('number', 'code', 'moment', 'augment_on'),
  [(signal.SIGTERM, 75, evaluating(4), 'auto'), (signal.SIGINT, 130, saving, 'device')],
  ids=['SIGTERM while it evaluates', 'SIGINT while it saves, augmented on the device'],
)
def test_a_run_that_is_stopped_by_a_signal_saves_and_can_be_resumed(
  data, undisturbed, tmp_path, number, code, moment, augment_on
):
  """Without changes of color, it does not even matter where images are augmented. The resumed run stays there."""
  workdir = tmp_path / 'run'
  process = tiny.start(tiny.command(data, workdir, data__augment_on=augment_on))
  try:
    assert stop_when(process, lambda: moment(workdir), number) == code, process.errors
  finally:
    process.kill()
  assert process.errors == ''
  stopped = status(workdir)
  assert stopped['state'] == 'preempted' and stopped['step'] < tiny.STEPS
  assert f'{number.name}: stopping' in process.output
  assert f'saved at step {stopped["step"]} of 12; run the same command again to resume' in process.output
  assert (workdir / 'checkpoints' / str(stopped['step'])).exists()
  done = finish(data, workdir)
  assert f'resuming from step {stopped["step"]}' in done.stdout
  assert status(workdir)['restarts'] == 1 and status(workdir)['wall_seconds'] > stopped['wall_seconds']
  made = json.loads((workdir / 'config.json').read_text())['data']['augment_on']
  assert made == ('host' if augment_on == 'auto' else augment_on)
  assert_same_run(workdir, undisturbed)


@pytest.mark.slow
def test_a_truncated_checkpoint_is_reported_and_the_previous_one_is_used(data, undisturbed, again):
  (again / 'eval' / '.1-0123abcd.fcn_jax.tmp').write_text('{')  # of a start that was killed while it wrote
  files = [path for path in (again / 'checkpoints' / '12').rglob('d/*') if path.is_file()]
  for path in files:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  done = finish(data, again)
  assert 'the checkpoint of step 12 cannot be read' in done.stdout and 'resuming from step 9' in done.stdout
  assert_same_run(again, undisturbed)


# No `preexec_fn`, which would fork this process with its threads of jax.
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.slow
def test_if_the_disk_is_full_the_run_fails_and_loses_nothing(data, undisturbed, again):
  shutil.rmtree(again / 'checkpoints' / '12')
  rewrite_status(again, step=9)
  room = 300_000  # bytes: less than the checkpoint, more than any other file
  assert max(path.stat().st_size for path in again.rglob('*') if 'checkpoints' not in path.parts) < room
  full = tiny.run(
    [sys.executable, '-c', LIMITED, str(room), *tiny.command(data, again)],
    env={'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '9999'},  # else the cache of the tests would get half a file
  )
  assert full.returncode == 1
  assert 'Traceback' not in full.stderr and full.stderr.count('\n') == 1, full.stderr[:3000]
  assert full.stderr.startswith(f'error: cannot save a checkpoint in {again}/checkpoints')
  assert (
    'File too large' in full.stderr
    and 'The checkpoint of step 9 is intact' in full.stderr
    and 'Free some space' in full.stderr
  )
  assert status(again)['state'] == 'failed' and 'cannot save' in status(again)['error']
  done = finish(data, again)
  assert 'resuming from step 9' in done.stdout
  assert 'error' not in status(again)
  assert_same_run(again, undisturbed)
