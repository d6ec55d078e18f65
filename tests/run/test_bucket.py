"""Runs, sweeps and reports in gs://, with a local server that implements the API of Google Cloud Storage."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def bucket():
  """Environment variables with which the clients of both files and checkpoints use the local server."""
  port = tiny.free_port()
  command = [sys.executable, tiny.ROOT / 'tests' / 'bucket.py', str(port)]
  # It logs every request, and would block on a pipe that nobody reads.
  server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  address = f'http://localhost:{port}'
  try:
    _until_up(server, f'{address}/storage/v1/b/bucket')
    yield {
      'STORAGE_EMULATOR_HOST': address,
      'TENSORSTORE_GCS_HTTP_URL': address,
      'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
    } | tiny.QUICK
  finally:
    server.kill()
    server.wait()


def _until_up(server, url: str) -> None:
  while True:
    assert server.poll() is None
    try:
      urllib.request.urlopen(url, timeout=5).close()
      return
    except urllib.error.URLError:
      time.sleep(0.1)


def read(bucket, path: str) -> bytes:
  """The content of an object."""
  url = f'{bucket["STORAGE_EMULATOR_HOST"]}/storage/v1/b/bucket/o/{path.replace("/", "%2F")}?alt=media'
  with urllib.request.urlopen(url, timeout=10) as response:
    return response.read()


def names(bucket) -> list[str]:
  """The paths of all objects."""
  with urllib.request.urlopen(f'{bucket["STORAGE_EMULATOR_HOST"]}/storage/v1/b/bucket/o', timeout=10) as response:
    return [item['name'] for item in json.load(response).get('items', [])]


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tiny.prepare(tmp_path_factory.mktemp('bucket') / 'data')


def test_a_run_that_was_stopped_resumes_to_the_same_metrics_as_on_a_disk(bucket, data_dir, tmp_path):
  alone = tiny.run(tiny.command(data_dir, tmp_path / 'run'), env=tiny.QUICK)
  assert alone.returncode == 0, alone.stderr
  command = tiny.command(data_dir, 'gs://bucket/runs/one')
  process = tiny.start(command, env=bucket)
  try:
    tiny.until(lambda: any(name.startswith('runs/one/checkpoints/3/') for name in names(bucket)), process)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
  finally:
    process.kill()
  assert process.returncode == 75, output + errors
  assert json.loads(read(bucket, 'runs/one/status.json'))['state'] == 'preempted'
  done = tiny.run(command, env=bucket)
  assert done.returncode == 0 and 'resuming from step' in done.stdout, done.stdout + done.stderr
  assert read(bucket, 'runs/one/metrics.jsonl') == (tmp_path / 'run' / 'metrics.jsonl').read_bytes()
  assert not [name for name in names(bucket) if 'tmp' in name]
  scored = tiny.run(
    [sys.executable, '-m', 'fcn_jax.evaluate', '--workdir=gs://bucket/runs/one', '--split=train'], env=bucket
  )
  assert scored.returncode == 0, scored.stderr
  assert json.loads(read(bucket, 'runs/one/eval/train.json'))['images'] == 24


def test_a_sweep_and_its_report(bucket, data_dir):
  settings = [f'--config.{name}={value}' for name, value in tiny.SETTINGS.items()]
  sweep = [sys.executable, '-m', 'fcn_jax.sweep', f'--config={tiny.ROOT}/experiments/ablation.py', *settings]
  sweep += [f'--config.data.dir={data_dir}', '--workdir=gs://bucket/ablation']
  sweep += ['--only=stride=32,upsample=learned_random,seed=0']
  done = tiny.run(sweep, env=bucket)
  assert done.returncode == 0, done.stdout + done.stderr
  log = read(bucket, 'ablation/stride=32,upsample=learned_random,seed=0/log.txt').decode()
  assert 'step 12' in log and 'mean IoU' in log
  again = tiny.run([*sweep, '--list'], env=bucket)
  assert again.stdout.count('done') == 2, again.stdout + again.stderr  # the run and the title
  report = tiny.run([sys.executable, '-m', 'fcn_jax.report', 'gs://bucket/ablation'], env=bucket)
  assert report.returncode == 0, report.stderr
  table = read(bucket, 'ablation/report/table.md').decode()
  assert '1 of 27 runs are done (26 waiting).' in table and '2 waiting' in table and '3 waiting' in table
  assert read(bucket, 'ablation/report/index.html').startswith(b'<!doctype html>')
  missing = tiny.run([sys.executable, '-m', 'fcn_jax.report', 'gs://bucket/none'], env=bucket)
  assert (missing.returncode, missing.stderr) == (1, 'error: there is no folder gs://bucket/none\n')
