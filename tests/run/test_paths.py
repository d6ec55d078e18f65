"""Every command works with a run directory of any name."""

import json
import signal

import pytest
import tiny
from test_checkpoint_places import SAFE, UNSAFE

pytestmark = pytest.mark.slow


def test_a_run_in_a_path_of_special_characters_is_stopped_resumed_scored_and_started_from(tmp_path):
  folder = tmp_path / '*'.join(name for name in UNSAFE if name.isprintable()) / SAFE
  workdir, data = folder / 'run[1] - "?"', tiny.prepare(tmp_path / SAFE)
  command = tiny.command(data, workdir)
  process = tiny.start(command)
  try:
    tiny.until(lambda: any(path.name.isdigit() for path in workdir.rglob('*')), process)
    process.send_signal(signal.SIGUSR1)
    output, errors = process.communicate(timeout=200)
  finally:
    process.kill()
  assert process.returncode == 75 and 'saved at step' in output, output + errors
  done = tiny.run(command)
  assert done.returncode == 0 and 'resuming from step' in done.stdout and not done.stderr, done.stderr

  module, out = [*command[:2]], folder / 'out[1]'
  scores = (workdir / 'eval' / 'validation.json').read_bytes()
  done = tiny.run([*module, 'fcn_jax.evaluate', f'--workdir={workdir}'])
  assert done.returncode == 0, done.stderr
  assert json.loads((workdir / 'eval' / 'validation.json').read_bytes()) == json.loads(scores)
  image = folder / 'image[1].png'
  image.write_bytes((workdir / 'eval' / 'examples.png').read_bytes())
  done = tiny.run([*module, 'fcn_jax.predict', f'--workdir={workdir}', f'--out={out}', str(image)])
  assert done.returncode == 0 and (out / 'image[1].png').exists(), done.stderr

  again = folder / 'again*'
  done = tiny.run(tiny.command(data, again, init__run=workdir, train__steps=1, optim__warmup=0))
  assert done.returncode == 0, done.stderr
  assert 'init/mean_iou' in (again / 'metrics.jsonl').read_text()
